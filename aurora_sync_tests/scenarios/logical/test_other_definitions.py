"""Changes in the log that were written under another definition of a table: that table is scanned, the others
stream."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.engine.runners import member as shared
from aurora_sync.errors import AuroraSyncError, GuardError
from aurora_sync.source.logical import slot
from aurora_sync_tests.scenarios.logical.conftest import Streamed

MOVES = {
    "renamed": (
        "ALTER TABLE t RENAME v TO w",
        "UPDATE t SET w = 1 WHERE id = 1",
        "ALTER TABLE t RENAME w TO v",
    ),
    "retyped": (
        "ALTER TABLE t ALTER v TYPE bigint",
        "UPDATE t SET v = 1 WHERE id = 1",
        "ALTER TABLE t ALTER v TYPE int",
    ),
    "another index as identity": (
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_n",
        "UPDATE t SET id = 10, v = 1 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
    ),
    "no identity": (
        "ALTER TABLE t REPLICA IDENTITY NOTHING",
        "INSERT INTO t VALUES (9, 1, 9)",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
    ),
}


def assert_scanned_beside_a_stream(streamed: Streamed, between: tuple[str, ...]) -> None:
    """Assert that the run after ``between`` scans t and streams u, and later runs stream both and confirm the slot."""
    world, table, other = streamed.world, streamed.table(), streamed.table("u")
    world.execute("INSERT INTO u VALUES (1)", *between)
    receipts = streamed.run(table, other)
    assert receipts["public.t"].method == "horizon scan"
    assert "scanned, not streamed" in receipts["public.t"].warnings[0]
    assert receipts["public.u"].method.startswith("stream")
    for each in (table, other):
        world.assert_equal(each)
    before = streamed.slot()
    world.execute("INSERT INTO u VALUES (2)", "UPDATE t SET v = 2 WHERE id = 3", "DELETE FROM t WHERE id = 4")
    assert all(receipt.method.startswith("stream") for receipt in streamed.run(table, other).values())
    for each in (table, other):
        world.assert_equal(each)
    after = streamed.slot()
    assert before
    assert after
    assert after.confirmed > before.confirmed


def start(streamed: Streamed) -> None:
    world, table, other = streamed.world, streamed.table(), streamed.table("u")
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v int, n int NOT NULL)",
        "CREATE UNIQUE INDEX t_n ON t (n)",
        "CREATE TABLE u (id int PRIMARY KEY)",
        "INSERT INTO t SELECT g, 0, g FROM generate_series(1, 5) g",
    )
    streamed.setup(table, other)
    streamed.run(table, other)


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_table_that_was_altered_and_set_back_is_scanned(streamed: Streamed, move: tuple[str, ...]) -> None:
    start(streamed)
    assert_scanned_beside_a_stream(streamed, move)


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_a_table_that_is_altered_behind_the_look_is_scanned_in_the_same_run(
    streamed: Streamed, move: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The catalogue shows no change, but the stream has a definition that no later run would find either. Changes of
    the table that were already staged are discarded."""
    start(streamed)
    monkeypatch.setattr(shared, "PENDING_BYTES", 0)
    monkeypatch.setattr(slot, "_EVERY_BYTES", 0)
    mark, moves = slot.mark, [("UPDATE t SET v = 7 WHERE id = 5", *move)]

    def alter_and_mark(connection: Any) -> Any:
        if moves:
            streamed.world.execute(*moves.pop())
        return mark(connection)

    monkeypatch.setattr(slot, "mark", alter_and_mark)
    assert_scanned_beside_a_stream(streamed, ())


def test_a_table_by_itself_is_scanned(streamed: Streamed) -> None:
    start(streamed)
    streamed.world.execute(*MOVES["no identity"])
    table = streamed.table()
    assert streamed.one(table).method == "horizon scan"
    streamed.world.assert_equal(table)


def test_a_scan_that_is_refused_leaves_the_other_tables_applied(streamed: Streamed) -> None:
    """The error says what to do; the slot is not confirmed, so nothing is lost meanwhile."""
    start(streamed)
    world, table, other = (
        streamed.world,
        streamed.table(delete_guard={"max_rows": 0, "max_share": 0}),
        streamed.table("u"),
    )
    before = streamed.slot()
    world.execute("INSERT INTO u VALUES (1)", *MOVES["no identity"], "DELETE FROM t WHERE id < 4")
    for _ in range(2):
        with pytest.raises(GuardError, match="would remove"):
            streamed.run(table, other)
        world.assert_equal(other)
    after = streamed.slot()
    assert before
    assert after
    assert after.confirmed == before.confirmed
    streamed.run(table, other, allow_deletes=True)
    world.assert_equal(table)


def test_a_table_that_a_person_must_mend_holds_up_no_other(streamed: Streamed) -> None:
    start(streamed)
    world, frozen, other = streamed.world, streamed.table(schema_changes="freeze"), streamed.table("u")
    world.execute("ALTER TABLE t ADD w int", "INSERT INTO t VALUES (6, 6, 6, 6)", "INSERT INTO u VALUES (1)")
    with pytest.raises(AuroraSyncError, match="freeze"):
        streamed.run(frozen, other)
    world.assert_equal(other)
    streamed.run(streamed.table(), other)
    world.assert_equal(streamed.table())
