"""Partitions that are attached, inherited, detached, dropped or added."""

from __future__ import annotations

import psycopg2
import pytest

from aurora_sync.engine import preflight
from aurora_sync.errors import ConfigError
from aurora_sync.model.certificate import Action
from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies import xmin
from aurora_sync_tests.fixtures.server_build import need_version
from aurora_sync_tests.scenarios.identity_token import twins as guards
from aurora_sync_tests.scenarios.identity_token.twins import PARTITIONED, STRATEGIES, TABLE, Twins, each_strategy
from aurora_sync_tests.scenarios.world import World

NEW_PARTITION = ("new partition", Action.WIDEN)
PARTITION_GONE = ("partition gone", Action.RECONCILE)

LATER = """
CREATE TABLE later (LIKE t INCLUDING ALL);
INSERT INTO later SELECT n, '2001-01-01' FROM generate_series(201, 205) n;
"""
ATTACH = "ALTER TABLE t ATTACH PARTITION later FOR VALUES FROM (200) TO (300)"


@each_strategy
@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_old_rows_of_an_attached_partition_are_exported(world: World, strategy: str, deletes: str) -> None:
    world.execute(PARTITIONED, LATER)
    twins = Twins(world, strategy, deletes=deletes)
    world.execute(ATTACH)
    assert twins.assert_equal(NEW_PARTITION).rows_exported == 5
    twins.assert_unequal_without(guards.new_members)


def test_old_rows_of_an_attached_partition_are_exported_into_a_target_without_a_key(world: World) -> None:
    world.execute(PARTITIONED.replace("PRIMARY KEY", ""), LATER)
    twins = Twins(world, append_only=True)
    world.execute(ATTACH)
    assert twins.assert_equal(NEW_PARTITION).disposition is Disposition.REPLACE
    twins.assert_unequal_without(lambda patch: patch.setattr(xmin, "_would_repeat", lambda *_: ""))


@each_strategy
def test_rows_of_a_partition_made_since_are_exported(world: World, strategy: str) -> None:
    """The test does not show that a guard is needed, because the rows are as new as the partition."""
    world.execute(PARTITIONED)
    twins = Twins(world, strategy)
    world.execute("CREATE TABLE three PARTITION OF t FOR VALUES FROM (200) TO (300)")
    assert twins.assert_equal(NEW_PARTITION).rows_exported == 0
    world.execute("INSERT INTO t VALUES (201, now())")
    twins.assert_equal()


@each_strategy
@pytest.mark.parametrize("removal", ["ALTER TABLE t DETACH PARTITION two", "DROP TABLE two"])
def test_rows_of_a_partition_that_is_gone_leave_the_target(world: World, strategy: str, removal: str) -> None:
    world.execute(PARTITIONED)
    twins = Twins(world, strategy)
    world.execute(removal)
    assert twins.assert_equal(PARTITION_GONE).deleted == 3
    twins.assert_unequal_without(guards.reconcile)


def test_rows_of_a_partition_that_is_gone_are_marked_as_deleted(world: World) -> None:
    world.execute(PARTITIONED)
    twins = Twins(world, deletes="soft")
    world.execute("ALTER TABLE t DETACH PARTITION two")
    twins.assert_equal(PARTITION_GONE)
    assert world.query('SELECT "ID" FROM "PUBLIC"."GUARDED_XMIN" WHERE "_DELETED" ORDER BY 1') == [
        (100,),
        (110,),
        (120,),
    ]
    twins.assert_unequal_without(guards.reconcile)


DETACHED = "ALTER TABLE t DETACH PARTITION two"
WRITTEN_MEANWHILE = (
    "INSERT INTO two VALUES (105, '2001-01-01')",
    "UPDATE two SET id = 106 WHERE id = 110",
    "DELETE FROM two WHERE id = 120",
)
ATTACHED_AGAIN = "ALTER TABLE t ATTACH PARTITION two FOR VALUES FROM (100) TO (200)"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_written_while_a_partition_was_detached_are_exported(world: World, strategy: str) -> None:
    """The leaf, its file and its bounds are the same before and after; only the version of its row in pg_inherits
    differs. xmin finds the new rows without it, but misses the deleted one."""
    world.execute(PARTITIONED)
    declared = {} if strategy == "xmin" else {"watermark_set_by": "database"}
    twins = Twins(world, strategy, **declared)
    for target in ("guarded", "unguarded"):  # only a later run can pass a fence
        world.execute("INSERT INTO t VALUES (190, now()) ON CONFLICT DO NOTHING")
        world.sync(twins.config(target))
    world.execute(DETACHED, *WRITTEN_MEANWHILE, ATTACHED_AGAIN)
    twins.assert_equal(("partition attached again", Action.RECONCILE))
    twins.assert_unequal_without(guards.reattached)


@each_strategy
def test_partition_whose_detach_waits_is_not_taken_for_read(world: World, strategy: str) -> None:
    """DETACH ... CONCURRENTLY waits for a reader. Meanwhile no SELECT of the table reads the leaf, which the catalogue
    still lists. Rows that a run misses for this reason are read once the leaf is attached again."""
    need_version(world.dsn, 14, "DETACH PARTITION CONCURRENTLY")
    world.execute(PARTITIONED)
    twins = Twins(world, strategy)
    with world.session() as reader, world.session() as detaching:
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM t")
        detaching.autocommit = True
        with detaching.cursor() as cursor:
            cursor.execute("SET statement_timeout = '1s'")
            with pytest.raises(psycopg2.errors.QueryCanceled):  # a cancelled DETACH leaves this state
                cursor.execute(f"{DETACHED} CONCURRENTLY")
    world.execute("INSERT INTO two VALUES (105, '2001-01-01')")
    assert twins.assert_equal(PARTITION_GONE).deleted == 3
    world.sync(twins.config("unguarded"))
    world.execute("ALTER TABLE t DETACH PARTITION two FINALIZE", ATTACHED_AGAIN)
    assert twins.assert_equal(NEW_PARTITION).inserted == 4
    twins.assert_unequal_without(guards.new_members)


def test_partition_exchanged_for_another_of_the_same_range(world: World) -> None:
    world.execute(PARTITIONED, LATER.replace("(201, 205)", "(115, 116)"))
    twins = Twins(world)
    world.execute("ALTER TABLE t DETACH PARTITION two", ATTACH.replace("(200)", "(100)").replace("(300)", "(200)"))
    twins.assert_equal(NEW_PARTITION, PARTITION_GONE)
    twins.assert_unequal_without(guards.new_members, guards.reconcile)


CHILD = "CREATE TABLE child (id int, v text, updated_at timestamptz); INSERT INTO child VALUES (1, 'the same number')"
INHERIT = "ALTER TABLE child INHERIT t"


def test_table_whose_child_repeats_its_keys_is_refused(world: World) -> None:
    """One of two rows with the same key would be lost."""
    world.execute(TABLE, CHILD)
    twins = Twins(world, primary_key=["id"])
    world.execute("ALTER TABLE child ALTER id SET NOT NULL", INHERIT)
    twins.assert_refused(ConfigError, "children by INHERITS")
    twins.assert_unequal_without(lambda patch: patch.setattr(preflight, "problems", lambda *_: []), guards.canaries)


def test_rows_of_a_child_that_inherits_now_are_read_without_a_key(world: World) -> None:
    """The test does not show that a guard is needed, because a full read needs none."""
    world.execute(
        "CREATE TABLE t (id int, v text)", "INSERT INTO t VALUES (1, 'a')", "CREATE TABLE child () INHERITS (t)"
    )
    world.execute("ALTER TABLE child NO INHERIT t", "INSERT INTO child VALUES (1, 'a'), (2, 'b')")
    twins = Twins(world, watermark_type="full_snapshot")
    world.execute(INHERIT)
    twins.assert_equal(NEW_PARTITION)
