"""One fixture for all backends, so that each of them runs the same suite: the contract of base.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.embedded.stack import Stack
from aurora_sync.warehouse.base import Session, Warehouse
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.warehouse.increments import Folder
from aurora_sync_tests.warehouse.postgres import PostgresWarehouse


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    (tmp_path / "bucket").mkdir()
    return Folder(tmp_path / "bucket")


@pytest.fixture
def duckdb_warehouse(tmp_path: Path) -> DuckDBWarehouse:
    return DuckDBWarehouse(tmp_path / "warehouse.duckdb")


@pytest.fixture
def snowflake_warehouse(fakesnow_server: FakeSnowflake, snowflake_database: str, folder: Folder) -> SnowflakeWarehouse:
    """The real connector on a fakesnow server; a local folder is the external stage."""
    settings = fakesnow_server.settings(snowflake_database, f"{snowflake_database}.landing.files")
    warehouse = SnowflakeWarehouse(settings, stage_prefix="stage/")
    with warehouse.session() as session:
        session.query("CREATE SCHEMA LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = 'file://{folder.path}/stage/'")
    return warehouse


@pytest.fixture
def postgres_warehouse(stack: Stack) -> Iterator[PostgresWarehouse]:
    with fresh_database(stack.superuser_dsn()) as dsn:
        yield PostgresWarehouse(dsn)


@pytest.fixture(params=["duckdb", "snowflake", "postgres"])
def warehouse(request: pytest.FixtureRequest) -> Warehouse:
    found = request.getfixturevalue(f"{request.param}_warehouse")
    assert isinstance(found, Warehouse)
    return found


@pytest.fixture
def session(warehouse: Warehouse) -> Iterator[Session]:
    with warehouse.session(query_tag=QueryTag("test")) as session:
        yield session


@pytest.fixture
def orders() -> TableConfig:
    return TableConfig(table_name="orders", watermark_type="xmin")


@pytest.fixture
def duckdb_session(duckdb_warehouse: DuckDBWarehouse) -> Iterator[Session]:
    with duckdb_warehouse.session() as session:
        yield session
