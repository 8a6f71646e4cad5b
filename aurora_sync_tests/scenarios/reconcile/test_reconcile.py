"""Deletes, lost rows and stale rows that the strategy cannot see are found and repaired, and few rows are moved."""

from __future__ import annotations

import random
from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.model.certificate import Level
from aurora_sync.source import identity_token
from aurora_sync_tests.scenarios.world import World, config

# Every kind of key, with a computed key number or as its own number.
KEYS: dict[str, tuple[str, str, str]] = {
    "integer": ("id int PRIMARY KEY", "n", "id"),
    "negative": ("id bigint PRIMARY KEY", "(n - 2500) * 1000003::bigint", "id"),
    "text": ("id text PRIMARY KEY", "'Größe-' || n", "id"),
    "uuid": ("id uuid PRIMARY KEY", "md5(n::text)::uuid", "id"),
    "char": ("id char(12) PRIMARY KEY", "n::text", "id"),
    "numeric": ("id numeric(10,2) PRIMARY KEY", "n / 4.0", "id"),
    "time": ("id timestamptz PRIMARY KEY", "'2026-01-01'::timestamptz + n * interval '1.5 s'", "id"),
    "bytes": ("id bytea PRIMARY KEY", "decode(md5(n::text), 'hex')", "id"),
    "composite": (
        "id int, part text, PRIMARY KEY (id, part)",
        "n, CASE WHEN n % 2 = 0 THEN '' ELSE ':' END",
        "id, part",
    ),
}
ROWS = 5000


def make(world: World, key: str) -> None:
    columns, value, names = KEYS[key]
    world.execute(
        f"CREATE TABLE t ({columns}, v text)",
        f"INSERT INTO t ({names}, v) SELECT {value}, 'v' || n FROM generate_series(1, {ROWS}) n",
        "ANALYZE t",
    )


def change_target(world: World, *statements: str) -> None:
    """Edit the target by hand. The number of rows must stay as the sync log has it."""
    for statement in statements:
        world.query(statement)


@pytest.mark.parametrize("key", KEYS)
def test_rows_deleted_at_the_source_leave_the_target(world: World, key: str) -> None:
    make(world, key)
    table = config()
    world.sync(table)
    world.execute("DELETE FROM t WHERE v IN ('v17', 'v4000')", "UPDATE t SET v = 'new' WHERE v = 'v18'")
    assert world.sync(table).deleted == 0

    receipt = world.sync(table, reconcile=True)
    world.assert_equal(table)
    assert receipt.repair is not None
    assert (receipt.repair.lost, receipt.repair.stale, receipt.repair.ghosts, receipt.deleted) == (0, 0, 2, 2)
    assert receipt.source_rows == receipt.target_rows == ROWS - 2
    assert receipt.certificate.level is Level.CERTIFIED
    assert "deletes" in receipt.certificate.changes


@pytest.mark.parametrize("key", KEYS)
def test_equal_tables_need_no_repair(world: World, key: str) -> None:
    make(world, key)
    table = config()
    world.sync(table)
    world.execute("UPDATE t SET v = v || '!' WHERE v LIKE '%7'")  # the increment's own rows are not differences
    receipt = world.sync(table, reconcile=True)
    assert receipt.repair is not None
    assert (receipt.repair.buckets_differing, receipt.repair.rows_moved) == (0, 0)
    world.assert_equal(table)


@pytest.mark.parametrize("strategy", ["xmin", "integer", "timestamp", "composite"])
@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_injected_corruption_is_repaired_by_moving_few_rows(world: World, strategy: str, deletes: str) -> None:
    declared: dict[str, dict[str, Any]] = {
        "xmin": {},
        "integer": {"watermark_col": "id"},
        "timestamp": {"watermark_col": "at"},
        "composite": {"watermark_cols": ["at", "id"]},
    }
    table = config(watermark_type=strategy, deletes=deletes, **declared[strategy])
    rows = 50_000
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz NOT NULL DEFAULT now())",
        f"INSERT INTO t (id, v) SELECT n, 'v' || n FROM generate_series(1, {rows}) n",
        "ANALYZE t",
    )
    world.sync(table)
    dice = random.Random(strategy + deletes)
    lost, stale, ghosts = (sorted(dice.sample(range(low, low + 16_000), 20)) for low in (1, 17_000, 34_000))
    change_target(
        world,
        f'DELETE FROM "PUBLIC"."T" WHERE "ID" IN ({", ".join(map(str, lost))})',
        f'UPDATE "PUBLIC"."T" SET "V" = \'old\', "_SRC_XMIN" = 3 WHERE "ID" IN ({", ".join(map(str, stale))})',
        'INSERT INTO "PUBLIC"."T" ("ID", "V", "_SRC_XMIN", "_RUN_SEQ") SELECT "ID" + 1000000, "V", "_SRC_XMIN", 1'
        f' FROM "PUBLIC"."T" WHERE "ID" IN ({", ".join(map(str, ghosts))})',
    )

    receipt = world.sync(table, reconcile=True)
    repair = receipt.repair
    assert repair is not None
    assert (repair.lost, repair.stale, repair.ghosts) == (20, 20, 20)
    assert repair.rows_moved < rows / 4
    print(f"{strategy}, {deletes}: {repair}")
    if deletes == "hard":
        world.assert_equal(table)
    else:
        assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T" WHERE "_DELETED"') == [(20,)]
        assert world.source_rows(table) <= world.target_rows(table)
    again = world.sync(table, reconcile=True).repair
    assert again is not None
    assert again.rows_moved == 0


def test_lost_row_and_ghost_of_one_transaction_do_not_hide_each_other(world: World) -> None:
    """The number of rows and the sum of versions are the same; only the key differs."""
    make(world, "integer")
    table = config()
    world.sync(table)
    change_target(world, 'UPDATE "PUBLIC"."T" SET "ID" = 100000 WHERE "ID" = 99')
    repair = world.sync(table, reconcile=True).repair
    assert repair is not None
    assert (repair.lost, repair.ghosts) == (1, 1)
    world.assert_equal(table)


def test_reconcile_that_would_empty_the_target_is_guarded(world: World) -> None:
    make(world, "text")
    table = config()
    world.sync(table)
    world.execute("DELETE FROM t")
    with pytest.raises(GuardError, match="would empty"):
        world.sync(table, reconcile=True)
    assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T"') == [(ROWS,)]
    assert world.sync(table, reconcile=True, allow_deletes=True).target_rows == 0


def test_reconcile_that_would_delete_more_than_the_guard_allows_rolls_back(world: World) -> None:
    make(world, "integer")
    table = config(delete_guard={"max_rows": 10, "max_share": 0.01})
    world.sync(table)
    world.execute("DELETE FROM t WHERE id % 50 = 0", "UPDATE t SET v = 'new' WHERE id = 1")
    with pytest.raises(GuardError, match="100 of the 5000 rows"):
        world.sync(table, reconcile=True)
    assert world.query('SELECT "V" FROM "PUBLIC"."T" WHERE "ID" = 1') == [("v1",)]
    world.sync(table, reconcile=True, allow_deletes=True)
    world.assert_equal(table)


def test_every_kth_run_reconciles_idle_ones_included(world: World) -> None:
    make(world, "integer")
    table = config(reconcile={"every": 3})
    assert world.sync(table).certificate.reconciled is not None  # a full read compares everything
    world.execute("DELETE FROM t WHERE id = 7")
    assert [world.sync(table).deleted for _ in range(4)] == [0, 0, 1, 0]
    world.assert_equal(table)


def test_table_without_a_key_is_reconciled_by_reading_it(world: World) -> None:
    world.execute("CREATE TABLE t (v text)", "INSERT INTO t SELECT 'a' FROM generate_series(1, 50)")
    table = config(append_only=True)
    world.sync(table)
    world.execute("DELETE FROM t WHERE ctid IN (SELECT ctid FROM t LIMIT 5)")
    assert world.sync(table, reconcile=True).deleted == 5
    world.assert_equal(table)


def test_restart_leaves_old_deletes_to_a_person_and_repairs_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table whose deletes were never searched for continues after a restart; a TRUNCATE would stop it."""
    make(world, "integer")
    table = config(delete_guard={"max_rows": 10, "max_share": 0.01})
    world.sync(table)
    world.execute("DELETE FROM t WHERE id % 50 = 0", "UPDATE t SET v = 'new' WHERE id = 1")
    change_target(world, 'UPDATE "PUBLIC"."T" SET "V" = \'old\', "_SRC_XMIN" = 3 WHERE "ID" = 3')
    later = identity_token._SNAPSHOT.replace("pg_postmaster_start_time()::text", "'later'")
    monkeypatch.setattr(identity_token, "_SNAPSHOT", later)
    receipt = world.sync(table)
    assert receipt.repair is not None
    assert (receipt.repair.ghosts, receipt.deleted) == (100, 0)
    assert "100 rows of the target are not in the source" in receipt.warnings[-1]
    assert receipt.certificate.changes == ("inserts", "updates")
    missing = world.source_rows(table) - world.target_rows(table)
    assert not missing
    assert not world.sync(table).changed  # and not every later run compares it again


@pytest.mark.parametrize("key", ["integer", "text"])
def test_row_inserted_by_hand_without_our_columns_is_a_ghost(world: World, key: str) -> None:
    make(world, key)
    table = config()
    world.sync(table)
    change_target(
        world,
        'DELETE FROM "PUBLIC"."T" WHERE "V" = \'v5\'',
        'INSERT INTO "PUBLIC"."T" ("ID", "V") VALUES (77777, \'by hand\')',
    )
    repair = world.sync(table, reconcile=True).repair
    assert repair is not None
    assert (repair.lost, repair.ghosts) == (1, 1)
    world.assert_equal(table)
