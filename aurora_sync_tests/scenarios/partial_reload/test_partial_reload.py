"""Rows of a range, or since a time, are read again: they are equal afterwards, and no other row is touched."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.reload import count, reload
from aurora_sync.errors import GuardError
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.reload import Reload
from aurora_sync_tests.scenarios.world import World, config

STRATEGIES: dict[str, dict[str, Any]] = {
    "xmin": {},
    "integer": {"watermark_col": "id"},
    "timestamp": {"watermark_col": "at"},
    "composite": {"watermark_cols": ["at", "id"]},
    "outbox": {},
}
ROWS = 300


def read_again(world: World, table: TableConfig, *, allow_deletes: bool = False, **request: Any) -> Receipt:
    return reload(table, world.places, Reload(**request), allow_deletes=allow_deletes)


def make(world: World, table: TableConfig) -> None:
    """Create the table, whose rows have the times 1, 2, 3, ... minutes after midnight, and sync it."""
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz NOT NULL)",
        f"INSERT INTO t SELECT n, 'v' || n, '2026-01-01Z'::timestamptz + n * interval '1 min'"
        f" FROM generate_series(1, {ROWS}) n",
    )
    if table.watermark_type == "outbox":
        world.make(table)
    world.sync(table)


def spoil(world: World, *ids: int) -> None:
    """Change rows of the target by hand, so that no sync notices it."""
    world.query(f'UPDATE "PUBLIC"."T" SET "V" = \'spoilt\' WHERE "ID" IN ({", ".join(map(str, ids))})')


def spoilt(world: World) -> list[int]:
    return [int(id_) for (id_,) in world.query('SELECT "ID" FROM "PUBLIC"."T" WHERE "V" = \'spoilt\' ORDER BY 1')]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_range_of_keys_is_equal_afterwards_and_other_rows_stay(world: World, strategy: str, deletes: str) -> None:
    table = config(watermark_type=strategy, deletes=deletes, **STRATEGIES[strategy])
    make(world, table)
    before = world.sync(table)
    spoil(world, 99, 100, 149, 150)
    if strategy != "outbox":  # else the trigger names the keys
        world.execute("DELETE FROM t WHERE id IN (98, 101, 148, 151)")
    world.execute("INSERT INTO t VALUES (1000, 'new', now())")

    receipt = read_again(world, table, lower="100", upper="150")
    gone = set() if strategy == "outbox" else {98, 101, 148, 151}
    assert spoilt(world) == [99, 150]
    present = set(range(1, ROWS + 1)) | {1000}
    marked = ' WHERE "_DELETED" IS NOT TRUE' if deletes == "soft" else ""
    left = {int(id_) for (id_,) in world.query(f'SELECT "ID" FROM "PUBLIC"."T"{marked}')}
    assert left == present - (gone & {101, 148})
    assert receipt.deleted == len(gone & {101, 148})
    assert f"{50 - receipt.deleted} rows with id >= 100 and id < 150 are read again" in receipt.because
    assert receipt.warnings == before.warnings
    assert (receipt.certificate.level, receipt.certificate.changes) == (
        before.certificate.level,
        before.certificate.changes,
    )
    assert receipt.certificate.reconciled == before.certificate.reconciled
    assert not world.sync(table).changed or strategy in ("timestamp", "composite")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_rows_since_a_time_are_equal_afterwards_and_deletes_are_left(world: World, strategy: str) -> None:
    table = config(watermark_type=strategy, **STRATEGIES[strategy])
    make(world, table)
    spoil(world, 119, 120, 300)
    if strategy != "outbox":
        world.execute("DELETE FROM t WHERE id = 200")
    receipt = read_again(world, table, since="2026-01-01T02:00", column="at")
    assert spoilt(world) == [119]
    assert receipt.deleted == 0
    assert "rows with at >= 2026-01-01 02:00:00+00 are read again" in receipt.because
    assert "rows that were deleted at the source are not found by at" in receipt.warnings


def test_since_uses_the_column_of_the_strategy(world: World) -> None:
    table = config(watermark_type="timestamp", watermark_col="at")
    make(world, table)
    spoil(world, 299, 300)
    read_again(world, table, since="2026-01-01 06:00:00+01:00")
    assert spoilt(world) == [299]


@pytest.mark.parametrize(
    ("type_", "value", "lower", "upper"),
    [
        ("smallint", "n - 150", "-100", "99999"),
        ("bigint", "n * 1000003::bigint", " 50000150 ", "+100000300"),
        ("numeric(10,2)", "n / 4.0", "12.5", "25"),
        ("date", "'2026-01-01'::date + n", "2026-02-20", "2026-04-11"),
        ("timestamp", "'2026-01-01'::timestamp + n * interval '1 h'", "2026-01-03T02:00", "2026-01-05 04:00:00"),
        (
            "timestamptz",
            "'2026-01-01Z'::timestamptz + n * interval '1 h'",
            "2026-01-03T03:00+01:00",
            "2026-01-05 04:00",
        ),
        ("uuid", "md5(n::text)::uuid", "40000000-0000-0000-0000-000000000000", "{C0000000000000000000000000000000}"),
    ],
)
def test_range_of_every_type_of_key_is_equal_afterwards(
    world: World, type_: str, value: str, lower: str, upper: str
) -> None:
    """Bounds have the same meaning in source and warehouse."""
    table = config('Or"ders', names="preserve", columns={"exclude": ["hidden"]})
    name = '"Or""ders"'
    world.execute(
        f'CREATE TABLE {name} ("K\'s" {type_}, part text, hidden text, PRIMARY KEY ("K\'s", part))',
        f"INSERT INTO {name} SELECT {value}, p, 'x' FROM generate_series(1, 200) n, (VALUES ('a'), ('B')) p(p)",
    )
    world.sync(table)
    target = 'public."Or""ders"'
    world.query(f"UPDATE {target} SET \"part\" = 'ghost' WHERE \"part\" = 'B'")
    receipt = read_again(world, table, lower=lower, upper=upper, allow_deletes=True)

    within = (
        f"\"K's\" >= '{lower.strip()}' AND \"K's\" < '{upper.strip()}'" if type_ != "smallint" else '"K\'s" >= -100'
    )
    statement = f"SET TimeZone = 'UTC'; SELECT count(*) FROM {name} WHERE part = 'B' AND {within}"
    ((inside,),) = world.execute(statement)
    assert 0 < inside < 200
    assert receipt.deleted == receipt.inserted == inside
    assert world.query(f"SELECT COUNT(*) FROM {target} WHERE \"part\" = 'ghost'") == [(200 - inside,)]
    assert read_again(world, table, lower=lower, upper=upper).deleted == 0


@pytest.mark.parametrize("option", ["ltz", "ntz"])
def test_range_of_times_is_in_utc_under_every_type_of_the_warehouse(world: World, option: str) -> None:
    table = config(timestamptz=option)
    world.execute(
        "CREATE TABLE t (at timestamptz PRIMARY KEY)",
        "INSERT INTO t SELECT '2026-01-01Z'::timestamptz + n * interval '1 h' FROM generate_series(0, 23) n",
    )
    world.sync(table)
    world.execute("DELETE FROM t WHERE extract(hour FROM at AT TIME ZONE 'UTC') IN (4, 5, 6)")
    assert read_again(world, table, lower="2026-01-01T07:00+02:00", upper="2026-01-01T06:00").deleted == 1
    ((left,),) = world.query('SELECT COUNT(*) FROM "PUBLIC"."T"')
    assert left == 23
    assert read_again(world, table, lower="2026-01-01", upper="2026-01-02").deleted == 2


def test_range_that_the_source_does_not_have_is_removed_from_the_target(world: World) -> None:
    table = config()
    make(world, table)
    world.execute("DELETE FROM t WHERE id BETWEEN 100 AND 119")
    receipt = read_again(world, table, lower="100", upper="120")
    assert (receipt.deleted, receipt.rows_exported) == (20, 0)
    world.assert_equal(table)
    assert world.sync(table).changed is False


def test_open_ranges_go_to_the_end_of_the_table(world: World) -> None:
    table = config()
    make(world, table)
    world.execute("DELETE FROM t WHERE id IN (1, 100, 300)")
    assert read_again(world, table, lower="101").deleted == 1
    assert read_again(world, table, upper="100").deleted == 1
    assert read_again(world, table, lower="100", upper="101").deleted == 1
    world.assert_equal(table)


def test_more_deletes_than_the_guard_allows_change_nothing(world: World) -> None:
    table = config(delete_guard={"max_rows": 5, "max_share": 0})
    make(world, table)
    spoil(world, 299)
    world.execute("DELETE FROM t WHERE id < 100")
    with pytest.raises(GuardError, match=r"does not have 99 rows .* with id >= 1, but delete_guard allows 5 deletes"):
        read_again(world, table, lower="1")
    assert spoilt(world) == [299]
    assert read_again(world, table, lower="1", allow_deletes=True).deleted == 99
    world.assert_equal(table)


def test_rows_are_counted_beforehand_and_too_many_are_refused(world: World) -> None:
    table = config()
    make(world, table)
    request = Reload(lower="11", max_rows=100)
    assert count(table, world.places, request).rows == 290
    with pytest.raises(GuardError, match="found 290 rows with id >= 11; expected at most 100"):
        reload(table, world.places, request)
    assert world.run_sequences(table) == [1]


def test_unsynced_changes_outside_of_the_range_arrive_too(world: World) -> None:
    """The watermark advances, so the run has to read the increment."""
    table = config()
    make(world, table)
    world.execute("UPDATE t SET v = 'new' WHERE id IN (5, 100)")
    assert read_again(world, table, lower="100", upper="101").rows_exported == 2
    world.assert_equal(table)


def test_column_that_was_added_meanwhile_is_filled_in_every_row(world: World) -> None:
    table = config()
    make(world, table)
    world.execute("ALTER TABLE t ADD n int NOT NULL DEFAULT 7")
    read_again(world, table, lower="100", upper="150")
    world.assert_equal(table)


def test_older_rows_may_contradict_the_predicate_of_the_merge(world: World) -> None:
    table = config(merge_predicate='t."ID" > 250')
    make(world, table)
    spoil(world, 100)
    read_again(world, table, lower="100", upper="150")
    world.assert_equal(table)


def test_partitioned_table_is_read_again_through_its_root(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (120)",
        "CREATE TABLE t2 PARTITION OF t DEFAULT",
        f"INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, {ROWS}) n",
    )
    table = config()
    world.sync(table)
    spoil(world, 110, 130)
    world.execute("DELETE FROM t WHERE id IN (111, 131)")
    read_again(world, table, lower="100", upper="150")
    world.assert_equal(table)


def test_target_that_somebody_edited_visibly_is_reconciled_in_the_same_run(world: World) -> None:
    """As in any sync, and the deletes of the range are found once."""
    table = config()
    make(world, table)
    world.query('UPDATE "PUBLIC"."T" SET "_SRC_XMIN" = 3 WHERE "ID" IN (5, 110)')
    world.execute("DELETE FROM t WHERE id IN (6, 111)")
    receipt = read_again(world, table, lower="100", upper="150")
    assert receipt.repair
    assert receipt.deleted == 2
    world.assert_equal(table)


def test_outbox_that_has_keys_of_the_range_too_reads_each_row_once(world: World) -> None:
    table = config(watermark_type="outbox")
    make(world, table)
    world.execute("UPDATE t SET v = 'new' WHERE id = 100", "DELETE FROM t WHERE id = 101", "DELETE FROM t WHERE id = 5")
    receipt = read_again(world, table, lower="100", upper="110")
    assert (receipt.updated, receipt.deleted, receipt.rows_exported) == (1, 2, 11)
    world.assert_equal(table)
    assert world.execute('SELECT count(*) FROM aurora_sync."public.t" WHERE id IS NOT NULL') == [(0,)]
