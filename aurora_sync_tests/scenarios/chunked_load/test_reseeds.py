"""A large table is read again in chunks, over a target that has rows."""

from __future__ import annotations

from datetime import timedelta
from unittest import mock

import pytest

from aurora_sync.engine import load
from aurora_sync.engine.overview import Standing, overview
from aurora_sync.errors import GuardError
from aurora_sync.model.certificate import Level
from aurora_sync_tests.scenarios.chunked_load.loads import (
    ROWS,
    WIDE,
    Killed,
    chunked,
    ended_equal,
    killed,
    loaded_partly,
    once,
    progress,
    wide,
)
from aurora_sync_tests.scenarios.world import World


def test_chunks_are_merged_into_older_rows(world: World) -> None:
    wide(world)
    table = chunked()
    world.sync(table)
    world.execute("UPDATE t SET v = 'new' WHERE id % 3 = 0", "DELETE FROM t WHERE id = 7")
    receipt = ended_equal(world, table, full=True)
    assert receipt.load
    assert receipt.load.replaces
    assert receipt.certificate.level is Level.CERTIFIED


def test_rows_that_only_the_target_has_leave_although_an_outbox_is_complete(world: World) -> None:
    wide(world)
    table = chunked("outbox")
    world.make(table)
    world.sync(table)
    world.query('UPDATE "PUBLIC"."T" SET "ID" = 99 WHERE "ID" = 5')
    receipt = ended_equal(world, table, full=True)
    assert receipt.deleted == 1


@pytest.mark.parametrize("watermark_type", ["xmin", "outbox"])
def test_row_that_was_marked_as_deleted_and_is_there_again(world: World, watermark_type: str) -> None:
    wide(world)
    table = chunked(watermark_type, deletes="soft")
    if watermark_type == "outbox":
        world.make(table)
    world.sync(table)
    world.execute("DELETE FROM t WHERE id = 5")
    before = world.sync(table, reconcile=True).run_sequence
    world.execute(f"INSERT INTO t SELECT i, {WIDE} FROM generate_series(5, 5) i")
    receipt = world.sync(table, full=True)
    assert receipt.load
    assert receipt.load.first_run == before + 1  # it did not begin again
    present = world.query('SELECT COUNT(*) FROM "PUBLIC"."T" WHERE "_DELETED" IS DISTINCT FROM TRUE')
    assert present == [(ROWS,)]
    world.assert_verified(table)


def test_load_by_another_key_replaces_the_older_rows(world: World) -> None:
    wide(world, columns="id int PRIMARY KEY, v text, w int GENERATED ALWAYS AS (id % 7) STORED")
    table = chunked()
    world.sync(table)
    rekeyed = "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, w)"
    world.execute(rekeyed, "UPDATE t SET v = 'new' WHERE id > 20")
    assert ended_equal(world, table).load


def test_older_rows_without_the_new_key_leave(world: World) -> None:
    wide(world, "ALTER TABLE t ADD k int")
    table = chunked()
    world.sync(table)
    world.execute(
        "UPDATE t SET k = id + 100",
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER k SET NOT NULL, ADD PRIMARY KEY (k)",
    )
    loaded_partly(world, table)
    assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T" WHERE "K" IS NULL') == [(0,)]
    ended_equal(world, table)


def test_append_only_table_that_has_rows_is_read_in_one_snapshot(world: World) -> None:
    wide(world, columns="id int, v text")
    table = chunked(append_only=True)
    assert world.sync(table).load
    receipt = ended_equal(world, table, full=True)
    assert receipt.load is None


def test_two_rows_of_one_key_are_refused(world: World) -> None:
    """A unique index may be corrupt, for example after a change of the operating system's collations."""
    wide(world, rows=0, columns="id int NOT NULL, v text")
    unique = "UPDATE pg_index SET indisunique = {} WHERE indexrelid = 'i'::regclass"
    world.execute(
        f"INSERT INTO t SELECT CASE i WHEN 40 THEN 9 ELSE i END, {WIDE} FROM generate_series(1, 40) i",
        "CREATE INDEX i ON t (id)",
        unique.format(True),
    )
    table = chunked(primary_key="id")
    for _ in range(2):
        with pytest.raises(GuardError, match="not unique"):
            world.sync(table)
    world.execute(unique.format(False), "UPDATE t SET id = 40 WHERE v LIKE '%x40'", unique.format(True))
    ended_equal(world, table)


def test_target_of_a_load_that_is_aborted_after_a_pass_is_not_certified(world: World) -> None:
    wide(world)
    table = chunked()
    with mock.patch.object(load, "PASS_AFTER", timedelta(0)), killed("ends", after=0), pytest.raises(Killed):
        world.sync(table)
    assert progress(table, world.places).passes == 1
    load.abort(table, world.places)
    (state,) = overview([table], world.places).tables
    assert (state.standing, state.entry and state.entry.target_rows) == (Standing.UNCERTIFIED, 0)
    assert "aborted" in state.sentence
    ended_equal(world, table)


def test_an_aborted_load_over_older_rows_keeps_them(world: World) -> None:
    wide(world)
    table = chunked()
    world.sync(table)
    loaded_partly(world, table, full=True)
    load.abort(table, world.places)
    assert world.target_rows(table).total() == ROWS
    ended_equal(world, table)


def test_an_aborted_load_keeps_older_rows_that_are_marked_as_deleted(world: World) -> None:
    wide(world)
    table = chunked(deletes="soft")
    world.sync(table)
    world.execute("DELETE FROM t")
    world.sync(table, reconcile=True, allow_deletes=True)
    world.execute(f"INSERT INTO t SELECT i, {WIDE} FROM generate_series(1001, {1000 + ROWS}) i", "VACUUM t")
    loaded_partly(world, table, chunks=0, full=True)
    load.abort(table, world.places)
    assert world.query('SELECT COUNT(*), COUNT(CASE WHEN "_DELETED" THEN 1 END) FROM "PUBLIC"."T"') == [(ROWS, ROWS)]


def test_delete_guard_counts_older_rows_that_are_gone(world: World) -> None:
    wide(world)
    table = chunked(delete_guard={"max_rows": 10, "max_share": 0.1})
    world.sync(table)
    world.execute("UPDATE t SET id = id + 100 WHERE id <= 30")
    with pytest.raises(GuardError):
        world.sync(table, full=True)
    assert progress(table, world.places).replaces
    ended_equal(world, table, allow_deletes=True)


def test_delete_guard_does_not_count_rows_that_the_load_read(world: World) -> None:
    wide(world)
    table = chunked()
    with once("applied", lambda: world.execute("DELETE FROM t WHERE id <= 35"), after=6):
        world.sync(table)
    world.assert_equal(table)
