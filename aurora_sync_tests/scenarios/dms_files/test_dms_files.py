"""A table follows the files of its DMS task; each file is taken once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import timedelta
from itertools import cycle
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.preview import preview
from aurora_sync.engine.runners import runner_of
from aurora_sync.errors import AuroraSyncError, ConfigError, Kind, SourceError, StageError
from aurora_sync.model.certificate import Level
from aurora_sync.model.dms_columns import SEQUENCE, TIMESTAMP
from aurora_sync.source.dms import files as dms_files
from aurora_sync.strategies.dms import FilesPosition
from aurora_sync_tests.scenarios.dms_files.conftest import run, table_of
from aurora_sync_tests.scenarios.dms_files.task import Task
from aurora_sync_tests.scenarios.world import World, config, opened

MakeTask = Callable[..., Task]
MORE = ["dms_before_id", TIMESTAMP, SEQUENCE]  # columns that the task adds
CREATE = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, doc text)",
    "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
    "INSERT INTO t SELECT g, 'v' || g, repeat('x', 3000) || g FROM generate_series(1, 30) g",
)


@pytest.mark.parametrize("form", ["csv", "csv.gz", "parquet"])
def test_the_full_load_comes_first_and_then_the_changes(world: World, task_of: MakeTask, form: str) -> None:
    world.execute(*CREATE)
    task = task_of(form=form)
    table = table_of(task)
    world.execute("UPDATE t SET v = 'before the load' WHERE id = 1", "DELETE FROM t WHERE id = 30")
    task.load(rows_a_file=10)
    world.execute("INSERT INTO t VALUES (31, NULL, ''), (32, 'a,\"b\nc', 'NULL')", "DELETE FROM t WHERE id = 2")
    task.write()
    first = run(table, world)
    assert first.method == f"files of {task.folder}"
    assert first.certificate.level.value == "bounded"
    assert first.consumed
    assert (first.consumed.messages, first.consumed.behind) == (4, 0)
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'x' || v, doc = 'short' WHERE id < 10", "INSERT INTO t VALUES (2, 'again', NULL)")
    task.write()
    receipt = run(table, world)
    assert (receipt.inserted, receipt.updated, receipt.deleted) == (1, 8, 0)
    assert receipt.waited_seconds is not None
    world.assert_equal(table)
    world.warehouse.sessions = 0
    assert not run(table, world).changed
    assert world.warehouse.sessions == 0


def test_values_that_the_log_does_not_repeat_stay_as_the_target_has_them(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of(cuts=2)
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute(
        "UPDATE t SET v = 'kept' WHERE id = 1",
        "UPDATE t SET id = 100 WHERE id = 2",
        "UPDATE t SET v = 'after' WHERE id = 100",
        "UPDATE t SET id = 101, v = 'twice' WHERE id = 100",
        "UPDATE t SET doc = 'new' WHERE id = 3",
        "UPDATE t SET id = 102 WHERE id = 3",
        "UPDATE t SET v = NULL WHERE id = 4",
        "DELETE FROM t WHERE id = 5",
        "UPDATE t SET id = 5 WHERE id = 6",
        "DELETE FROM t WHERE id = 7",
        "INSERT INTO t VALUES (7, 'new', NULL)",
        "UPDATE t SET v = 'newer' WHERE id = 7",
    )
    task.write()
    assert run(table, world).method.startswith("files")
    world.assert_equal(table)


def test_a_table_that_is_loaded_again_is_compared_with_its_source(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    world.execute("UPDATE t SET v = 'first' WHERE id = 1")
    task.write()
    run(table, world)
    world.execute("UPDATE t SET v = 'stale' WHERE id = 2")
    task.write()  # not read before the load is repeated
    time.sleep(1.1)  # the times of S3 have no fractions of a second
    task.world.execute("DELETE FROM t WHERE id = 3", "UPDATE t SET v = 'missed' WHERE id IN (2, 4)")
    skipped = len(task.changes)
    task.load()
    receipt = run(table, world)
    assert len(task.changes) == skipped
    assert receipt.warnings[-1].startswith("the next run scans the table: the task has loaded the table again")
    scan = run(table, world)
    assert scan.warnings[0].startswith("scanned, not streamed: the task has loaded the table again")
    assert scan.deleted == 1
    world.assert_equal(table)
    world.execute("INSERT INTO t VALUES (33, 'on', 'on')")
    task.write()
    assert run(table, world).method.startswith("files")
    world.assert_equal(table)
    world.assert_verified(table)


def test_a_truncate_takes_the_files_away_and_leads_to_a_scan(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute("TRUNCATE t", "INSERT INTO t VALUES (1, 'after', 'after')")
    task.store.delete(task.store.list(task.store.prefix))
    task.write()
    receipt = run(table, world)
    assert (receipt.method, receipt.deleted) == ("horizon scan", 29)
    world.assert_equal(table)
    assert (run(table, world).inserted, run(table, world).changed) == (0, False)
    world.assert_equal(table)


def test_a_plan_says_what_the_run_will_do_and_the_certificate_what_was_taken(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task, reconcile={"every": 4})
    with pytest.raises(ConfigError, match="no file LOAD00000001"):
        preview(table, world.places)
    task.load()
    methods, levels = [], []
    for _ in range(4):
        planned = preview(table, world.places)
        receipt = run(table, world)
        methods.append((planned.method, receipt.method))
        levels.append((planned.certificate.level, receipt.certificate.level))
        if planned.method.startswith("files"):
            assert planned.rows_estimate is None
            assert planned.statement == f"files of {task.folder} that the ledger does not have"
        else:
            assert planned.warnings[0] == receipt.warnings[0] == "scanned, not streamed: a reconcile is due"
        world.execute("UPDATE t SET v = v || 'x' WHERE id = 1")
        task.write()
    files, scan = f"files of {task.folder}", "horizon scan"
    assert methods == [(files, files)] * 3 + [(scan, scan)]
    assert levels == [(Level.BOUNDED, Level.BOUNDED)] * 3 + [(Level.CERTIFIED, Level.CERTIFIED)]
    taken = run(table, world).certificate.rests_on["files"]
    assert taken == f"folder {task.folder}, every file in the ledger, changes up to sequence {task.changes[-1][-1]}"


def test_a_certificate_of_the_full_load_alone_says_so(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of()
    task.load()
    found = run(table_of(task), world).certificate.rests_on["files"]
    assert found == f"folder {task.folder}, every file in the ledger"


def test_files_that_a_lifecycle_rule_removes_are_not_missed(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    world.execute("UPDATE t SET v = 'a' WHERE id = 1")
    task.write()
    run(table, world)
    task.store.delete([key for key in task.store.list(task.store.prefix) if "LOAD" not in key])
    world.execute("UPDATE t SET v = 'b' WHERE id = 1")
    task.write()
    receipt = run(table, world)
    assert (receipt.updated, receipt.warnings) == (1, ())
    world.assert_equal(table)


def test_a_target_that_was_dropped_is_scanned_and_goes_on(
    world: World, task_of: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan works even when the full load has expired: files older than the scan contain nothing new."""
    monkeypatch.setattr(dms_files, "CLOCKS", timedelta(0))
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    run(table, world)
    world.query("DROP TABLE PUBLIC.T")
    world.execute("INSERT INTO t VALUES (40, 'x', 'x')")
    task.write()
    task.store.delete([key for key in task.store.list(task.store.prefix) if "LOAD" in key])
    time.sleep(1.1)  # the times of S3 have no fractions of a second
    assert run(table, world).method == "whole table"
    time.sleep(1.1)
    world.execute("UPDATE t SET v = 'later' WHERE id = 40")
    task.write()
    receipt = run(table, world)
    assert receipt.method.startswith("files")
    assert (receipt.rows_exported, receipt.updated) == (1, 1)
    world.assert_equal(table)


def test_a_table_comes_from_xmin_and_goes_back(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    before = config("t", "xmin")
    world.sync(before)
    task = task_of()
    table = table_of(task)
    task.load()
    world.execute("UPDATE t SET v = 'a' WHERE id = 2")
    scan = run(table, world)
    assert (scan.warnings[0], scan.rows_exported) == ("scanned, not streamed: no files were applied yet", 1)
    world.execute("UPDATE t SET v = 'b' WHERE id = 2", "DELETE FROM t WHERE id = 3")
    task.write()
    assert run(table, world).method.startswith("files")
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'c' WHERE id = 4")
    back = world.sync(before)
    assert back.method == "horizon scan"
    assert back.repair  # the task may lag behind the snapshot
    world.assert_equal(table)


def test_more_files_than_one_increment_takes_are_left_to_the_next(
    world: World, task_of: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora_sync.engine.runners.files.MOST_FILES", 2)
    world.execute(*CREATE)
    task = task_of(cuts=1)
    table = table_of(task)
    task.load(rows_a_file=10)
    world.execute("UPDATE t SET v = 'a' WHERE id < 3")
    task.write()
    behind = []
    while True:
        receipt = run(table, world)
        if not receipt.consumed:
            break
        behind.append(receipt.consumed.behind)
    assert behind[-1] == 0
    assert len(behind) == 3
    world.assert_equal(table)


@pytest.mark.parametrize("cdc_path", [None, "cdc"])
def test_a_file_that_comes_late_sets_no_row_back(world: World, task_of: MakeTask, cdc_path: str | None) -> None:
    """The file's changes are older than those that were taken, so the table is scanned, once."""
    world.execute(*CREATE)
    task = task_of(cdc_path=cdc_path)
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute("UPDATE t SET v = 'old' WHERE id = 1", "DELETE FROM t WHERE id = 2", "DELETE FROM t WHERE id = 3")
    task.write()
    (late,) = [key for key in task.store.list(task.store.prefix) if "LOAD" not in key]
    body = task.store.get(late)
    assert body is not None
    task.store.delete([late])
    world.execute("UPDATE t SET v = 'new' WHERE id = 1", "INSERT INTO t VALUES (2, 'again', 'd')")
    task.write()
    run(table, world)
    if cdc_path:
        run(table, world)  # a load within ten minutes of a scan leads to another scan
    task.store.put_new(late, body)
    world.execute("INSERT INTO t VALUES (31, 'timely', 'd')")
    task.write()
    receipt = run(table, world)
    assert "arrived late" in receipt.warnings[-1]
    assert receipt.certificate.level is Level.UNCERTIFIED
    found = dict(world.query("SELECT ID, V FROM PUBLIC.T"))
    assert (found[1], found[2], found[31]) == ("new", "again", "timely")
    scan = run(table, world)
    assert "arrived late" in scan.warnings[0]
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'on' WHERE id = 1")
    task.write()
    assert run(table, world).method.startswith("files")
    world.assert_equal(table)
    assert not run(table, world).changed


def test_a_file_that_comes_late_behind_a_scan_sets_no_row_back(world: World, task_of: MakeTask) -> None:
    """The scan has covered younger files, whose sequences are not known."""
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute("UPDATE t SET v = 'old' WHERE id = 1")
    task.write()
    (late,) = [key for key in task.store.list(task.store.prefix) if "LOAD" not in key]
    body = task.store.get(late)
    assert body is not None
    task.store.delete([late])
    world.execute("UPDATE t SET v = 'new' WHERE id = 1")
    task.write()
    assert run(table_of(task, reconcile={"every": 1}), world).method == "horizon scan"
    task.store.put_new(late, body)
    assert "arrived late" in run(table, world).warnings[-1]
    world.assert_equal(table)
    run(table, world)
    assert not run(table, world).changed


@pytest.mark.parametrize("move", ["ALTER TABLE t ALTER v TYPE text USING upper(v)", "TRUNCATE t", "ANALYZE t"])
def test_changes_from_before_an_alter_that_come_after_its_scan_lead_to_another(
    world: World, task_of: MakeTask, move: str
) -> None:
    """The task lags, so its later files have the values from before the ALTER, and no change corrects them."""
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    run(table, world)
    altered = move != "ANALYZE t"
    world.execute("UPDATE t SET v = 'late', doc = '' WHERE id = 1", "INSERT INTO t VALUES (40, 'late', NULL)", move)
    world.execute("INSERT INTO t VALUES (41, 'late', NULL)")
    if altered:
        assert run(table, world).method == "horizon scan"
        world.assert_equal(table)
    task.write()
    late = run(table, world)
    assert late.certificate.level is (Level.UNCERTIFIED if altered else Level.BOUNDED)
    assert (world.source_rows(table) != world.target_rows(table)) is (altered and "RENAME" not in move)
    if altered:
        again = run(table, world)
        assert "committed before" in again.warnings[0]
        assert again.certificate.level is Level.CERTIFIED
        world.assert_equal(table)
    world.execute("INSERT INTO t VALUES (50, 'after', NULL)")
    task.write()
    assert run(table, world).certificate.level is Level.BOUNDED
    assert not run(table, world).changed
    world.assert_equal(table)


@pytest.mark.parametrize("opened", [True, False], ids=["open at the scan", "ended before it"])
def test_a_transaction_that_was_open_when_a_type_was_altered_leads_to_another_scan(
    world: World, task_of: MakeTask, opened: bool
) -> None:
    world.execute("CREATE TYPE mood AS ENUM ('sad')", "CREATE TABLE t (id int PRIMARY KEY, v mood)")
    task = task_of(columns="id v")
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    with world.open_transaction("INSERT INTO t VALUES (1, 'blue')") as writer:
        if not opened:
            writer.commit()
        world.execute("ALTER TYPE mood RENAME VALUE 'blue' TO 'sad'")
        assert run(table, world).method == "horizon scan"
        writer.commit()
    task.write()
    assert run(table, world).certificate.level is Level.UNCERTIFIED
    assert run(table, world).method == "horizon scan"
    found = world.source_rows(table)
    assert found == world.target_rows(table) == {(1, "sad"): 1}


@pytest.mark.parametrize("strategy", ["xmin", "dms"])
@pytest.mark.parametrize("lag", ["before an ALTER", "behind the watermark"])
@pytest.mark.parametrize("column", ["float8", "text"])
def test_what_a_task_lags_behind_with_is_found_by_the_next_scan(
    world: World, task_of: MakeTask, strategy: str, lag: str, column: str
) -> None:
    """The snapshot of such a watermark saw more than the target has, and sums do not compare all columns."""
    world.execute(
        f"CREATE TABLE t (id int PRIMARY KEY, n int, v {column})",
        "INSERT INTO t SELECT g, 0, '0' FROM generate_series(1, 9) g",
    )
    task = task_of(columns="id n v")
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute("UPDATE t SET v = '1' WHERE id = 1")
    if lag == "before an ALTER":
        world.execute(f"ALTER TABLE t ALTER v TYPE {column} USING '2'")
        run(table, world)
        task.write()
    else:
        world.execute("UPDATE t SET n = 1 WHERE id = 2")
        task.put("20300101-0000000001", [["U", "2", "1", "0", "2", "2030-01-01 00:00:00", "9" * 35]])
    assert run(table, world).method.startswith("files")
    assert world.source_rows(table) != world.target_rows(table)
    world.execute("ALTER TABLE t ADD x int")
    after = config("t", "xmin")
    receipt = world.sync(after) if strategy == "xmin" else run(table, world)
    assert receipt.certificate.level is Level.CERTIFIED
    assert receipt.method == ("horizon scan" if strategy == "xmin" or column == "text" else "whole table")
    assert world.source_rows(table) == world.target_rows(table)


def test_a_position_of_an_earlier_release_is_read() -> None:
    old: dict[str, Any] = {"folder": "f", "since": 3, "digest": "d", "loads": 1, "rescan": "", "fields": ""}
    assert FilesPosition(**old).sequence == ""


CUT = [("csv", 0), ("csv.gz", 0), ("csv.gz", 7), ("csv.gz", 30), ("csv.gz", -4), ("csv.gz", -300)]


@pytest.mark.parametrize(
    ("form", "cut", "cdc_path"),
    [
        *((form, cut, cdc_path) for (form, cut), cdc_path in zip(CUT, cycle([None, "cdc"]), strict=False)),
        *(
            pytest.param(form, cut, cdc_path, marks=pytest.mark.long)
            for (form, cut), cdc_path in zip(CUT, cycle(["cdc", None]), strict=False)
        ),
        *(("parquet", cut, None) for cut in (0, -9)),
    ],
)
def test_a_file_that_is_not_whole_is_named_and_taken_once_it_is(
    world: World, task_of: MakeTask, form: str, cut: int, cdc_path: str | None
) -> None:
    world.execute(*CREATE)
    task = task_of(form=form, cdc_path=cdc_path)
    table = table_of(task)
    task.load()
    run(table, world)
    before = world.query("SELECT * FROM PUBLIC.T ORDER BY ID")
    world.execute(
        "UPDATE t SET v = 'whole' WHERE id = 1",
        "INSERT INTO t SELECT g, md5(g::text), md5(g::text) FROM generate_series(100, 4000) g",
    )
    task.write()
    keys = [key for key in task.store.list(task.store.prefix) if "LOAD" not in key]
    for key in keys:
        body = task.store.get(key)
        assert body is not None
        task.store.delete([key])
        task.store.put_new(key, body[:cut])
        with pytest.raises(AuroraSyncError, match=f"{re.escape(key)}.*incomplete.*run again") as raised:
            run(table, world)
        assert raised.value.kind is Kind.REFUSED
        assert world.query("SELECT * FROM PUBLIC.T ORDER BY ID") == before
        task.store.delete([key])
        task.store.put_new(key, body)
        break
    run(table, world)
    if cdc_path:
        run(table, world)
    world.assert_equal(table)


def test_a_table_whose_load_has_not_come_is_a_clear_error(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of()
    with pytest.raises(ConfigError, match=r"no file LOAD00000001.*full-load-and-cdc"):
        run(table_of(task), world)


@pytest.mark.parametrize("null", ["NULL", "", "\\N"])
@pytest.mark.parametrize("cdc_path", [None, "cdc"])
def test_a_task_that_writes_null_as_a_text_is_refused(
    world: World, task_of: MakeTask, null: str, cdc_path: str | None
) -> None:
    """CsvNullValue is recognized where a value must be NULL: an INSERT has no old key."""
    world.execute("CREATE TABLE t (a int, b text, v text, n numeric(9,2), PRIMARY KEY (a, b))")
    task = task_of(columns="a b v n", key="a b", null=null, cdc_path=cdc_path)
    table = table_of(task)
    world.execute("INSERT INTO t VALUES (1, 'x', NULL, NULL)")
    task.load()
    if cdc_path:
        run(table, world)  # a scan: the full load is not copied
        world.execute("INSERT INTO t VALUES (2, 'y', NULL, NULL)")
        task.write()
    with pytest.raises(ConfigError, match=r"for NULL.*CsvNullValue of the endpoint") as raised:
        run(table, world)
    assert raised.value.values == repr(null)
    if cdc_path:
        assert world.query("SELECT COUNT(*) FROM PUBLIC.T") == [(1,)]


def test_a_null_is_seen_in_a_full_load_without_old_keys(world: World, task_of: MakeTask) -> None:
    """The change sequence of a full load must be NULL, so a text in its place is the text for NULL."""
    world.execute(*CREATE)
    task = task_of(null="NULL")
    rows = [["I", "1", None, "d", "2026-01-01 00:00:00", None]]
    body = task._csv([[name for name in task.header if not name.startswith("dms_before_")], *rows])
    task.store.put_new(f"{task.store.prefix}public/t/LOAD00000001.csv", body)
    with pytest.raises(ConfigError, match=r"for NULL.*CsvNullValue"):
        run(table_of(task), world)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"header": ["99", "x", "v", "doc"]}, "AddColumnName is not true"),
        ({"header": ["Op|id|v|doc"]}, "CsvDelimiter is not ','"),
        ({"header": ["id", *MORE]}, "IncludeOpForFullLoad is not true"),
        ({"header": ["Op", "id", *MORE[:2]]}, f"no rule add-column for {MORE[2]}"),
        ({"header": ["Op", "id", *MORE[:1], *MORE[2:]]}, f"TimestampColumnName is not {MORE[1]}"),
        ({"header": ["Op", "id", *MORE[1:]]}, "no rule add-before-image-columns"),
    ],
)
def test_files_of_a_task_with_other_settings_are_refused_by_their_name(
    world: World, task_of: MakeTask, change: dict[str, Any], what: str
) -> None:
    refuse_and_go_on(world, task_of, change, what, ConfigError)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"name": "part-0001.csv"}, "found part-0001.csv"),
        ({"operation": "X"}, "1 rows lack I, U or D in Op"),
    ],
)
def test_files_of_another_form_are_refused_and_nothing_is_lost(
    world: World, task_of: MakeTask, change: dict[str, Any], what: str
) -> None:
    refuse_and_go_on(world, task_of, change, what, SourceError)


def refuse_and_go_on(
    world: World, task_of: MakeTask, change: dict[str, Any], what: str, error: type[AuroraSyncError]
) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    run(table, world)
    header, name = change.get("header", task.header), change.get("name", "20260101-000000000.csv")
    row = ["X" if "operation" in change else "I", "99", "v", "d", "", "2026-01-01 00:00:00", "1" * 35]
    key = f"{task.store.prefix}public/t/{name}"
    task.store.put_new(key, f"{','.join(header)}\n{','.join(row)}\n".encode())
    with pytest.raises(error, match=what):
        run(table, world)
    task.store.delete([key])
    world.execute("INSERT INTO t VALUES (50, 'x', 'x')")
    task.write()
    run(table, world)
    world.assert_equal(table)


def test_a_bucket_that_is_not_there_is_a_clear_error(world: World) -> None:
    world.execute(*CREATE)
    with pytest.raises(StageError, match="no-such-bucket"):
        run(config("t", "dms", files="s3://no-such-bucket-here/x"), world)


def test_no_snapshot_is_open_while_the_folder_is_listed(
    world: World, task_of: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.execute(*CREATE)
    task = task_of()
    task.load()
    connections, of_table = opened(monkeypatch), dms_files.of_table
    held: list[int] = []

    def listing(table: TableConfig) -> list[dms_files.File]:
        held.append(sum(not connection.closed for connection in connections))
        return of_table(table)

    monkeypatch.setattr(dms_files, "of_table", listing)
    run(table_of(task), world)
    assert held == [0]


def test_the_sensor_sees_which_files_there_are(world: World, task_of: MakeTask) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    seen = [runner_of(table).marks([table], world.places.source)]
    task.load()
    seen.append(runner_of(table).marks([table], world.places.source))
    world.execute("DELETE FROM t WHERE id = 1")
    task.write()
    seen.append(runner_of(table).marks([table], world.places.source))
    assert len({marks["public.t"] for marks in seen}) == 3
    assert runner_of(table).marks([table], world.places.source) == seen[-1]


def test_values_arrive_as_postgresql_has_them_where_dms_keeps_them(world: World, task_of: MakeTask) -> None:
    """Values are written as the DMS documentation describes: binary in hexadecimal, times in UTC without their zone."""
    world.execute(
        "CREATE TABLE t"
        " (id int PRIMARY KEY, b bytea, z timestamptz, p timestamp, f boolean, n numeric(12,2), j jsonb, v text)",
        "INSERT INTO t VALUES"
        " (1, '\\x00ff', '2024-02-29 12:00:00.5+02', '2024-02-29 12:00', true, 1.50, '{\"a\": 1}', 'NULL'),"
        " (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    )
    task = task_of(columns="id b z p f n j v")
    table = table_of(task)
    rows = [
        *(["I", "1", "00ff", "2024-02-29 10:00:00.500000", "2024-02-29 12:00:00", "true", "1.50", '{"a": 1}', "NULL"]),
    ]
    nothing = ["I", "2", *[None] * 7]
    task.put("LOAD00000001", [[*rows, None, "2026-01-01 00:00:00", ""], [*nothing, None, "2026-01-01 00:00:00", ""]])
    run(table, world)
    found = world.verify(table)
    assert (found.changed, found.rows_exported) == (False, 0)
    assert found.verification
    assert found.verification.equal


def test_a_key_of_two_columns_and_names_that_need_quotes(world: World, task_of: MakeTask) -> None:
    world.execute(
        'CREATE TABLE "o""r\'ders" ("A b" int, "seq" text, "note" text, PRIMARY KEY ("A b", "seq"))',
        """INSERT INTO "o""r'ders" VALUES (1, 'x', 'a'), (1, 'y', 'b'), (2, 'x', 'c')""",
    )
    task = task_of("o\"r'ders")
    task.columns, task.key = ["A b", "seq", "note"], ["A b", "seq"]
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute(
        """UPDATE "o""r'ders" SET "seq" = 'z' WHERE "A b" = 1 AND "seq" = 'x'""",
        """UPDATE "o""r'ders" SET "note" = NULL WHERE "A b" = 1""",
        """DELETE FROM "o""r'ders" WHERE "A b" = 2""",
    )
    task.write()
    receipt = run(table, world)
    assert (receipt.inserted, receipt.updated, receipt.deleted) == (1, 1, 2)
    world.assert_equal(table)


def test_columns_that_no_file_can_hold_are_refused_at_once(world: World, task_of: MakeTask) -> None:
    world.execute('CREATE TABLE t (id int PRIMARY KEY, tags text[], "OP" text)')
    task = task_of(columns="id")
    with pytest.raises(ConfigError) as raised:
        run(table_of(task), world)
    assert "has arrays, whose text DMS changes: exclude tags" in str(raised.value)
    assert "columns with names that the DMS task adds to its files: OP" in str(raised.value)


def test_changes_of_transaction_folders_are_taken_by_their_place(world: World, task_of: MakeTask) -> None:
    """The table's rows are between those of other tables, and come after a scan. An excluded column keeps its
    position."""
    world.execute(*CREATE, "ALTER TABLE t ADD secret text")
    task = task_of(columns="id v doc secret", cdc_path="all/changes")
    table = table_of(task, columns={"exclude": ["secret"]})
    task.load()
    scan = run(table, world)
    assert scan.warnings[0] == "scanned, not streamed: the full load has no header"
    world.execute(
        "UPDATE t SET v = 'kept' WHERE id = 1",
        "UPDATE t SET id = 100 WHERE id = 2",
        "INSERT INTO t VALUES (31, NULL, '', 's'), (32, E'a,\"b\\nc', 'NULL', NULL)",
        "DELETE FROM t WHERE id = 3",
    )
    task.write()
    receipt = run(table, world)
    assert (receipt.inserted, receipt.updated, receipt.deleted) == (3, 1, 2)
    assert receipt.warnings == ()
    world.assert_verified(table)
    world.execute("UPDATE t SET v = 'later' WHERE id = 100", "TRUNCATE t")
    world.execute("INSERT INTO t VALUES (1, 'after', 'after')")
    task.write()
    assert run(table, world).deleted == 30
    world.assert_verified(table)
    task.load()
    # A load after the scan does not show which rows were deleted before it.
    assert "the task has loaded the table" in run(table, world).warnings[-1]
    assert run(table, world).method == "horizon scan"
    world.assert_verified(table)


def test_rows_without_names_are_refused_when_the_columns_changed(world: World, task_of: MakeTask) -> None:
    """An additional column shows in the rows; a replaced one, with the same number of columns, shows only at the
    source."""
    world.execute(*CREATE)
    task = task_of(cdc_path="cdc")
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute("UPDATE t SET v = 'a' WHERE id = 1")
    task.write()
    run(table, world)
    run(table, world)
    world.execute("ALTER TABLE t DROP v", "ALTER TABLE t ADD w text DEFAULT 'w'", "UPDATE t SET w = 'b' WHERE id = 1")
    task.columns = ["id", "doc", "w"]
    task.write()
    assert run(table, world).method == "horizon scan"
    world.execute("UPDATE t SET w = 'e' WHERE id = 4")
    task.write()
    with pytest.raises(SourceError, match="the columns of the table changed"):
        run(table, world)
    time.sleep(1.1)  # the times of S3 have no fractions of a second
    task.load()
    world.execute("UPDATE t SET w = 'c' WHERE id = 2")
    task.write()
    assert "the task has loaded the table" in run(table, world).warnings[-1]
    run(table, world)
    world.assert_verified(table)
    world.execute("UPDATE t SET w = 'd' WHERE id = 3")
    task.columns = ["id", "doc"]
    task.write()
    with pytest.raises(SourceError, match="1 changes lack dms_change_seq behind 3 columns"):
        run(table, world)
