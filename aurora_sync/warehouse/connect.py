"""Create the backend that the settings name. A backend is imported only when it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aurora_sync.config.backend import WarehouseSettings
from aurora_sync.config.backends.duckdb import DuckDBSettings
from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.config.extras import extra
from aurora_sync.config.settings import Settings
from aurora_sync.warehouse.base import Warehouse


def warehouse_from(settings: Settings) -> Warehouse:
    """Return the warehouse of AURORA_SYNC_WAREHOUSE. Connects to nothing."""
    return _KINDS[type(settings.warehouse)](settings.warehouse, settings.stage)


def _duckdb(chosen: DuckDBSettings, stage: str) -> Warehouse:
    with extra("embedded"):
        from aurora_sync.warehouse.duckdb import DuckDBWarehouse
    return DuckDBWarehouse(chosen.path, memory_limit=chosen.memory_limit)


def _snowflake(chosen: SnowflakeSettings, stage: str) -> Warehouse:
    from aurora_sync.warehouse.snowflake import SnowflakeWarehouse

    prefix = stage.removeprefix("s3://").partition("/")[2]
    return SnowflakeWarehouse(chosen, stage_prefix=f"{prefix}/" if prefix else "")


_KINDS: dict[type[WarehouseSettings], Callable[[Any, str], Warehouse]] = {
    DuckDBSettings: _duckdb,
    SnowflakeSettings: _snowflake,
}
