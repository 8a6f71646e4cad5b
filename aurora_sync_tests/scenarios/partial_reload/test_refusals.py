"""Requests that do not fit are refused with the reason and a way out, and nothing is changed."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.read_again import problem
from aurora_sync.engine.reload import reload
from aurora_sync.errors import ConfigError, GuardError
from aurora_sync.model.reload import Reload
from aurora_sync_tests.scenarios.world import World, config

MAKE = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz, local timestamp, day date)",
    "INSERT INTO t SELECT n, 'v' || n, now(), now(), now() FROM generate_series(1, 10) n",
)


def assert_refused(world: World, table: TableConfig, expected: str, **request: Any) -> None:
    with pytest.raises(ConfigError) as raised:
        reload(table, world.places, Reload(**request))
    assert expected in str(raised.value)
    if "never synced" not in expected:
        assert world.run_sequences(table) == [1]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({"lower": "abc"}, "from: found 'abc'; expected an integer, such as 1000, for column id of type integer"),
        ({"upper": "1.5"}, "to: found '1.5'; expected an integer"),
        ({"lower": "9223372036854775808"}, "expected an integer"),
        ({"lower": "1 OR 1=1"}, "expected an integer"),
        ({"lower": "5", "upper": "5"}, "found the range from 5 to 5; expected from to be less than to"),
        ({"lower": "10", "upper": "9"}, "expected from to be less than to"),
        ({"since": "2026-01-01"}, "has none of its own; set column to the name of a column"),
        ({"since": "2026-01-01", "column": "att"}, "the table has no column att; did you mean at?"),
        ({"since": "2026-01-01", "column": "v"}, "column v is text; expected a timestamp or a date"),
        ({"since": "yesterday", "column": "at"}, "since: found 'yesterday'; expected a time, such as 2026-01-31T12:00"),
        ({"since": "0001-01-01T00:00+10:00", "column": "at"}, "expected a time"),
        ({"since": "2026-01-01T00:00Z", "column": "local"}, "expected a time without zone, as the column has it"),
        ({"since": "2026-01-01T00:00", "column": "day"}, "expected a date, such as 2026-01-31, for column day"),
    ],
)
def test_wrong_bound_is_refused(world: World, request_: dict[str, str], expected: str) -> None:
    world.execute(*MAKE)
    world.sync(config())
    assert_refused(world, config(), expected, **request_)


@pytest.mark.parametrize(
    "request_", [{}, {"since": "2026-01-01", "lower": "1"}, {"column": "at"}, {"column": "at", "upper": "5"}]
)
def test_request_names_a_time_or_a_range(request_: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="since"):
        Reload(**request_)


@pytest.mark.parametrize("key", ["text", "char(5)", "bytea", "bool", "float8", "numeric", "int[]"])
def test_key_that_the_warehouse_orders_in_another_way_is_refused(world: World, key: str) -> None:
    world.execute(f"CREATE TABLE t (id {key} PRIMARY KEY, at date)")
    world.sync(config())
    assert_refused(world, config(), "give a time with since, or run a reconcile", lower="1")


def test_key_that_a_policy_stores_as_text_is_refused(world: World) -> None:
    world.execute(*MAKE)
    table = config(types={"int4": "text"})
    world.sync(table)
    assert_refused(world, table, "is a text in the warehouse", lower="1")


def test_key_that_became_text_in_the_target_is_refused_before_rows_change(world: World) -> None:
    """A date that the warehouse cannot hold, such as infinity, makes the column text."""
    world.execute("CREATE TABLE t (id date PRIMARY KEY)", "INSERT INTO t VALUES ('infinity'), ('2026-01-01')")
    world.sync(config())
    world.execute("DELETE FROM t WHERE id = '2026-01-01'")
    with pytest.raises(GuardError, match="which orders keys in another way than date"):
        reload(config(), world.places, Reload(lower="2025-01-01"))
    assert world.run_sequences(config()) == [1]


def test_table_that_was_never_synced_is_refused(world: World) -> None:
    world.execute(*MAKE)
    assert_refused(world, config(), "was never synced, so there is no part to read again (run", lower="1")


def test_target_that_lost_rows_is_refused(world: World) -> None:
    """The next sync reads the whole table, and so does no reload."""
    world.execute(*MAKE)
    world.sync(config())
    world.query('DELETE FROM "PUBLIC"."T" WHERE "ID" = 5')
    assert_refused(
        world, config(), "the target has 9 rows, but had 10 after run 1 (run `aurora-sync sync --full", lower="1"
    )
    world.sync(config(), full=True)
    world.assert_equal(config())


def test_source_that_became_another_table_is_refused(world: World) -> None:
    world.execute(*MAKE)
    world.sync(config())
    world.execute("DROP TABLE t", *MAKE)
    expected = "a part cannot be read again now: reading the whole table again: the table was recreated or swapped"
    assert_refused(world, config(), expected, lower="1")
    world.sync(config())
    world.assert_equal(config())


@pytest.mark.parametrize(
    ("watermark_type", "expected"),
    [
        ("full_snapshot", "each sync reads the whole table"),
        ("logical", "older changes in it would overwrite them"),
        ("debezium", "older changes in it would overwrite them"),
        ("dms", "older changes in it would overwrite them"),
    ],
)
def test_strategy_without_parts_is_refused(watermark_type: str, expected: str) -> None:
    keys = {"dms": {"files": "s3://bucket/dms/public/t/"}, "debezium": {"topic_prefix": "app"}}.get(watermark_type, {})
    found = problem(config(watermark_type=watermark_type, **keys), ("id",))
    assert found
    assert expected in found[0]


def test_table_without_a_key_is_refused(world: World) -> None:
    world.execute("CREATE TABLE t (v text, at timestamptz)")
    table = config(append_only=True)
    world.sync(table)
    expected = "rows that are read again would be added a second time (run `aurora-sync sync --full"
    assert_refused(world, table, expected, since="2026-01-01", column="at")
