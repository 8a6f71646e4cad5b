"""Chunks in Snowflake: on the tests' Snowflake server, and several transactions at once on a small Snowflake."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.engine import one_chunk
from aurora_sync.engine.places import Places
from aurora_sync.model.certificate import Level
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake
from aurora_sync_tests.scenarios.chunked_load.loads import chunked, loaded_partly, progress, wide
from aurora_sync_tests.scenarios.world import World
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, Server, SnowflakeLike

_FENCE = re.compile(r'UPDATE (?P<fence>\S+) SET "RUN_SEQUENCE" = "RUN_SEQUENCE" \+ 1')


class WithSchema(SnowflakeWarehouse):
    """The server makes tables of its own for a MERGE, in the schema of the session."""

    def _connect(self, given: dict[str, Any]) -> Any:
        return super()._connect({**given, "schema": "LANDING"})


def test_snowflake_server_takes_a_load_in_chunks(
    world: World, fakesnow_server: FakeSnowflake, snowflake_database: str
) -> None:
    settings = fakesnow_server.settings(snowflake_database, f"{snowflake_database}.landing.files")
    warehouse = WithSchema(settings, stage_prefix=world.places.stage.store.prefix)
    with warehouse.session() as session:
        session.query("CREATE SCHEMA IF NOT EXISTS LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = '{world.stage_url}/'")
    stage = Stage(world.places.stage.store, target=warehouse.describe())
    world.places = Places(world.places.source, stage, warehouse)
    wide(world, rows=20)
    table = chunked()
    loaded_partly(world, table, chunks=1)
    world.execute("UPDATE t SET v = 'new' WHERE id % 4 = 0", "DELETE FROM t WHERE id IN (1, 20)")
    receipt = world.sync(table)
    assert receipt.certificate.level is Level.CERTIFIED
    assert receipt.load
    assert receipt.load.chunks_done == receipt.load.chunks >= 3
    with warehouse.session() as session:
        found = session.query('SELECT "ID", "V" FROM "PUBLIC"."T"')
    assert Counter((int(id_), v) for id_, v in found) == Counter(world.execute("SELECT id, v FROM t"))


@pytest.fixture
def server(world: World, tmp_path: Path) -> Server:
    """Return a small Snowflake that waits for locks, and is the warehouse of the world."""
    made = Server(tmp_path / "like.duckdb", world.places.stage.store, lock_timeout=60)
    warehouse = SnowflakeLike.on(made)
    stage = Stage(world.places.stage.store, target=warehouse.describe())
    world.places = Places(world.places.source, stage, warehouse)
    return made


def staged(world: World, *numbers: int, **keys: Any) -> list[StagedIncrement]:
    table = chunked(**keys)
    loaded_partly(world, table)
    state = one_chunk.loading_state(table, world.places)
    assert state
    return [one_chunk.export_chunk(table, world.places, state, number) for number in numbers]


def ends_equal(world: World) -> None:
    receipt = world.sync(chunked())
    assert receipt.certificate.level is Level.CERTIFIED
    with world.places.warehouse.session() as session:
        found = session.query('SELECT "ID", "V" FROM "PUBLIC"."T"')
    assert Counter(found) == Counter(world.execute("SELECT id, v FROM t"))


@pytest.mark.parametrize("numbers", [(3, 4, 5, 6), (3, 3, 3, 3)], ids=["different", "equal"])
def test_chunks_are_applied_at_the_same_time(world: World, server: Server, numbers: tuple[int, ...]) -> None:
    wide(world)
    chunks = staged(world, *numbers)
    staged_all, waiting = threading.Event(), list[str]()

    def before(_: Connection, statement: str) -> None:
        if _FENCE.match(statement):
            waiting.append(statement)
            if len(waiting) == len(chunks):
                staged_all.set()
            assert staged_all.wait(120)

    server.before = before
    with ThreadPoolExecutor(len(chunks)) as pool:
        done = list(pool.map(lambda chunk: one_chunk.apply_chunk(world.places, chunk), chunks))
    assert sum(done) == len(set(numbers))
    assert progress(chunked(), world.places).chunks_done == 2 + len(set(numbers))
    server.before = lambda *_: None
    ends_equal(world)


def test_update_of_the_fence_counts_from_before_its_wait(world: World, server: Server) -> None:
    """A statement that waited for a lock may continue with the state from before the wait."""
    wide(world)
    chunk, other = staged(world, 3, 4)
    one_chunk.apply_chunk(world.places, other)
    stale = 0

    def after(connection: Connection, statement: str) -> None:
        nonlocal stale
        if (found := _FENCE.match(statement)) and not stale:
            stale += 1
            connection._run(f'UPDATE {found["fence"]} SET "RUN_SEQUENCE" = "RUN_SEQUENCE" - 1', ())

    server.after = after
    assert one_chunk.apply_chunk(world.places, chunk)
    assert stale
    assert progress(chunked(), world.places).done == ((0, 1), (3, 4))
    server.after = lambda *_: None
    ends_equal(world)


def test_answer_to_the_commit_of_a_chunk_is_lost(world: World, server: Server) -> None:
    wide(world)
    (chunk,) = staged(world, 3)
    lost = 0

    def after(connection: Connection, statement: str) -> None:
        nonlocal lost
        if statement == "COMMIT" and not lost:
            lost += 1
            connection.dead = True

    server.after = after
    with pytest.raises(Exception, match="connection"):
        one_chunk.apply_chunk(world.places, chunk)
    server.after = lambda *_: None
    assert progress(chunked(), world.places).has(3)
    assert not one_chunk.apply_chunk(world.places, chunk)
    ends_equal(world)


def test_another_chunk_changes_the_columns_while_one_is_staged(world: World, server: Server) -> None:
    """The staged values would be written in the form of the former type."""
    exact = "id int PRIMARY KEY, v text, n timestamp DEFAULT '2020-01-01 00:00:00'"
    wide(world, "UPDATE t SET n = 'infinity' WHERE id = 40", columns=exact)
    table = chunked(column_types={"n": "exact"})
    first = loaded_partly(world, table)
    state = one_chunk.loading_state(table, world.places)
    assert state
    chunk, other = (one_chunk.export_chunk(table, world.places, state, number) for number in (5, first.chunks - 1))
    assert other.manifest.rows
    between(server, lambda: one_chunk.apply_chunk(world.places, other))
    with pytest.raises(Exception, match="columns of the target changed"):
        one_chunk.apply_chunk(world.places, chunk)
    server.before = lambda *_: None
    receipt = world.sync(table)
    assert receipt.certificate.level is Level.CERTIFIED
    with world.places.warehouse.session() as session:
        found = session.query('SELECT "ID", "N" FROM "PUBLIC"."T"')
    assert Counter(found) == Counter(world.execute("SELECT id, n::text FROM t"))


def between(server: Server, do: Callable[[], object]) -> None:
    """Call ``do`` before the next transaction of a chunk begins."""
    done = 0

    def before(_: Connection, statement: str) -> None:
        nonlocal done
        if statement.startswith("BEGIN") and not done:
            done += 1
            do()

    server.before = before
