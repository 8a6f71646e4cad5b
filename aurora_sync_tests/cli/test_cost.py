"""`aurora-sync cost` reads the history of the account.

fakesnow has no ACCOUNT_USAGE: plain tables stand in for its views.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aurora_sync.cli.main import main
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake

QUERY_HISTORY = """CREATE OR REPLACE TABLE SNOWFLAKE.ACCOUNT_USAGE.QUERY_HISTORY (QUERY_ID VARCHAR, QUERY_TAG VARCHAR,
START_TIME TIMESTAMP_LTZ, EXECUTION_TIME NUMBER, BYTES_SCANNED NUMBER, BYTES_WRITTEN NUMBER, PARTITIONS_SCANNED NUMBER,
PARTITIONS_TOTAL NUMBER)"""
ATTRIBUTION = """CREATE OR REPLACE TABLE SNOWFLAKE.ACCOUNT_USAGE.QUERY_ATTRIBUTION_HISTORY (QUERY_ID VARCHAR,
START_TIME TIMESTAMP_LTZ, CREDITS_ATTRIBUTED_COMPUTE FLOAT, CREDITS_USED_QUERY_ACCELERATION FLOAT)"""


class History:
    """The history of an account."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.number = 0
        session.query("CREATE SCHEMA IF NOT EXISTS SNOWFLAKE.ACCOUNT_USAGE")
        session.query(QUERY_HISTORY)
        session.query(ATTRIBUTION)

    def add(
        self, tag: str, *sizes: int, credits: float | None = None, days_ago: float = 1, faster: str = "NULL"
    ) -> None:
        """Add a statement: milliseconds, bytes scanned and written, partitions scanned and in total."""
        self.number += 1
        at = f"{datetime.now(UTC) - timedelta(days=days_ago):%Y-%m-%d %H:%M:%S}"
        numbers = ", ".join(map(str, sizes or (0,) * 5))
        self.session.modify(
            f"INSERT INTO SNOWFLAKE.ACCOUNT_USAGE.QUERY_HISTORY VALUES ('{self.number}', ?, '{at}', {numbers})", (tag,)
        )
        if credits is not None:
            self.session.modify(
                "INSERT INTO SNOWFLAKE.ACCOUNT_USAGE.QUERY_ATTRIBUTION_HISTORY"
                f" VALUES ('{self.number}', '{at}', {credits}, {faster})"
            )


@pytest.fixture
def account(
    fakesnow_server: FakeSnowflake, snowflake_database: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    """Set the environment to an account whose role may not read the history. Yields a session on the history's
    database."""
    settings = {
        "ACCOUNT": "fakesnow",
        "USER": "tester",
        "PASSWORD": "secret",
        "DATABASE": snowflake_database,
        "WAREHOUSE": "WH",
        "STAGE": "landing.files",
        "HOST": fakesnow_server.host,
        "PORT": str(fakesnow_server.port),
        "PROTOCOL": "http",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"SNOWFLAKE_{name}", value)
    monkeypatch.setenv("AURORA_DSN", "host=127.0.0.1 port=1")  # nothing is asked
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", "snowflake")
    monkeypatch.setenv("AURORA_SYNC_STAGE", "s3://bucket/prefix")
    with SnowflakeWarehouse(fakesnow_server.settings("SNOWFLAKE", "files")).session() as session:
        session.query("DROP SCHEMA IF EXISTS SNOWFLAKE.ACCOUNT_USAGE")
        yield session


@pytest.fixture
def history(account: Session) -> History:
    return History(account)


def of(table: str, phase: str = "merge") -> str:
    return str(QueryTag(phase, table, table.upper(), "5f0c"))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["cost", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_cost_sums_the_statements_of_each_table(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.add(of("public.orders", "load"), 1500, 100, 10, 1, 4, credits=0.25)
    history.add(of("public.orders"), 500, 200, 20, 2, 40, credits=0.5, faster="0.125")
    history.add(of("public.orders"), 250, 0, 0, 0, 0)  # too short for the attribution
    history.add(of("public.orders"), 9000, 9, 9, 9, 9, credits=9, days_ago=8)
    history.add(of("sales.Invoices"), 100, 1, 2, 3, 4)
    history.add(str(QueryTag("gc")), 10, 5, 5, 1, 1, credits=0.0625)
    for other in ("", "aurora_sync public.orders 5f0c", '{"app": "dbt", "table": "public.orders"}', "{"):
        history.add(other, 7000, 7, 7, 7, 7, credits=7)
    orders = {
        "table": "public.orders",
        "statements": 3,
        "credits": 0.875,
        "seconds": 2.25,
        "bytes_scanned": 300,
        "bytes_written": 30,
        "partitions_scanned": 3,
        "partitions_total": 44,
    }
    found = run_json(capsys)
    assert found[0] == orders
    assert [(each["table"], each["credits"]) for each in found[1:]] == [("", 0.0625), ("sales.Invoices", None)]
    assert run_json(capsys, "orders") == [orders]
    assert [each["table"] for each in run_json(capsys, "sales.*")] == ["sales.Invoices"]
    assert run_json(capsys, "--days", "30", "public.orders")[0]["credits"] == 9.875


def test_cost_prints_a_line_for_each_table_and_a_total(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.add(of("public.orders"), 1500, 3_000_000, 1_000_000, 1, 4, credits=0.25)
    history.add(of("public.customers"), 500, 0, 0, 2, 40)
    assert main(["cost"]) == 0
    head, orders, customers, total, note = capsys.readouterr().out.splitlines()
    assert head.split()[:2] == ["table", "credits"]
    assert orders.split() == ["public.orders", "0.2500", "1.5", "3.0", "1.0", "1", "of", "4", "1"]
    assert customers.split()[:3] == ["public.customers", "-", "0.5"]
    assert total.split() == ["total", "0.2500", "2.0", "3.0", "1.0", "3", "of", "44", "2"]
    assert "up to 8 hours" in note


def test_history_without_a_statement_is_said(history: History, capsys: pytest.CaptureFixture[str]) -> None:
    history.add("", 1, 1, 1, 1, 1, credits=1)
    assert main(["cost", "--days", "3"]) == 0
    assert "the history of the last 3 days has no statement" in capsys.readouterr().out


def test_missing_privilege_names_the_grant(account: Session, capsys: pytest.CaptureFixture[str]) -> None:
    ((role,),) = account.query("SELECT CURRENT_ROLE()")
    assert main(["cost"]) == 1
    grant = f'GRANT DATABASE ROLE SNOWFLAKE.GOVERNANCE_VIEWER TO ROLE "{role}";'
    assert f"run as ACCOUNTADMIN: {grant}" in capsys.readouterr().err


def test_duckdb_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("AURORA_DSN", "host=127.0.0.1 port=1")  # nothing is asked
    monkeypatch.setenv("AURORA_SYNC_STAGE", "s3://bucket/prefix")
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{tmp_path}/none.duckdb")
    assert main(["cost"]) == 0
    assert "cost nothing" in capsys.readouterr().out
    assert run_json(capsys) == []


@pytest.mark.parametrize("days", ["0", "-1", "366", "a", "1.5"])
def test_impossible_number_of_days_is_refused(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["cost", f"--days={days}"])
    assert "expected a number of days from 1 to 365" in capsys.readouterr().err
