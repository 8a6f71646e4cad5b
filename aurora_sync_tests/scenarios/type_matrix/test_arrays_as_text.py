"""An array that no ARRAY holds: its column becomes text, and every row has the text that PostgreSQL prints."""

from __future__ import annotations

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync_tests.scenarios.logical.conftest import Streamed, streamed
from aurora_sync_tests.scenarios.world import World, config

__all__ = ["streamed"]

TABLE = "CREATE TABLE t (id int PRIMARY KEY, a int[], b text[], v text)"
ROWS = "INSERT INTO t VALUES (1, '{1,2,NULL}', '{x,\"y z\"}', 'v'), (2, '{}', NULL, 'v'), (3, NULL, '{}', 'v')"
ODD = "INSERT INTO t VALUES (4, '[0:1]={7,8}', '{a}', 'v')"


def in_target(world: World, column: str = "A") -> dict[int, object]:
    return dict(world.query(f'SELECT "ID", "{column}" FROM "PUBLIC"."T"'))


def assert_as_printed(world: World, table: TableConfig) -> None:
    printed = dict(world.execute("SELECT id, a::text FROM t"))
    assert in_target(world) == printed
    world.assert_verified(table)


@pytest.mark.parametrize("strategy", ["xmin", "full_snapshot", "outbox"])
def test_every_row_has_the_text_of_postgresql_from_then_on(world: World, strategy: str) -> None:
    table = config("t", strategy)
    world.execute(TABLE, ROWS)
    if strategy == "outbox":
        world.make(table)
    world.sync(table)
    world.execute(ODD)
    receipt = world.sync(table)
    assert "these columns become text, because an ARRAY cannot hold some of their values: a" in " ".join(
        receipt.warnings
    )
    assert_as_printed(world, table)
    world.execute("INSERT INTO t VALUES (5, '{5}', '{b}', 'v')", "UPDATE t SET a = '{9,NULL}' WHERE id = 1")
    receipt = world.sync(table)
    assert not [finding for finding in receipt.certificate.findings if finding.event == "policy"]
    if strategy != "full_snapshot":
        assert receipt.rows_exported == 2
    assert_as_printed(world, table)
    world.execute("DELETE FROM t WHERE id = 4")  # the type does not depend on which values are present
    world.sync(table, reconcile=True)
    assert_as_printed(world, table)
    world.sync(table, full=True)
    assert_as_printed(world, table)


@pytest.mark.parametrize("first", [True, False], ids=["in the first load", "in a full read"])
def test_whole_read_that_finds_it_is_done_once_more(world: World, first: bool) -> None:
    table = config("t")
    world.execute(TABLE, ROWS)
    if not first:
        world.sync(table)
    world.execute(ODD)
    world.sync(table, full=not first)
    assert_as_printed(world, table)


def test_two_columns_one_after_the_other(world: World) -> None:
    table = config("t")
    world.execute(TABLE, ROWS, ODD)
    world.sync(table)
    world.execute("INSERT INTO t VALUES (5, '{1}', '[3:3]={z}', 'v')")
    world.sync(table)
    assert_as_printed(world, table)
    assert in_target(world, "B") == dict(world.execute("SELECT id, b::text FROM t"))


def test_frozen_schema_lets_it_become_text(world: World) -> None:
    table = config("t", schema_changes="freeze")
    world.execute(TABLE, ROWS)
    world.sync(table)
    world.execute(ODD)
    world.sync(table)
    assert_as_printed(world, table)


def test_target_of_an_earlier_version_is_read_again_with_the_next_change(world: World) -> None:
    """The target has VARCHAR, with the JSON of older rows, and a watermark that knows the column as an array."""
    table = config("t")
    world.execute(TABLE, ROWS)
    world.sync(table)
    world.query('ALTER TABLE "PUBLIC"."T" ALTER COLUMN "A" SET DATA TYPE VARCHAR')
    world.execute("UPDATE t SET v = 'w' WHERE id = 2")
    world.sync(table)
    assert_as_printed(world, table)


def test_stream_brings_the_text_as_well(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute(TABLE, ROWS)
    streamed.setup(table)
    streamed.one(table)
    world.execute(ODD)
    streamed.one(table)
    assert_as_printed(world, table)
    world.execute("INSERT INTO t VALUES (5, '{5,NULL}', '{b}', 'v')")
    assert streamed.one(table).method.startswith("stream")
    assert_as_printed(world, table)
