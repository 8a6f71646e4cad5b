"""One table that cannot be synced does not stop the other tables, and its error names the remedy."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_sync.cli.main import main
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync_tests.cli.running import execute

SLOTS = [f"bad_{uuid.uuid4().hex[:8]}", f"good_{uuid.uuid4().hex[:8]}"]


@pytest.fixture
def tables(
    dsn: str, store_environment: dict[str, str], warehouse_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """Create a table t, and views of it, one never filled. Return the path of tables.yaml, which does not exist yet."""
    path = tmp_path / "tables.yaml"
    monkeypatch.setenv("AURORA_DSN", dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(path))
    execute(
        dsn,
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT generate_series(1, 3), 'v'",
        'CREATE MATERIALIZED VIEW "Totals" AS SELECT count(*) AS n FROM t WITH NO DATA',
        'CREATE VIEW above AS SELECT n + 1 AS n FROM "Totals"',
        "CREATE MATERIALIZED VIEW filled AS SELECT count(*) AS n FROM t",
        "CREATE TABLE keyless (v text)",
    )
    yield path
    with connect(dsn) as connection:
        for name in SLOTS:
            if slot.look(connection, name):
                slot.drop(connection, name)


REFRESH = 'run REFRESH MATERIALIZED VIEW public."Totals"'


def test_materialized_view_that_was_never_filled_is_found_before_a_sync(
    tables: Path, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["Totals", "above", "filled", "t"]
    entries = [{"table_name": name, "watermark_type": "xmin" if name == "t" else "full_snapshot"} for name in names]
    tables.write_text(json.dumps({"tables": entries}))
    itself = f"public.Totals: it was never filled (WITH NO DATA), and cannot be read; {REFRESH}"
    reader = (
        f'public.above: it reads public."Totals", which was never filled (WITH NO DATA), and cannot be read; {REFRESH}'
    )
    for command in ("check", "sync", "plan"):
        assert main([command]) == 1
        printed = capsys.readouterr()
        assert itself in printed.err
        assert reader in printed.err
        assert "public.filled" not in printed.err
        if command != "check":
            assert "public.t " in printed.out
            assert "public.filled " in printed.out
    assert main(["assess"]) == 0
    assert capsys.readouterr().out.count(REFRESH) >= 2
    execute(dsn, 'REFRESH MATERIALIZED VIEW "Totals"')
    for command in ("check", "sync", "plan"):
        assert main([command]) == 0


def test_plan_shows_the_tables_that_can_be_synced(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tables.write_text("tables: [{table_name: keyless, watermark_type: xmin}, {table_name: t, watermark_type: xmin}]")
    assert main(["plan"]) == 1
    printed = capsys.readouterr()
    assert "error: public.keyless: found no merge key" in printed.err
    assert printed.out.startswith("public.t -> ")
    assert main(["plan", "--json"]) == 1
    planned, failed = json.loads(capsys.readouterr().out)
    assert (planned["table"], failed["table"], failed["kind"]) == ("public.t", "public.keyless", "user")


def test_slot_that_cannot_be_made_keeps_no_other_from_being_made(
    tables: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = SLOTS
    tables.write_text(
        f"tables: [{{table_name: above, primary_key: n, watermark_type: logical, slot: {bad}}},"
        f" {{table_name: t, watermark_type: logical, slot: {good}}}]"
    )
    assert main(["cdc", "setup", "--apply", "--json"]) == 1
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found[bad]["error"] in printed.err
    assert (found[good]["applied"], "error" in found[good]) == (True, False)
    assert main(["cdc", "status", "--slot", good]) == 0


def test_table_that_cannot_be_proved_hides_no_other(tables: Path, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    tables.write_text("tables: [{table_name: t, watermark_type: xmin}]")
    fails = "timestamp GENERATED ALWAYS AS (timestamp '2026-01-01' + interval '1 day' * (1 / id)) VIRTUAL"
    for name, column in (("first", fails), ("second", "timestamp")):
        execute(dsn, f"CREATE TABLE {name} (id int PRIMARY KEY, updated_at {column})", f"INSERT INTO {name} VALUES (0)")
    assert main(["assess", "--prove", "first", "second"]) == 1
    printed = capsys.readouterr()
    assert "error: public.first: division by zero" in printed.err
    assert "public.second: updated_at: none of 1 rows was written later than it shows" in printed.out
