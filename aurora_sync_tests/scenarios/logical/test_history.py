"""``history: true``: every change is one row, exactly once, in the transaction that applies it."""

from __future__ import annotations

import contextlib
import json
import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync_tests.scenarios.logical import writers
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.logical.test_random import A_RUN, PENDING, STEPS, Died, dying, schedule

ORDER = '"_RUN_SEQ", "_LSN", "_NO"'


def changes(streamed: Streamed, columns: str, where: str = "TRUE") -> list[tuple[Any, ...]]:
    return streamed.world.query(f"SELECT {columns} FROM PUBLIC.T_HISTORY WHERE {where} ORDER BY {ORDER}")


def test_each_change_is_a_row_with_operation_commit_time_and_lsn(streamed: Streamed) -> None:
    begun = datetime.now(UTC).replace(tzinfo=None)
    world, table = streamed.world, streamed.table(history=True)
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz, doc text)",
        "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
        "INSERT INTO t VALUES (1, 'a', '2024-02-29 12:00:00.5+02', repeat('x', 9000))",
    )
    streamed.setup(table)
    streamed.one(table)
    assert changes(streamed, '"_OP", "ID", "V", "AT"') == [("R", "1", "a", "2024-02-29 10:00:00.5+00")]
    world.execute(
        "INSERT INTO t VALUES (2, 'b')",
        "UPDATE t SET v = 'c' WHERE id = 2",
        "UPDATE t SET v = 'd' WHERE id = 1",
        "UPDATE t SET id = 20 WHERE id = 2",
        "DELETE FROM t WHERE id = 20",
        "TRUNCATE t",
    )
    receipt = streamed.one(table)
    assert (receipt.inserted, receipt.deleted) == (0, 1)
    assert changes(streamed, '"_OP", "ID", "V", "_UNCHANGED", "_FORMER"', "\"_OP\" <> 'R'") == [
        ("I", "2", "b", None, None),
        ("U", "2", "c", None, None),
        ("U", "1", "d", '["doc"]', None),
        ("U", "20", "c", None, '["2"]'),
        ("D", "20", None, None, None),
        ("T", None, None, None, None),
    ]
    lsns = [int(lsn) for (lsn,) in changes(streamed, '"_LSN"')]
    assert lsns == sorted(lsns)
    ((first, last),) = world.query('SELECT MIN("_COMMITTED_AT"), MAX("_COMMITTED_AT") FROM PUBLIC.T_HISTORY')
    ended = datetime.now(UTC).replace(tzinfo=None)
    assert begun < first < last < ended
    world.assert_equal(table)


def test_a_reconcile_records_what_it_finds_and_what_is_missing(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table(history=True)
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT g, 'a' FROM generate_series(1, 5) g"
    )
    streamed.setup(table)
    streamed.one(table)
    world.execute("UPDATE t SET v = 'b' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    world.sync(table, reconcile=True)
    found = changes(streamed, '"_OP", "ID", "V"', '"_RUN_SEQ" = 2')
    assert ("D", "2", None) in found
    assert ("R", "1", "b") in found
    world.execute("INSERT INTO t VALUES (6, 'new')")
    streamed.one(table)
    # rows that the scan read are not repeated
    assert changes(streamed, '"_OP", "ID"', '"_RUN_SEQ" = 3') == [("I", "6")]
    world.assert_equal(table)


def test_a_whole_read_in_the_place_of_a_reconcile_is_recorded_where_its_snapshot_was(streamed: Streamed) -> None:
    """Sums do not compare doubles: the table is read whole."""
    world, table = streamed.world, streamed.table(history=True)
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v float8)", "INSERT INTO t VALUES (1, 0.1)")
    streamed.setup(table)
    streamed.one(table)
    world.execute("UPDATE t SET v = 0.2")
    streamed.one(table)
    world.execute("DELETE FROM t", "INSERT INTO t VALUES (2, 0.3)")
    world.sync(table, reconcile=True)
    found = changes(streamed, '"_OP", "ID", "_LSN"')
    assert [(operation, key) for operation, key, _ in found] == [("R", "1"), ("U", "1"), ("D", "1"), ("R", "2")]
    lsns = [int(lsn) for *_, lsn in found]
    assert lsns == sorted(lsns)
    assert lsns[1] < lsns[2] == lsns[3]


def test_a_history_gains_columns_and_keeps_those_that_are_gone(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table(history=True)
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    streamed.setup(table)
    streamed.one(table)
    world.execute("ALTER TABLE t ALTER v TYPE text", "ALTER TABLE t ADD w int", "UPDATE t SET w = 7, v = 'one'")
    streamed.one(table)
    streamed.one(table)
    world.execute("ALTER TABLE t DROP v", "UPDATE t SET w = 8")
    streamed.one(table)
    streamed.one(table)
    assert changes(streamed, '"V"')[0] == ("1",)
    assert changes(streamed, '"V", "W"')[-1] == (None, "8")
    world.assert_verified(table)


@pytest.mark.parametrize(
    ("times", "pending"),
    [
        pytest.param(1, list(PENDING.values()), id="either"),
        *(pytest.param(3, [size], id=name, marks=pytest.mark.long) for name, size in PENDING.items()),
    ],
)
def test_the_history_played_back_is_the_table_however_often_runs_die(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, times: int, pending: list[int]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    dice, world, tables = random.Random(seed), streamed.world, (streamed.table("t", history=True), streamed.table("u"))
    monkeypatch.setattr("aurora_sync.source.logical.slot._EVERY_BYTES", 10_000)
    world.execute(*writers.TABLES)
    streamed.setup(*tables)
    with writers.writing(world.dsn, seed) as done:
        for number, step in enumerate(schedule(dice, STEPS, 0, times)):
            assert step
            done.until(A_RUN * number, A_RUN * (number + 1))
            monkeypatch.setattr("aurora_sync.engine.runners.member.PENDING_BYTES", dice.choice(pending))
            owner, name, after = step
            with dying(monkeypatch, owner, name, after=after), contextlib.suppress(Died):
                streamed.run(*tables, allow_deletes=True)
    streamed.run(*tables, allow_deletes=True)
    played, twice = play_back(streamed, tables[0])
    source = {str(row[0]): tuple(row) for row in world.execute("SELECT id::text, doc, n::text, tags FROM t")}
    assert played == source
    assert twice == []


def play_back(streamed: Streamed, table: TableConfig) -> tuple[dict[str, tuple[Any, ...]], list[Any]]:
    """Return the rows that result from the history, and the changes of a stream that it has twice."""
    rows: dict[str, tuple[Any, ...]] = {}
    names = ["id", "doc", "n", "tags"]
    columns = '"_OP", "_UNCHANGED", "_FORMER", "ID", "DOC", "N", "TAGS"'
    for operation, unchanged, former, *values in changes(streamed, columns):
        key = values[0]
        if operation == "T":
            rows.clear()
        elif operation == "D":
            rows.pop(key, None)
        else:
            before = rows.pop(json.loads(former)[0] if former else key, None)
            for name in json.loads(unchanged or "[]"):
                assert before is not None
                values[names.index(name)] = before[names.index(name)]
            rows[key] = tuple(values)
    where = "\"_OP\" IN ('I', 'U', 'D')"
    counted = Counter(changes(streamed, '"_LSN", "_SRC_XMIN", "_OP", "ID", "N", "TAGS", MD5("DOC"), "_NO"', where))
    return rows, [change for change, times in counted.items() if times > 1]
