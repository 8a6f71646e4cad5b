"""Several processes load one table: the lease, workers and loaders that are killed, and the same chunk twice."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import psutil  # type: ignore[import-untyped]
import pytest
from psycopg2 import sql

from aurora_sync.config.load import LoadOptions
from aurora_sync.engine import lease, load, one_chunk
from aurora_sync.engine.lease import Lease, LeaseError
from aurora_sync.errors import AuroraSyncError, SourceError
from aurora_sync.model.certificate import Level
from aurora_sync.model.export import Exported
from aurora_sync.source.reading import Reading
from aurora_sync.stage import layout
from aurora_sync_tests.scenarios.chunked_load.loader import loading
from aurora_sync_tests.scenarios.chunked_load.loads import (
    CHUNK,
    chunked,
    ended_equal,
    loaded_partly,
    progress,
    wide,
)
from aurora_sync_tests.scenarios.world import World

pytestmark = pytest.mark.closes_warehouse  # other processes open it


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_several_processes_load_chunks(world: World) -> None:
    wide(world, rows=20)
    table = chunked(load={**CHUNK, "parallel": 3})
    receipt = ended_equal(world, table)
    assert receipt.load
    assert receipt.load.chunks_done == receipt.load.chunks
    assert receipt.certificate.level is Level.CERTIFIED


@pytest.mark.long
def test_worker_is_killed_in_the_middle(world: World) -> None:
    wide(world)
    with loading(world, 3) as process:
        assert process.stdout
        assert process.stdout.readline() == "chunk\n"
        workers = [
            child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())
        ]
        workers[0].kill()
        assert process.wait() == 1
    assert progress(chunked(), world.places).chunks_done
    ended_equal(world, chunked())


@pytest.mark.long
@pytest.mark.parametrize("parallel", [1, 3])
def test_loader_is_killed_in_the_middle(world: World, parallel: int) -> None:
    wide(world)
    with loading(world, parallel) as process:
        assert process.stdout
        assert process.stdout.readline() == "chunk\n"
        children = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        until(lambda: not any(child.is_running() for child in children), "workers outlive their loader")
    first = progress(chunked(), world.places)
    assert first.chunks_done
    receipt = ended_equal(world, chunked())
    assert receipt.load
    assert receipt.load.id == first.id


def holding(world: World, *, holder: str = "somebody", pid: int | None = None, seconds: float = 60) -> str:
    """Write a lease, and return its key."""
    table = chunked()
    store = world.places.stage.store
    name = f"{table.qualified_name} to {'.'.join(table.target)}"
    until_then = (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
    host = socket.gethostname() if pid else "another-host"
    key = f"{layout.lease_prefix(store.prefix, name)}{7:010d}"
    store.put_new(key, json.dumps(asdict(lease._Held(holder, host, pid or 1, until_then))).encode())
    return key


def test_second_loader_says_who_loads(world: World) -> None:
    wide(world)
    table = chunked()
    holding(world, holder="process 17 on host b")
    receipt = world.sync(table)
    assert receipt.certificate.level is Level.UNCERTIFIED
    assert not receipt.changed
    assert receipt.load
    assert receipt.load.chunks_done == 0
    assert re.search("0 of . chunks are loaded: process 17 on host b loads the table", receipt.warnings[-1])
    with pytest.raises(LeaseError, match="process 17 on host b"):
        load.abort(table, world.places)


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("kind", ["expired", "ended"])
def test_lease_of_a_loader_that_was_killed_is_taken(world: World, kind: str) -> None:
    wide(world)
    if kind == "expired":
        holding(world, seconds=-1)
    else:
        holding(world, pid=ended_process())
    ended_equal(world, chunked())
    assert not [key for key in world.objects() if "lease" in key]


def test_loader_that_lost_its_lease_ends_and_leaves_that_of_the_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide(world)
    monkeypatch.setattr(lease, "RENEWED_AFTER", 0.05)
    with Lease(world.places.stage.store, chunked()) as mine:
        key = holding(world)

        def lost() -> bool:
            try:
                mine.assert_held()
            except LeaseError:
                return True
            return False

        until(lost, "the lease was not lost")
    assert world.places.stage.store.get(key)


def window(opens: timedelta, closes: timedelta) -> dict[str, str]:
    now = datetime.now(UTC)
    return {"window": "-".join((now + moment).strftime("%H:%M") for moment in (opens, closes))}


def test_no_chunk_begins_outside_of_the_window(world: World) -> None:
    wide(world)
    hour = timedelta(hours=1)
    closed = chunked(load={**CHUNK, **window(2 * hour, 3 * hour)})
    for _ in range(2):
        receipt = world.sync(closed)
        assert receipt.load
        assert receipt.load.chunks_done == 0
        assert "the load goes on at" in receipt.warnings[-1]
        assert receipt.certificate.level is Level.UNCERTIFIED
    ended_equal(world, chunked(load={**CHUNK, **window(-hour, hour)}))


@pytest.mark.parametrize("parallel", [1, pytest.param(2, marks=pytest.mark.long)])
def test_no_chunk_begins_that_would_not_end_in_the_window(world: World, parallel: int) -> None:
    wide(world)
    left = [timedelta(hours=1)] * 3 + [timedelta(microseconds=1)] * 99
    table = chunked(load={**CHUNK, **window(timedelta(0), timedelta(hours=1)), "parallel": parallel})
    with mock.patch.object(LoadOptions, "left_of_window", side_effect=left):
        receipt = world.sync(table)
    assert receipt.load
    assert receipt.load.chunks_done == 3
    assert receipt.certificate.level is Level.UNCERTIFIED
    ended_equal(world, chunked())


def test_chunk_that_two_processes_read_is_in_the_target_once(world: World) -> None:
    wide(world)
    table = chunked()
    loaded_partly(world, table)
    state = one_chunk.loading_state(table, world.places)
    assert state
    staged = [one_chunk.export_chunk(table, world.places, state, number) for number in (4, 4, 5)]
    assert [one_chunk.apply_chunk(world.places, chunk) for chunk in staged] == [True, False, True]
    ended_equal(world, table)


def test_chunk_that_takes_too_long_names_its_own_limit(world: World) -> None:
    wide(world)
    table, export = chunked(), Reading.export

    def slow(reading: Reading, _: sql.Composable, *more: Any) -> Exported:
        with reading._connection.cursor() as cursor:
            cursor.execute("SET LOCAL statement_timeout = 10")
        return export(reading, sql.SQL("SELECT pg_sleep(600)"), *more)

    with mock.patch.object(Reading, "export", slow), pytest.raises(SourceError, match=": load: max_chunk_minutes"):
        world.sync(table)
    ended_equal(world, table)


def test_chunk_of_a_load_that_ended_is_refused(world: World) -> None:
    wide(world)
    table = chunked()
    first = loaded_partly(world, table)
    state = one_chunk.loading_state(table, world.places)
    assert state
    late = one_chunk.export_chunk(table, world.places, state, 5)
    world.sync(table, full=True)
    with pytest.raises(AuroraSyncError, match="ended"):
        one_chunk.load_chunk(table, world.places, first.id, 5)
    with pytest.raises(AuroraSyncError, match="ended"):
        one_chunk.apply_chunk(world.places, late)
    world.assert_equal(table)
    world.assert_verified(table)


def test_chunk_of_a_load_that_ended_is_refused_by_its_successor(world: World) -> None:
    wide(world)
    table = chunked()
    loaded_partly(world, table)
    state = one_chunk.loading_state(table, world.places)
    assert state
    late = one_chunk.export_chunk(table, world.places, state, 5)
    second = loaded_partly(world, table, full=True)
    with pytest.raises(AuroraSyncError, match="ended"):
        one_chunk.apply_chunk(world.places, late)
    assert progress(table, world.places) == second


def test_abort_without_a_load_or_a_log(world: World) -> None:
    wide(world)
    assert load.abort(chunked(), world.places) is None
    world.sync(chunked(load={}))
    assert load.abort(chunked(), world.places) is None


def test_aborted_append_only_table_is_read_in_chunks_again(world: World) -> None:
    wide(world, columns="id int, v text")
    table = chunked(append_only=True)
    loaded_partly(world, table)
    load.abort(table, world.places)
    assert not world.target_rows(table)
    assert ended_equal(world, table).load
