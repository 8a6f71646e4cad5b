"""`aurora-sync check` from the settings to the account, on the imitation of Snowflake."""

from __future__ import annotations

from pathlib import Path

import psycopg2
import pytest

from aurora_sync.cli.main import main
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake


@pytest.fixture
def stage(
    dsn: str,
    stage_url: str,
    store_environment: dict[str, str],
    fakesnow_server: FakeSnowflake,
    snowflake_database: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Set the environment of an account that is ready, and return the name of the stage."""
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE items (id bigint PRIMARY KEY)")
    connection.close()
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables:\n  - {table_name: items, watermark_type: xmin, target_schema: sales}\n")
    name = f"{snowflake_database}.landing.files"
    with SnowflakeWarehouse(fakesnow_server.settings(snowflake_database, name)).session() as session:
        session.query("CREATE SCHEMA LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = '{stage_url}/'")
        session.query("USE SCHEMA LANDING")
    environment = {
        "AURORA_DSN": dsn,
        "AURORA_SYNC_TABLES": str(tables),
        "AURORA_SYNC_WAREHOUSE": "snowflake",
        "SNOWFLAKE_ACCOUNT": "fakesnow",
        "SNOWFLAKE_TOKEN": "pat",
        "SNOWFLAKE_WAREHOUSE": "any",
        "SNOWFLAKE_DATABASE": snowflake_database,
        "SNOWFLAKE_STAGE": name,
        "SNOWFLAKE_HOST": fakesnow_server.host,
        "SNOWFLAKE_PORT": str(fakesnow_server.port),
        "SNOWFLAKE_PROTOCOL": "http",
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    return name


def test_an_account_that_is_ready_passes(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["check"])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    assert f"snowflake:fakesnow/{stage.partition('.')[0]}\n" in out


def test_another_stage_fails_with_the_statement_that_mends_it(
    stage: str, stage_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AURORA_SYNC_STAGE", f"{stage_url}/other")
    assert main(["check"]) == 1
    database = stage.partition(".")[0]
    assert capsys.readouterr().err == (
        f"the stage {stage} has the URL {stage_url}/, expected {stage_url}/other/ (AURORA_SYNC_STAGE); run:"
        f' ALTER STAGE "{database}"."LANDING"."FILES" SET URL = \'{stage_url}/other/\';\n'
    )
