"""A source that is suddenly (almost) empty: the target is not emptied until a person allows it."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync_tests.scenarios.world import World, config

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "hard": ("id int PRIMARY KEY, v text", {}),
    "soft": ("id int PRIMARY KEY, v text", {"deletes": "soft"}),
    "without_a_key": ("id int, v text", {}),
    "without_a_key_soft": ("id int, v text", {"deletes": "soft"}),
}


@pytest.mark.parametrize("emptied_by", ["DELETE FROM t", "TRUNCATE t"])
@pytest.mark.parametrize("case", CASES)
def test_snapshot_table_that_was_emptied_is_guarded(world: World, case: str, emptied_by: str) -> None:
    columns, keys = CASES[case]
    table = config("t", "full_snapshot", **keys)
    world.execute(f"CREATE TABLE t ({columns})", "INSERT INTO t SELECT n, 'a' FROM generate_series(1, 20) n")
    world.sync(table)
    world.execute(emptied_by)
    with pytest.raises(GuardError, match="would empty"):
        world.sync(table)
    assert _present(world, soft="deletes" in keys) == 20
    assert world.run_sequences(table) == [1]

    receipt = world.sync(table, allow_deletes=True)
    assert (receipt.deleted, receipt.target_rows) == (20, 0)
    assert _present(world, soft="deletes" in keys) == 0
    assert not world.sync(table).changed

    world.execute("INSERT INTO t VALUES (1, 'back')")
    world.sync(table)
    assert _present(world, soft="deletes" in keys) == 1


def test_more_deletes_than_the_guard_allows_roll_back(world: World) -> None:
    table = config("t", "full_snapshot", delete_guard={"max_rows": 3, "max_share": 0.2})
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 20)")
    world.sync(table)
    world.execute("DELETE FROM t WHERE id <= 4")
    assert world.sync(table).deleted == 4  # a fifth of 20
    world.execute("DELETE FROM t WHERE id <= 8", "INSERT INTO t VALUES (100)")
    with pytest.raises(GuardError, match="4 of the 16 rows"):
        world.sync(table)
    assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T"') == [(16,)]
    world.sync(table, allow_deletes=True)
    world.assert_equal(table)


@pytest.mark.parametrize("strategy", ["xmin", "append_only"])
def test_cursor_table_that_was_emptied_keeps_its_target(world: World, strategy: str) -> None:
    """A TRUNCATE shows in the table's files. An append-only table is then read whole, others are reconciled; both are
    guarded."""
    table = config("t", append_only=strategy == "append_only")
    key = "PRIMARY KEY" if strategy == "xmin" else ""
    world.execute(f"CREATE TABLE t (id int {key})", "INSERT INTO t SELECT generate_series(1, 20)")
    world.sync(table)
    world.execute("TRUNCATE t")
    with pytest.raises(GuardError, match="would empty"):
        world.sync(table)
    assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T"') == [(20,)]
    assert world.sync(table, allow_deletes=True).target_rows == 0


def test_reseed_of_a_table_that_is_empty_now_is_guarded(world: World) -> None:
    """The table is swapped for an empty one, so every sign says to read it in full, but there is nothing to read."""
    table = config("t")
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 20)")
    world.sync(table)
    world.execute("DROP TABLE t", "CREATE TABLE t (id int PRIMARY KEY)")
    with pytest.raises(GuardError, match="would empty"):
        world.sync(table)


def _present(world: World, *, soft: bool) -> int:
    ((count,),) = world.query(
        'SELECT COUNT(*) FROM "PUBLIC"."T"' + (' WHERE "_DELETED" IS DISTINCT FROM TRUE' if soft else "")
    )
    return int(count)
