"""Columns that are added, dropped and recreated, rewritten; labels of an enum that are renamed."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.model.certificate import Action
from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies import xmin
from aurora_sync_tests.scenarios.identity_token import twins as guards
from aurora_sync_tests.scenarios.identity_token.twins import PARTITIONED, STRATEGIES, TABLE, Twins, each_strategy
from aurora_sync_tests.scenarios.world import World

COLUMN_ADDED = ("column added", Action.BACKFILL)
COLUMN_READ = ("column added", Action.RESEED)
ENUM_RENAMED = ("enum renamed", Action.RESEED)

ADDED = [
    "int DEFAULT 7",
    "int",
    "text DEFAULT 'it''s \"x\" \\N, ü'",
    "text DEFAULT ''",
    "bool DEFAULT true",
    "date DEFAULT '2024-02-29'",
    "timestamp DEFAULT '2024-02-29 23:59:59.999999'",
    "timestamptz DEFAULT '2024-02-29 23:59:59.999999+05:30'",
    "timestamptz DEFAULT now()",
    "time DEFAULT '12:00'",
    "numeric DEFAULT 123456789012345678.000100",
    "numeric(6,2) DEFAULT 1.5",
    "float8 DEFAULT 0.1",
    "uuid DEFAULT '00000000-0000-4000-8000-000000000001'",
    "jsonb DEFAULT '{\"a\": [1, null]}'",
    "bytea DEFAULT '\\x00ff'",
    "interval DEFAULT '1 mon -1 day'",
]


def held_as_read_whole(twins: Twins) -> bool:
    """Return whether the target holds the same rows as a first run of the table would write."""
    twins.world.sync(twins.config("whole"))
    return twins.target_rows("guarded", as_text=True) == twins.target_rows("whole", as_text=True)


@pytest.mark.parametrize("column", ADDED)
def test_rows_that_nobody_wrote_get_what_the_catalogue_holds_of_an_added_column(world: World, column: str) -> None:
    world.execute(TABLE)
    twins = Twins(world)
    world.execute(f"ALTER TABLE t ADD COLUMN added {column}", "INSERT INTO t (v) VALUES ('new')")
    receipt = world.sync(twins.config("guarded"))
    assert [(f.event, f.action) for f in receipt.certificate.findings] == [COLUMN_ADDED]
    assert receipt.rows_exported == 1
    assert held_as_read_whole(twins)


@each_strategy
@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_added_column_is_filled_under_every_strategy(world: World, strategy: str, deletes: str) -> None:
    world.execute(TABLE)
    twins = Twins(world, strategy, deletes=deletes)
    world.execute("ALTER TABLE t ADD COLUMN one int DEFAULT 1, ADD COLUMN two text DEFAULT 'two', ADD COLUMN none int")
    world.execute("INSERT INTO t (v, none) VALUES ('new', 3)")
    assert twins.assert_equal(*[COLUMN_ADDED] * 3).rows_exported == 1
    twins.assert_unequal_without(guards.columns)


def test_added_column_is_read_where_there_is_no_key(world: World) -> None:
    """Equal rows in the target do not show which of them are older than the column."""
    world.execute("CREATE TABLE t (v text)", "INSERT INTO t VALUES ('a'), ('a')")
    twins = Twins(world, append_only=True)
    world.execute("ALTER TABLE t ADD COLUMN added int DEFAULT 7", "INSERT INTO t VALUES ('a', 8)")
    assert twins.assert_equal(COLUMN_READ).rows_exported == 3
    twins.assert_unequal_without(guards.columns, lambda patch: patch.setattr(xmin, "_would_repeat", lambda *_: ""))


@each_strategy
def test_added_column_whose_default_a_rewrite_took_into_the_rows_is_read(world: World, strategy: str) -> None:
    """VACUUM FULL removes the default of older rows from the catalogue."""
    world.execute(TABLE)
    twins = Twins(world, strategy)
    world.execute("ALTER TABLE t ADD COLUMN added int DEFAULT 7", "VACUUM FULL t")
    assert twins.assert_equal(COLUMN_READ).rows_exported == 10
    twins.assert_unequal_without(guards.columns)


@each_strategy
def test_added_column_of_a_partitioned_table_is_filled_where_its_partitions_agree(world: World, strategy: str) -> None:
    world.execute(PARTITIONED)
    twins = Twins(world, strategy)
    world.execute("ALTER TABLE t ADD COLUMN added int DEFAULT 7")
    assert twins.assert_equal(COLUMN_ADDED).rows_exported == 0
    world.execute("INSERT INTO t VALUES (13, now(), 8)")  # else the run would be idle
    twins.assert_unequal_without(guards.columns)


@each_strategy
@pytest.mark.parametrize("default", ["clock_timestamp()", "random()::text", "gen_random_uuid()"])
def test_added_column_whose_default_differs_from_row_to_row_is_read(world: World, strategy: str, default: str) -> None:
    world.execute(TABLE)
    twins = Twins(world, strategy)
    kind = {"c": "timestamptz", "r": "text", "g": "uuid"}[default[0]]
    world.execute(f"ALTER TABLE t ADD COLUMN added {kind} DEFAULT {default}")
    receipt = world.sync(twins.config("guarded"))
    assert (receipt.rows_exported, receipt.disposition) == (10, Disposition.REPLACE)
    assert held_as_read_whole(twins)


@pytest.mark.parametrize("strategy", sorted(STRATEGIES.keys() - {"xmin"}))
def test_generated_column_is_read(world: World, strategy: str) -> None:
    """For xmin all rows are new, because of the rewrite alone."""
    world.execute(TABLE)
    twins = Twins(world, strategy)
    world.execute("ALTER TABLE t ADD COLUMN added text GENERATED ALWAYS AS (upper(v)) STORED")
    world.execute("INSERT INTO t (v) VALUES ('new')")
    twins.assert_equal(COLUMN_READ)
    twins.assert_unequal_without(guards.columns, guards.rewritten)


def test_default_changed_since_the_column_was_added_is_not_that_of_the_rows(world: World) -> None:
    world.execute(TABLE)
    twins = Twins(world)
    world.execute("ALTER TABLE t ADD COLUMN added int DEFAULT 7", "ALTER TABLE t ALTER added SET DEFAULT 8")
    twins.assert_equal(COLUMN_ADDED)
    world.execute("ALTER TABLE t ADD COLUMN more int DEFAULT 1", "ALTER TABLE t ALTER more DROP DEFAULT")
    twins.assert_equal(COLUMN_ADDED)


@each_strategy
def test_column_dropped_and_made_again_is_another(world: World, strategy: str) -> None:
    world.execute(TABLE)
    twins = Twins(world, strategy)
    world.execute("ALTER TABLE t DROP COLUMN v", "ALTER TABLE t ADD COLUMN v text DEFAULT 'again'")
    twins.assert_equal(("column dropped", Action.ADAPT), COLUMN_ADDED)
    twins.assert_unequal_without(guards.columns)


@each_strategy
def test_columns_that_change_names_are_read(world: World, strategy: str) -> None:
    """The names change in one transaction, and no row is written."""
    world.execute(TABLE, "ALTER TABLE t ADD COLUMN w text DEFAULT 'w'")
    twins = Twins(world, strategy)
    world.execute(
        "BEGIN; ALTER TABLE t RENAME v TO x; ALTER TABLE t RENAME w TO v; ALTER TABLE t RENAME x TO w; COMMIT"
    )
    twins.assert_equal(*[("column renamed", Action.ADAPT)] * 2, ("column renamed", Action.RESEED))
    twins.assert_unequal_without(guards.columns)


@each_strategy
@pytest.mark.parametrize("change", ["ALTER v TYPE varchar", "ALTER v SET DEFAULT 'x'", "ALTER v SET NOT NULL"])
def test_change_of_the_catalogue_alone_loses_nothing(world: World, strategy: str, change: str) -> None:
    """The test does not show that a guard is needed, because the text of the rows stays."""
    world.execute(TABLE)
    twins = Twins(world, strategy)
    world.execute(f"ALTER TABLE t {change}", "INSERT INTO t (v) VALUES ('new')")
    events = {"v TYPE": [("column type", Action.ADAPT)], "v SET NOT": [("not null", Action.GO_ON)]}
    twins.assert_equal(*next((found for text, found in events.items() if text in change), []))


def test_value_that_the_warehouse_cannot_hold_is_handled_alike_in_old_rows_and_new(world: World) -> None:
    world.execute(TABLE)
    twins = Twins(world)
    world.execute("ALTER TABLE t ADD COLUMN added timestamptz DEFAULT 'infinity'", "INSERT INTO t (v) VALUES ('new')")
    world.sync(twins.config("guarded"))
    assert {row[-1] for row in twins.target_rows("guarded")} == {"infinity"}


@each_strategy
def test_renamed_label_of_an_enum_reaches_rows_that_nobody_wrote(world: World, strategy: str) -> None:
    mood: Any = "CREATE TYPE mood AS ENUM ('sad', 'ok')"
    world.execute(mood, TABLE, "ALTER TABLE t ADD COLUMN m mood DEFAULT 'sad'")
    twins = Twins(world, strategy)
    world.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    twins.assert_equal(ENUM_RENAMED)
    twins.assert_unequal_without(guards.columns)
