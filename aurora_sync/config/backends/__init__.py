"""The kinds of warehouses that AURORA_SYNC_WAREHOUSE can select."""

from __future__ import annotations

from aurora_sync.config.backend import Backend
from aurora_sync.config.backends.duckdb import DUCKDB
from aurora_sync.config.backends.snowflake import SNOWFLAKE

BACKENDS: tuple[Backend, ...] = (SNOWFLAKE, DUCKDB)
