"""Faults in the middle of a load: the next run goes on, or says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.engine import load
from aurora_sync.errors import SourceError, StageError, WarehouseError
from aurora_sync.model.certificate import Level
from aurora_sync.source.database import Source
from aurora_sync_tests.scenarios.chunked_load.loads import (
    WIDE,
    chunked,
    ended_equal,
    loaded_partly,
    once,
    progress,
    wide,
)
from aurora_sync_tests.scenarios.world import World


def test_names_with_quotes_and_dots(world: World) -> None:
    name = """o"r'd %er.s"""
    quoted = '"o""r\'d %er.s"'
    wide(world, f"ALTER TABLE t RENAME TO {quoted}")
    table = chunked(table=name, target_table="quoted")
    loaded_partly(world, table)
    world.execute(f"UPDATE {quoted} SET v = 'new' WHERE id % 4 = 0")
    receipt = world.sync(table)
    assert receipt.load
    assert receipt.load.first_run == 1
    assert receipt.certificate.level is Level.CERTIFIED
    assert sorted(world.query('SELECT "ID", "V" FROM "PUBLIC"."QUOTED"')) == sorted(
        world.execute(f"SELECT id, v FROM {quoted}")
    )
    assert load.abort(table, world.places) is None


def test_password_that_changes_between_chunks(world: World) -> None:
    wide(world)
    table, reader = chunked(), f"reader_{uuid4().hex}"
    world.execute(
        f"CREATE ROLE {reader} LOGIN PASSWORD 'first'",
        f"GRANT SELECT ON t TO {reader}",
        "GRANT pg_monitor TO " + reader,
    )
    try:
        world.places = replace(world.places, source=Source(make_dsn(world.dsn, user=reader, password="first")))
        changed = once("applied", lambda: world.execute(f"ALTER ROLE {reader} PASSWORD 'second'"), after=1)
        with changed, pytest.raises(SourceError, match="password"):
            world.sync(table)
        done = progress(table, world.places)
        assert done.chunks_done >= 2
        assert done.left
        world.places = replace(world.places, source=Source(make_dsn(world.dsn, user=reader, password="second")))
        receipt = world.sync(table)
        assert receipt.load
        assert receipt.load.id == done.id
        world.assert_equal(table)
    finally:
        world.execute(f"DROP OWNED BY {reader}", f"DROP ROLE {reader}")


def test_partition_of_ten_is_dropped(world: World) -> None:
    world.execute("CREATE TABLE t (id int, p int, v text, PRIMARY KEY (id, p)) PARTITION BY LIST (p)")
    for p in range(10):
        world.execute(
            f"CREATE TABLE t{p} PARTITION OF t FOR VALUES IN ({p}) WITH (fillfactor = 100)",
            f"ALTER TABLE t{p} ALTER v SET STORAGE PLAIN",
            f"INSERT INTO t SELECT i, {p}, {WIDE} FROM generate_series(1, 20) i",
        )
    table = chunked(load={"chunk_bytes": 80_000}, delete_guard={"max_rows": 0})
    with once("applied", lambda: world.execute("DROP TABLE t4", "UPDATE t SET v = 'new' WHERE id = 7"), after=1):
        receipt = world.sync(table)
    assert receipt.load
    assert receipt.load.chunks >= 4
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_equal(table)
    world.assert_verified(table)


def test_staged_objects_that_are_gone_before_the_warehouse_takes_them(world: World) -> None:
    wide(world)
    table, store = chunked(), world.places.stage.store

    def removed() -> None:
        store.delete([key for key in store.list(f"{store.prefix}public.t/") if key.endswith(".zst")])

    with once("apply", removed, after=2), pytest.raises((StageError, WarehouseError)):
        world.sync(table)
    first = progress(table, world.places)
    assert first.chunks_done == 2
    receipt = ended_equal(world, table)
    assert receipt.load
    assert receipt.load.id == first.id


@pytest.mark.parametrize("how", ["aborted", "restarted"])
def test_load_ends_although_its_target_was_dropped(world: World, how: str) -> None:
    wide(world)
    table = chunked()
    loaded_partly(world, table)
    world.query('DROP TABLE "PUBLIC"."T"')
    if how == "aborted":
        found = load.abort(table, world.places)
        assert found
        assert found.chunks_done == 2
    ended_equal(world, table)


@pytest.mark.closes_warehouse
def test_load_begins_anew_when_the_warehouse_is_lost(world: World) -> None:
    wide(world)
    table = chunked()
    first = loaded_partly(world, table)
    world.warehouse_path.unlink()
    receipt = ended_equal(world, table)
    assert receipt.load
    assert receipt.load.id != first.id
    assert receipt.load.chunks_done == receipt.load.chunks
