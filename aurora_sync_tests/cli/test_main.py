"""Output and exit status of the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from aurora_sync.cli.main import main
from aurora_sync.lambda_handler import handler

TABLES = Path(__file__).parents[2] / "tables.yaml"


@pytest.fixture
def settings(
    legacy_dsn: str, store_environment: dict[str, str], warehouse_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set the environment to the sample legacy database, and to a stage and a warehouse for this test."""
    monkeypatch.setenv("AURORA_DSN", legacy_dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(TABLES))


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("settings")
def test_tables_are_planned_synced_and_shown(capsys: pytest.CaptureFixture[str], legacy_dsn: str) -> None:
    (planned,) = run_json(capsys, "plan", "orders")
    assert (planned["method"], planned["rows_in_table"]) == ("whole table", 50_000)
    assert 'FROM "legacy"."orders"' in planned["statement"]
    assert run_json(capsys, "status", "orders")[0]["run_sequence"] == 0

    receipts = run_json(capsys, "sync", "legacy.orders", "countr*")["receipts"]
    assert [(r["table"], r["inserted"], r["source_rows"]) for r in receipts] == [
        ("legacy.orders", 50_000, 50_000),
        ("legacy.countries", 30, 30),
    ]

    connection = psycopg2.connect(legacy_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO legacy.orders (customer_id, channel, ordered_at, total) VALUES (1, 'web', now(), 5)"
        )
    connection.close()
    (planned,) = run_json(capsys, "plan", "orders")
    assert (planned["method"], planned["certificate"]["level"]) == ("lock fence", "bounded")
    assert planned["reconcile"] == {
        "in_this_run": False,
        "runs_before": 19,
        "schedule": None,
        "last_as_of": receipts[0]["certificate"]["reconciled"]["as_of"].replace("T", " "),
        "source_bytes": planned["size_bytes"],
        "target_rows": 50_000,
        "buckets": 98,
    }
    assert main(["plan", "orders"]) == 0
    printed = capsys.readouterr().out
    assert "  certificate  bounded: " in printed
    assert "  reconcile    in 19 runs (last as of 20" in printed
    assert main(["sync", "orders"]) == 0
    printed = capsys.readouterr().out
    assert "run 2" in printed
    assert "1 read by lock fence" in printed
    assert main(["sync", "orders"]) == 0
    assert "nothing new" in capsys.readouterr().out

    orders, countries = run_json(capsys, "status", "orders", "countries")
    assert (orders["run_sequence"], orders["target_rows"], countries["target_rows"]) == (2, 50_001, 30)
    assert orders["watermark"]["value"]["fence"] == 50_001
    assert main(["status"]) == 0
    assert "never synced" in capsys.readouterr().out


@pytest.mark.usefixtures("settings")
def test_check_finds_that_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check"]) == 1
    assert "replication slot aurora_sync: create publication aurora_sync" in capsys.readouterr().err
    assert main(["cdc", "setup", "--apply"]) == 0
    try:
        capsys.readouterr()
        assert run_json(capsys, "check") == {"ok": True, "problems": [], "notes": []}
    finally:
        assert main(["cdc", "teardown", "--apply"]) == 0


@pytest.mark.usefixtures("settings")
def test_check_reports_every_problem_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tables = tmp_path / "tables.yaml"
    tables.write_text(
        "defaults: {schema: legacy}\n"
        "tables:\n"
        "  - {table_name: customer, watermark_type: xmin}\n"
        "  - {table_name: countries, watermark_type: integer, watermark_col: code}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    monkeypatch.setenv("AURORA_SYNC_STAGE", "s3://no-such-bucket/prefix")
    assert main(["check"]) == 1
    problems = capsys.readouterr().err
    assert "did you mean legacy.customers?" in problems
    assert "watermark_type integer needs smallint, integer or bigint" in problems
    assert "no-such-bucket" in problems


@pytest.mark.usefixtures("settings")
def test_a_table_that_fails_does_not_stop_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tables = tmp_path / "tables.yaml"
    tables.write_text(
        "defaults: {schema: legacy}\n"
        "tables:\n"
        "  - {table_name: nothing, watermark_type: xmin}\n"
        "  - {table_name: countries, watermark_type: full_snapshot}\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    assert main(["sync", "--json"]) == 1
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert [receipt["table"] for receipt in result["receipts"]] == ["legacy.countries"]
    assert [failure["table"] for failure in result["failed"]] == ["legacy.nothing"]
    assert "Traceback" not in captured.err


@pytest.mark.usefixtures("settings")
def test_a_name_that_no_table_has_is_an_error_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync", "costumers"]) == 2
    assert "did you mean customers?" in capsys.readouterr().err


def test_missing_settings_are_all_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("AURORA_DSN", "AURORA_SYNC_STAGE", "AURORA_SYNC_WAREHOUSE"):
        monkeypatch.delenv(name, raising=False)
    assert main(["sync"]) == 2
    printed = capsys.readouterr().err
    assert all(f"{name} is not set" in printed for name in ("AURORA_DSN", "AURORA_SYNC_STAGE", "AURORA_SYNC_WAREHOUSE"))


def test_a_reader_that_ends_early_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "aurora_sync.cli.main", "schema"]
    try:
        done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_schema_prints_the_published_schema(capsys: pytest.CaptureFixture[str]) -> None:
    published = json.loads((TABLES.parent / "aurora_sync/config/tables.schema.json").read_text(encoding="utf-8"))
    assert run_json(capsys, "schema") == published


@pytest.mark.usefixtures("settings")
def test_the_lambda_function_syncs_the_tables_of_its_event() -> None:
    (receipt,) = handler({"tables": ["countries"]})["receipts"]
    assert (receipt["table"], receipt["target_rows"]) == ("legacy.countries", 30)
    json.dumps(receipt)  # Lambda returns it as JSON


@pytest.mark.closes_warehouse
@pytest.mark.usefixtures("settings")
def test_a_sync_loads_neither_dagster_nor_the_client_of_another_warehouse() -> None:
    program = (
        "import sys, aurora_sync.lambda_handler; from aurora_sync.cli.main import main; main(['sync', 'countries']);"
        "print([m for m in ('dagster', 'snowflake.connector', 'pandas', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    synced, loaded = done.stdout.splitlines()
    assert synced.startswith("legacy.countries ")
    assert loaded == "[]"


@pytest.mark.usefixtures("settings")
def test_deleted_row_is_shown_by_verify_and_removed_by_reconcile(
    capsys: pytest.CaptureFixture[str], legacy_dsn: str
) -> None:
    assert main(["sync", "customers", "orders"]) == 0
    connection = psycopg2.connect(legacy_dsn)
    with connection, connection.cursor() as cursor:
        cursor.execute("DELETE FROM legacy.customers WHERE customer_id = 7")
    connection.close()
    capsys.readouterr()
    assert main(["verify", "customers"]) == 1
    printed = capsys.readouterr().out
    assert "DIFFERENT: 0 rows missing in the target, 0 different, 1 that only the target has" in printed
    assert '  a row: SELECT * FROM "LEGACY"."CUSTOMERS" WHERE "_SRC_XMIN" = ' in printed
    assert "    only in the target, with the columns: CUSTOMER_ID, " in printed

    (receipt,) = run_json(capsys, "reconcile", "customers")["receipts"]
    assert (receipt["deleted"], receipt["repair"]["ghosts"]) == (1, 1)
    assert main(["reconcile", "customers"]) == 0
    assert "0 differed; 0 lost rows, 0 stale, 0 ghosts; 0 rows moved" in capsys.readouterr().out
    assert main(["verify", "customers", "orders"]) == 0
    assert capsys.readouterr().out.count("  equal: ") == 2
