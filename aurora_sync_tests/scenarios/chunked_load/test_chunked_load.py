"""The whole of a large table, read in chunks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import load, one_chunk
from aurora_sync.model.certificate import Level
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.ddl import target_name
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync_tests.scenarios.chunked_load import loads
from aurora_sync_tests.scenarios.chunked_load.loads import killed
from aurora_sync_tests.scenarios.world import World, config

ROWS = 2_000
# 2,000 rows of about 60 bytes have some 20 blocks.
CHUNK = {"chunk_bytes": 32_768}


class Killed(BaseException):
    """Ends a run as a kill does: no handler of an Exception sees it."""


def made(world: World, *more: str) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) WITH (fillfactor = 100)",
        f"INSERT INTO t SELECT i, repeat('x', 30) || i FROM generate_series(1, {ROWS}) i",
        *more,
    )


def chunked(watermark_type: str = "xmin", **keys: Any) -> TableConfig:
    return config("t", watermark_type, load=CHUNK, **keys)


@pytest.fixture
def read() -> Iterator[list[int]]:
    """Return the numbers of the chunks that are read, in order."""
    found: list[int] = []
    export = one_chunk.export_chunk

    def exporting(*arguments: Any) -> StagedIncrement:
        chunk = export(*arguments)
        assert chunk.manifest.chunk
        found.append(chunk.manifest.chunk.number)
        return chunk

    with mock.patch.object(one_chunk, "export_chunk", exporting):
        yield found


def between_chunks(world: World, *statements: str, after: int = 1) -> Any:
    """Return a context that runs statements when ``after`` chunks are in the target, and no chunk is being read."""
    return loads.once("applied", lambda: world.execute(*statements), after=after - 1)


def killed_after(chunks: int) -> Any:
    apply, count = one_chunk.apply_chunk, 0

    def applying(*arguments: Any) -> bool:
        nonlocal count
        if count == chunks:
            raise Killed
        count += 1
        return apply(*arguments)

    return mock.patch.object(one_chunk, "apply_chunk", applying)


def test_large_table_is_loaded_in_chunks_and_certified(world: World, read: list[int]) -> None:
    made(world)
    table = chunked()
    receipt = world.sync(table)
    world.assert_equal(table)
    assert receipt.load
    assert read == list(range(receipt.load.chunks))
    assert receipt.load.chunks > 3
    assert receipt.rows_exported == ROWS
    assert receipt.certificate.level is Level.CERTIFIED
    assert receipt.watermark_after.load is None
    assert not world.staging_tables()
    assert world.assert_verified(table) == ROWS


def test_table_of_less_than_two_chunks_is_read_in_one_snapshot(world: World, read: list[int]) -> None:
    made(world)
    receipt = world.sync(config("t"))
    assert (receipt.load, read) == (None, [])


def test_load_goes_on_after_a_kill(world: World, read: list[int]) -> None:
    made(world)
    table = chunked()
    with killed_after(2), pytest.raises(Killed):
        world.sync(table)
    first = read[:]
    state = one_chunk.loading_state(table, world.places)
    assert state
    assert state.watermark
    assert state.watermark.load
    assert state.watermark.load.done == ((0, 1),)
    read.clear()
    receipt = world.sync(table)
    world.assert_equal(table)
    assert receipt.load
    assert first + read == list(range(receipt.load.chunks))  # what was staged is not read again


@pytest.mark.parametrize(
    "moves",
    [
        "UPDATE t SET v = 'moved' WHERE id > 1900",
        "UPDATE t SET v = 'moved' WHERE id < 100",
        "DELETE FROM t WHERE id < 50",
        "DELETE FROM t WHERE id > 1950",
        "UPDATE t SET id = id + 10000 WHERE id % 7 = 0",
        "INSERT INTO t SELECT i, 'new' FROM generate_series(5001, 5100) i",
        "ALTER TABLE t ADD COLUMN w int DEFAULT 7",
    ],
)
def test_changes_between_chunks_are_in_the_target(world: World, moves: str) -> None:
    made(world)
    table = chunked()
    with between_chunks(world, moves):
        receipt = world.sync(table)
    assert receipt.load
    world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_verified(table)


@pytest.mark.parametrize(
    "moves", ["VACUUM FULL t", "TRUNCATE t", "ALTER TABLE t ALTER v TYPE varchar(99)", "ALTER TABLE t RENAME v TO w"]
)
def test_load_begins_again_when_rows_have_other_places_or_columns(world: World, moves: str, read: list[int]) -> None:
    made(world)
    table = chunked()
    with between_chunks(world, moves, after=2):
        world.sync(table)
    world.assert_equal(table)
    world.assert_verified(table)


def test_target_is_bounded_after_a_pass_and_certified_after_the_last_run(world: World) -> None:
    made(world)
    table = chunked()
    with mock.patch.object(load, "PASS_AFTER", timedelta(0)), killed("ends", after=0), pytest.raises(loads.Killed):
        world.sync(table)
    with world.places.warehouse.session() as session:
        entry = sync_log.newest_entry(session, target_name(table), world.places.log_schema)
    assert entry
    assert json.loads(entry.certificate)["level"] == Level.BOUNDED.value
    assert loads.progress(table, world.places).passes == 1
    world.execute("DELETE FROM t WHERE id % 7 = 0")
    receipt = world.sync(table)
    world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED
