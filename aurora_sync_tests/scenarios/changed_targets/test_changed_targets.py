"""A target that was dropped, restored or edited by hand is read again in full; a run never merges on top of it."""

from __future__ import annotations

import pytest

from aurora_sync.errors import GuardError, RivalRunError
from aurora_sync.warehouse import apply
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.scenarios.world import World, config

CUSTOMERS = config("t")


@pytest.fixture
def synced(world: World) -> World:
    """Sync 100 rows, then add one at the source."""
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT i, 'a' FROM generate_series(1, 100) i"
    )
    world.sync(CUSTOMERS)
    world.execute("INSERT INTO t VALUES (101, 'new')")
    return world


def in_warehouse(world: World, statement: str) -> None:
    with DuckDBWarehouse(world.warehouse_path).session() as session:
        session.query(statement)


def test_rows_deleted_in_the_target_come_back(synced: World) -> None:
    in_warehouse(synced, 'DELETE FROM "PUBLIC"."T" WHERE "ID" < 50')
    receipt = synced.sync(CUSTOMERS)
    assert receipt.method == "whole table"
    assert "modified outside of aurora_sync: the target has 51 rows, but had 100 after run 1" in receipt.warnings[0]
    synced.assert_equal(CUSTOMERS)


def test_a_dropped_target_comes_back_whole(synced: World) -> None:
    in_warehouse(synced, 'DROP TABLE "PUBLIC"."T"')
    synced.sync(CUSTOMERS)
    synced.assert_equal(CUSTOMERS)


def test_a_dropped_target_whose_next_run_dies_comes_back_whole(synced: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The killed run leaves an empty target beside the old watermark."""
    in_warehouse(synced, 'DROP TABLE "PUBLIC"."T"')
    real = apply._transact
    monkeypatch.setattr(apply, "_transact", _die)
    with pytest.raises(KeyboardInterrupt):
        synced.sync(CUSTOMERS)
    monkeypatch.setattr(apply, "_transact", real)
    synced.sync(CUSTOMERS)
    synced.assert_equal(CUSTOMERS)


def test_a_dropped_column_whose_next_run_dies_comes_back_whole(synced: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The killed run has added the column again, as the last one, with NULL in it."""
    in_warehouse(synced, 'ALTER TABLE "PUBLIC"."T" DROP COLUMN "V"')
    real = apply._transact
    monkeypatch.setattr(apply, "_transact", _die)
    with pytest.raises(KeyboardInterrupt):
        synced.sync(CUSTOMERS)
    monkeypatch.setattr(apply, "_transact", real)
    receipt = synced.sync(CUSTOMERS)
    assert "column V was dropped and added again since run 1" in receipt.warnings[0]
    synced.assert_equal(CUSTOMERS)
    assert not synced.sync(CUSTOMERS).changed


def test_a_column_that_was_dropped_and_added_by_hand_is_filled_again(synced: World) -> None:
    in_warehouse(synced, 'ALTER TABLE "PUBLIC"."T" DROP COLUMN "V"')
    in_warehouse(synced, 'ALTER TABLE "PUBLIC"."T" ADD COLUMN "V" VARCHAR')
    assert synced.sync(CUSTOMERS).method == "whole table"
    synced.assert_equal(CUSTOMERS)
    synced.execute("ALTER TABLE t ADD w int DEFAULT 7", "INSERT INTO t VALUES (102, 'newer', 8)")
    assert synced.sync(CUSTOMERS).method == "horizon scan"
    synced.execute("ALTER TABLE t RENAME v TO u", "INSERT INTO t VALUES (103, 'newest', 9)")
    assert synced.sync(CUSTOMERS).method == "horizon scan"
    synced.execute("INSERT INTO t VALUES (104, 'last', 10)")
    assert synced.sync(CUSTOMERS).method == "horizon scan"
    synced.assert_equal(CUSTOMERS)


def test_a_log_restored_to_an_earlier_run_is_refused_with_the_remedy_and_nothing_lost(synced: World) -> None:
    synced.sync(CUSTOMERS)
    in_warehouse(synced, 'DELETE FROM "_AURORA_SYNC"."SYNC_LOG" WHERE "RUN_SEQUENCE" = 2')
    in_warehouse(synced, 'DELETE FROM "PUBLIC"."T" WHERE "ID" = 101')
    synced.execute("INSERT INTO t VALUES (102, 'newer')")
    with pytest.raises(RivalRunError, match=r'DROP TABLE "_AURORA_SYNC"\."FENCE'):
        synced.sync(CUSTOMERS)
    in_warehouse(synced, f"DROP TABLE {_fence(synced)}")
    synced.sync(CUSTOMERS)
    synced.assert_equal(CUSTOMERS)


def test_a_reconcile_without_the_fence_repairs_the_target(synced: World) -> None:
    synced.sync(CUSTOMERS)
    synced.execute("DELETE FROM t WHERE id = 7")
    in_warehouse(synced, 'DELETE FROM "PUBLIC"."T" WHERE "ID" = 9')
    in_warehouse(synced, 'INSERT INTO "PUBLIC"."T" SELECT * REPLACE (900 AS "ID") FROM "PUBLIC"."T" WHERE "ID" = 8')
    in_warehouse(synced, f"DROP TABLE {_fence(synced)}")
    synced.sync(CUSTOMERS, reconcile=True)
    synced.assert_equal(CUSTOMERS)


def test_a_first_run_refused_for_a_value_leaves_no_target_of_the_wrong_type(world: World) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY, d date)", "INSERT INTO t VALUES (1, 'infinity')")
    with pytest.raises(GuardError, match=r"column_types: \{d: exact\}"):
        world.sync(config("t", column_types={"d": "fail"}))
    world.sync(CUSTOMERS)
    assert list(world.target_rows(CUSTOMERS)) == [(1, "infinity")]


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def _fence(world: World) -> str:
    ((name,),) = world.query("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE STARTSWITH(TABLE_NAME, 'FENCE_')")
    return f'"_AURORA_SYNC"."{name}"'
