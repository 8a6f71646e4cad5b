"""The round trip on the local stack, and, marked ``live``, on Aurora, S3 and Snowflake themselves."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import check
from aurora_sync.engine.places import Places
from aurora_sync.source.connection import connect
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.aurora_functions import AuroraFunctions
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake
from aurora_sync_tests.live.fakes import InASchema
from aurora_sync_tests.live.roundtrip import STRATEGIES, roundtrip
from aurora_sync_tests.live.streams import dms_files, slot_stream
from aurora_sync_tests.live.type_matrix import type_matrix
from aurora_sync_tests.scenarios.type_matrix.cases import XML

# A composite watermark is made of those of by_id and by_time, and all three send the same statements to the warehouse.
REPEATED = ("by_id", "by_time")
# The server writes the same files for all strategies that read changes.
OF_ALL_KINDS = tuple(name for name in STRATEGIES if name not in ("by_xmin", "whole"))


def test_every_strategy_brings_every_row_to_duckdb(
    dsn: str, store_environment: dict[str, str], warehouse_path: Path
) -> None:
    environment = {**store_environment, "AURORA_DSN": dsn, "AURORA_SYNC_WAREHOUSE": f"duckdb:{warehouse_path}"}
    roundtrip(Places.from_settings(Settings.from_environment(environment)))


@pytest.mark.parametrize(
    "without", [OF_ALL_KINDS, pytest.param(REPEATED, marks=pytest.mark.long)], ids=["changes and whole", "all"]
)
def test_files_that_the_server_wrote_arrive_in_duckdb(
    dsn: str,
    store_environment: dict[str, str],
    warehouse_path: Path,
    aurora_functions: AuroraFunctions,
    without: tuple[str, ...],
) -> None:
    environment = {**store_environment, "AURORA_DSN": dsn, "AURORA_SYNC_WAREHOUSE": f"duckdb:{warehouse_path}"}
    roundtrip(Places.from_settings(Settings.from_environment(environment)), without=without, export="aurora")


def test_streams_and_files_arrive_in_duckdb(dsn: str, store_environment: dict[str, str], warehouse_path: Path) -> None:
    environment = {**store_environment, "AURORA_DSN": dsn, "AURORA_SYNC_WAREHOUSE": f"duckdb:{warehouse_path}"}
    places = Places.from_settings(Settings.from_environment(environment))
    slot_stream(places)
    dms_files(places)


@pytest.fixture
def connector(
    dsn: str,
    stage_url: str,
    store_environment: dict[str, str],
    fakesnow_server: FakeSnowflake,
    snowflake_database: str,
) -> Places:
    """The real connector before fakesnow."""
    environment = {
        **store_environment,
        "AURORA_DSN": dsn,
        "AURORA_SYNC_WAREHOUSE": "snowflake",
        "SNOWFLAKE_ACCOUNT": "fakesnow",
        "SNOWFLAKE_USER": "tester",
        "SNOWFLAKE_PASSWORD": "secret",
        "SNOWFLAKE_WAREHOUSE": "any",
        "SNOWFLAKE_DATABASE": snowflake_database,
        "SNOWFLAKE_STAGE": f"{snowflake_database}.landing.files",
        "SNOWFLAKE_HOST": fakesnow_server.host,
        "SNOWFLAKE_PORT": str(fakesnow_server.port),
        "SNOWFLAKE_PROTOCOL": "http",
    }
    places = Places.from_settings(Settings.from_environment(environment))
    assert isinstance(places.warehouse, SnowflakeWarehouse)
    with places.warehouse.session() as session:
        session.query("CREATE SCHEMA LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = '{stage_url}/'")
    # An internal error of fakesnow is a 500, which the connector would repeat for ever.
    settings = replace(places.warehouse.settings, network_timeout=1)
    return replace(places, warehouse=InASchema(settings, places.warehouse.stage_prefix))


@pytest.mark.parametrize("without", [REPEATED, pytest.param((), marks=pytest.mark.long)], ids=["each statement", "all"])
def test_every_strategy_brings_every_row_through_the_snowflake_connector(
    connector: Places, without: tuple[str, ...]
) -> None:
    roundtrip(connector, without=without)


def test_every_value_arrives_through_the_snowflake_connector(connector: Places) -> None:
    type_matrix(connector, without=("numeric(38,0)",))  # fakesnow makes it an INT64


@pytest.mark.live
def test_every_strategy_brings_every_row_to_the_warehouse_of_the_environment() -> None:
    """Without the settings this fails and names them: a live run that tests nothing is no success."""
    roundtrip(Places.from_settings(Settings.from_environment(os.environ)))


def test_a_stream_arrives_through_the_snowflake_connector(connector: Places) -> None:
    """Files of others do not: fakesnow knows no MATCH_BY_COLUMN_NAME."""
    slot_stream(connector)


def test_files_that_the_server_wrote_arrive_through_the_snowflake_connector(
    connector: Places, aurora_functions: AuroraFunctions
) -> None:
    roundtrip(connector, without=OF_ALL_KINDS, export="aurora")


@pytest.mark.live
def test_files_that_aurora_wrote_arrive_in_the_warehouse_of_the_environment() -> None:
    """Needs a cluster that `aurora-sync check` accepts for export: aurora."""
    places = Places.from_settings(Settings.from_environment(os.environ))
    with connect(places.source.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_extension WHERE extname = 'aws_s3'")
        if not cursor.fetchall():
            pytest.skip("the database of AURORA_DSN lacks the extension aws_s3; see aurora-sync setup aurora")
    table = TableConfig.model_validate({"table_name": "t", "watermark_type": "xmin", "export": "aurora"})
    assert [each for each in check.problems(lambda: [table], places) if "aws_s3" in each] == []
    roundtrip(places, export="aurora")
    type_matrix(places, more=(XML,), export="aurora")


@pytest.mark.live
def test_streams_and_files_arrive_in_the_warehouse_of_the_environment() -> None:
    """Needs logical replication at the source."""
    stage = {"SNOWFLAKE_DMS_STAGE": os.environ.get("SNOWFLAKE_STAGE", "")}
    places = Places.from_settings(Settings.from_environment({**os.environ, **stage}))
    slot_stream(places)
    dms_files(places)


@pytest.mark.live
def test_every_value_arrives_in_the_warehouse_of_the_environment() -> None:
    type_matrix(Places.from_settings(Settings.from_environment(os.environ)), more=(XML,))
