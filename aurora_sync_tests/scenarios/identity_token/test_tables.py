"""Replacement of the table's files or of the table: TRUNCATE, VACUUM FULL, CLUSTER, ALTER, a swap, DROP."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.model.certificate import Action
from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies import xmin
from aurora_sync_tests.scenarios.identity_token import twins as guards
from aurora_sync_tests.scenarios.identity_token.twins import STRATEGIES, TABLE, Twins, each_strategy
from aurora_sync_tests.scenarios.world import World

FILES_REPLACED = ("files replaced", Action.RECONCILE)
OTHER_TABLE = ("other table", Action.RESEED)


def forget_repeats(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(xmin, "_would_repeat", lambda *_: "")


@each_strategy
def test_source_that_did_not_change_shows_nothing(world: World, strategy: str) -> None:
    world.execute(TABLE)
    receipt = Twins(world, strategy).assert_equal()
    assert (receipt.changed, receipt.rows_exported) == (False, 0)


@each_strategy
@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_rows_of_before_a_truncate_leave_the_target(world: World, strategy: str, deletes: str) -> None:
    world.execute(TABLE)
    twins = Twins(world, strategy, deletes=deletes)
    world.execute("TRUNCATE t", "INSERT INTO t (v) VALUES ('new')")
    assert twins.assert_equal(FILES_REPLACED).deleted == 10
    twins.assert_unequal_without(guards.reconcile)


@each_strategy
@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_truncate_that_leaves_nothing_is_seen_and_waits_for_a_person(world: World, strategy: str, deletes: str) -> None:
    world.execute(TABLE)
    twins = Twins(world, strategy, deletes=deletes)
    world.execute("TRUNCATE t")
    twins.assert_refused(GuardError, "would empty")
    assert twins.assert_equal(FILES_REPLACED, allow_deletes=True).deleted == 10
    twins.assert_unequal_without(guards.reconcile)


def test_rows_of_before_a_truncate_leave_a_target_without_a_key(world: World) -> None:
    world.execute("CREATE TABLE t (v text)", "INSERT INTO t VALUES ('a'), ('a'), ('b')")
    twins = Twins(world, append_only=True)
    world.execute("TRUNCATE t", "INSERT INTO t VALUES ('b'), ('c')")
    assert twins.assert_equal(FILES_REPLACED).disposition is Disposition.REPLACE
    twins.assert_unequal_without(forget_repeats)


@each_strategy
@pytest.mark.parametrize("command", ["VACUUM FULL t", "CLUSTER t USING t_pkey"])
def test_table_written_anew_as_it_was_is_compared_and_not_read(world: World, strategy: str, command: str) -> None:
    """The test does not show that a guard is needed: rows and transaction ids stay, and only the files distinguish it
    from a TRUNCATE."""
    world.execute(TABLE, "INSERT INTO t (v) SELECT 'more' FROM generate_series(1, 1000)")
    twins = Twins(world, strategy)
    world.execute("UPDATE t SET v = 'seen by no one' WHERE id = 5" if strategy != "integer" else "SELECT", command)
    world.execute("INSERT INTO t (v) VALUES ('new')")
    receipt = twins.assert_equal(FILES_REPLACED)
    assert receipt.rows_exported == (1 if strategy == "integer" else 2)
    assert receipt.repair is not None
    assert (receipt.repair.buckets_differing, receipt.repair.rows_moved) == (0, 0)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - {"xmin"}))
def test_values_that_an_alter_table_rewrote_are_exported_though_no_fence_shows_them(
    world: World, strategy: str
) -> None:
    """Triggers do not fire for a rewrite, and the column's type is unchanged."""
    world.execute(TABLE)
    twins = Twins(world, strategy)
    world.execute("ALTER TABLE t ALTER v TYPE text USING upper(v)")
    assert twins.assert_equal(FILES_REPLACED).method == "horizon scan"
    twins.assert_unequal_without(guards.rewritten)


@pytest.mark.parametrize(
    "rewrite",
    [
        "ALTER TABLE t ALTER v TYPE text USING upper(v)",
        "ALTER TABLE t SET UNLOGGED",
        "ALTER TABLE t SET UNLOGGED; ALTER TABLE t SET LOGGED",
    ],
)
def test_rewrite_gives_all_rows_a_new_transaction_id(world: World, rewrite: str) -> None:
    """Without a guard xmin would miss nothing, but would read every row."""
    world.execute(TABLE)
    twins = Twins(world)
    world.execute(rewrite)
    assert twins.assert_equal(FILES_REPLACED).rows_exported == 10


@each_strategy
def test_table_swapped_in_by_renaming_is_read_whole(world: World, strategy: str) -> None:
    """The new table has other members, rows that are not the canaries, and another trigger or sequence: each of these
    guards would be enough."""
    world.execute(TABLE, "CREATE TABLE fresh (LIKE t INCLUDING ALL)", "INSERT INTO fresh (v) VALUES ('a'), ('b')")
    twins = Twins(world, strategy)
    world.execute("ALTER TABLE t RENAME TO stale", "ALTER TABLE fresh RENAME TO t")
    assert twins.assert_equal(OTHER_TABLE).disposition is Disposition.REPLACE
    twins.assert_unequal_without(guards.reasons("other table"), guards.canaries, guards.new_members, guards.reconcile)


@each_strategy
def test_rows_of_before_a_drop_leave_the_target_of_the_table_made_anew(world: World, strategy: str) -> None:
    """The reconcile that follows a missing member would also find it."""
    world.execute(TABLE)
    twins = Twins(world, strategy)
    world.execute("DROP TABLE t", "DROP FUNCTION touch", TABLE, "DELETE FROM t WHERE id > 3")
    assert twins.assert_equal(OTHER_TABLE).deleted == 7
    twins.assert_unequal_without(guards.reasons("other table"), guards.reconcile)


def test_rows_of_before_a_drop_leave_a_target_without_a_key(world: World) -> None:
    made: Any = "CREATE TABLE t (v text)"
    world.execute(made, "INSERT INTO t VALUES ('a'), ('a'), ('b')")
    twins = Twins(world, append_only=True)
    world.execute("DROP TABLE t", made, "INSERT INTO t VALUES ('b'), ('c')")
    twins.assert_equal(OTHER_TABLE)
    twins.assert_unequal_without(guards.reasons("other table"), forget_repeats)
