"""From settings to the backend that they name."""

from __future__ import annotations

from aurora_sync.config.settings import DuckDBSettings, Settings
from aurora_sync.warehouse.base import Warehouse
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse


def warehouse_from(settings: Settings) -> Warehouse:
    """The warehouse of AURORA_SYNC_WAREHOUSE; connects to nothing."""
    chosen = settings.warehouse
    if isinstance(chosen, DuckDBSettings):
        return DuckDBWarehouse(chosen.path)
    login = {name: value for name, value in vars(chosen).items() if name not in ("kind", "private_key_path")}
    path = chosen.private_key_path
    prefix = settings.stage.removeprefix("s3://").partition("/")[2]
    return SnowflakeWarehouse(
        **login, private_key_path=str(path) if path else None, stage_prefix=f"{prefix}/" if prefix else ""
    )
