"""A verification by the command line finds the differences each time, with each strategy, and repairs nothing."""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from aurora_sync.cli.main import main
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync.source.logical.feed import TableFeed
from aurora_sync.warehouse.duckdb import DuckDBWarehouse

Configured = Callable[[str], str]
CREATE = (
    "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, at timestamptz NOT NULL DEFAULT now())",
    "INSERT INTO t (v, at) SELECT 'v' || g, now() - interval '1 day' FROM generate_series(1, 50) g",
)
UPDATE = "UPDATE t SET v = 'new', at = now() WHERE id = 1"
SET_UP = {
    "xmin": "",
    "timestamp": "watermark_col: at, watermark_set_by: database",
    "composite": "watermark_cols: [at, id], watermark_set_by: database",
    "integer": "watermark_col: id",
    "outbox": "",
    "full_snapshot": "",
    "logical": "slot: {slot}",
}


@pytest.fixture
def configured(
    dsn: str, store_environment: dict[str, str], warehouse_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Configured]:
    """Create, configure and sync the table by a strategy; return the name of its slot, if it has one."""
    name = f"verify_{uuid.uuid4().hex[:8]}"
    tables = tmp_path / "tables.yaml"
    monkeypatch.setenv("AURORA_DSN", dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))

    def configure(strategy: str) -> str:
        execute(dsn, *CREATE)
        more = SET_UP[strategy].format(slot=name)
        tables.write_text(
            f"tables:\n- {{table_name: t, watermark_type: {strategy}, show_values: true, {more}}}\n", encoding="utf-8"
        )
        if strategy == "outbox":
            assert main(["triggers", "apply", "t"]) == 0
        if strategy == "logical":
            assert main(["cdc", "setup", "--apply"]) == 0
        assert main(["sync"]) == 0
        return name

    yield configure
    with connect(dsn) as connection:
        if slot.look(connection, name):
            slot.drop(connection, name)


def execute(dsn: str, *statements: str) -> None:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def target(path: Path, *statements: str) -> dict[int, Any]:
    """Return the target by id, after these statements."""
    with DuckDBWarehouse(path).session() as session:
        for statement in statements:
            session.query(statement)
        return {int(id_): v for id_, v in session.query('SELECT "ID", "V" FROM "PUBLIC"."T"')}


def said(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments]) == status
    printed = capsys.readouterr()
    return printed.out + printed.err


def advice(printed: str) -> list[str]:
    """Return the arguments of the command that an error names."""
    return shlex.split(printed.partition("run `aurora-sync ")[2].partition("`")[0])


@pytest.mark.parametrize("strategy", SET_UP)
def test_rows_removed_changed_and_added_by_hand_are_found_each_time(
    configured: Configured, capsys: pytest.CaptureFixture[str], dsn: str, warehouse_path: Path, strategy: str
) -> None:
    configured(strategy)
    edited = target(
        warehouse_path,
        'DELETE FROM "PUBLIC"."T" WHERE "ID" = 2',
        'UPDATE "PUBLIC"."T" SET "V" = \'by hand\' WHERE "ID" = 3',
        'INSERT INTO "PUBLIC"."T" ("ID", "V", "_SRC_XMIN", "_RUN_SEQ") VALUES (900, \'x\', 3, 1), (901, \'y\', 3, 1)',
    )
    if strategy == "integer":  # its increment applies new rows
        execute(dsn, "INSERT INTO t (v) VALUES ('new')")
        edited |= {51: "new"}
    elif strategy == "full_snapshot":  # its increment would repair the target
        execute(dsn, "ANALYZE t")
    else:
        execute(dsn, UPDATE)
        edited |= {1: "new"}
    for _ in range(2):
        printed = said(capsys, 1, "verify", "t")
        assert "DIFFERENT: 1 rows missing in the target, 1 different, 2 that only the target has" in printed
        assert "source 'v3'   target 'by hand'" in printed
        assert "to repair: aurora-sync " in printed
        assert target(warehouse_path) == edited
    repaired = said(capsys, 0, "verify", "--repair", "t")
    assert repaired.index("DIFFERENT") < repaired.index("  equal: 5")
    assert said(capsys, 0, "verify", "t").count("  equal: ") == 1


@pytest.mark.parametrize("strategy", SET_UP)
def test_an_edit_that_was_verified_is_repaired_by_the_next_sync(
    configured: Configured, capsys: pytest.CaptureFixture[str], dsn: str, warehouse_path: Path, strategy: str
) -> None:
    configured(strategy)
    target(warehouse_path, 'DELETE FROM "PUBLIC"."T" WHERE "ID" BETWEEN 10 AND 12')
    execute(dsn, UPDATE.replace("id = 1", "id = 2"), "INSERT INTO t (v) VALUES ('more')")
    assert "rows missing in the target" in said(capsys, 1, "verify", "t")
    printed = said(capsys, 0, "sync", "t")
    if strategy != "full_snapshot":
        assert " rows, but had " in printed
    execute(dsn, "VACUUM t")
    if strategy == "integer":  # earlier updates are not claimed
        said(capsys, 0, "reconcile", "t")
    assert "  equal: 51 rows" in said(capsys, 0, "verify", "t")


def test_update_that_a_stream_lost_is_found_until_it_is_repaired(
    configured: Configured, capsys: pytest.CaptureFixture[str], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured("logical")
    execute(dsn, UPDATE, "DELETE FROM t WHERE id = 50")
    with monkeypatch.context() as faulty:
        faulty.setattr(TableFeed, "update", lambda *_: None)
        assert main(["sync", "t"]) == 0
    execute(dsn, "INSERT INTO t (v) VALUES ('new')")
    for _ in range(2):
        printed = said(capsys, 1, "verify", "t")
        assert "0 rows missing in the target, 1 different, 0 that only the target has" in printed
        assert "to repair: aurora-sync reconcile public.t, or aurora-sync verify --repair public.t" in printed
    said(capsys, 0, "reconcile", "t")
    assert "  equal: 50 rows" in said(capsys, 0, "verify", "t")


def test_stream_that_cannot_go_on_is_not_compared_and_the_target_stays(
    configured: Configured, capsys: pytest.CaptureFixture[str], dsn: str, warehouse_path: Path
) -> None:
    name = configured("logical")
    before = target(warehouse_path)
    execute(dsn, UPDATE, f"SELECT pg_replication_slot_advance('{name}', pg_current_wal_lsn())")
    printed = said(capsys, 1, "verify", "t")
    assert "public.t: cannot be compared: the slot, or the publication, has changed since the last run" in printed
    assert target(warehouse_path) == before
    assert "  equal: 50 rows" in said(capsys, 0, *advice(printed))


def test_what_one_snapshot_does_not_see_is_left_to_the_next_run(
    configured: Configured, capsys: pytest.CaptureFixture[str], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer commits after the snapshot and before the end of the stream."""
    configured("logical")
    execute(dsn, UPDATE)
    mark = slot.mark

    def late(connection: Any) -> Any:
        execute(dsn, "DELETE FROM t WHERE id = 5", "UPDATE t SET v = 'late' WHERE id = 6")
        return mark(connection)

    with monkeypatch.context() as patched:
        patched.setattr(slot, "mark", late)
        assert "  equal: 50 rows" in said(capsys, 0, "verify", "t")
    assert "+0 ~1 -1" in said(capsys, 0, "sync", "t")
    assert "  equal: 49 rows" in said(capsys, 0, "verify", "t")


@pytest.mark.parametrize(
    ("strategy", "change", "why"),
    [
        ("xmin", "CREATE TABLE n AS TABLE t; DROP TABLE t; ALTER TABLE n RENAME TO t", "the table was recreated"),
        ("xmin", "VACUUM FULL t", "the table's files were replaced"),
        ("timestamp", "TRUNCATE t", "the table's files were replaced"),
        ("outbox", "VACUUM FULL t", "scanned without the outbox: the table's files were replaced"),
        ("full_snapshot", "ALTER TABLE t ADD more int", "column more was added"),
    ],
)
def test_table_that_only_a_scan_or_a_full_read_brings_up_to_date_is_not_compared(
    configured: Configured,
    capsys: pytest.CaptureFixture[str],
    dsn: str,
    warehouse_path: Path,
    strategy: str,
    change: str,
    why: str,
) -> None:
    configured(strategy)
    before = target(warehouse_path)
    execute(dsn, *change.split(";"))
    if "DROP TABLE" in change:
        execute(dsn, "ALTER TABLE t ADD PRIMARY KEY (id)")
    printed = said(capsys, 1, "verify", "t")
    assert "public.t: cannot be compared: " in printed
    assert why in printed
    assert target(warehouse_path) == before
    allowed = ["--allow-deletes"] if "TRUNCATE" in change else []
    assert "  equal: " in said(capsys, 0, *advice(printed), *allowed)


def test_table_without_a_target_or_a_column_is_not_compared(
    configured: Configured, capsys: pytest.CaptureFixture[str], warehouse_path: Path
) -> None:
    configured("xmin")
    target(warehouse_path, 'ALTER TABLE "PUBLIC"."T" DROP COLUMN "AT"')
    assert "cannot be compared: column AT of the target is missing, but was " in said(capsys, 1, "verify", "t")
    assert "the target was modified outside of aurora_sync: " in said(capsys, 0, "sync", "t")
    assert "  equal: 50 rows" in said(capsys, 0, "verify", "t")


def test_scan_in_place_of_the_strategys_own_read_is_explained_in_one_line(
    configured: Configured, capsys: pytest.CaptureFixture[str], dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SET_UP, "timestamp", "watermark_col: at")
    configured("timestamp")
    execute(dsn, UPDATE)
    lines = said(capsys, 0, "sync", "t").splitlines()
    assert "1 read by horizon scan" in lines[0]
    assert lines[1].startswith("  scanning by the horizon: no BEFORE INSERT OR UPDATE row trigger ")
    execute(dsn, "VACUUM FULL t")
    assert sum("scanning by the horizon" in line for line in said(capsys, 0, "sync", "t").splitlines()) == 1
