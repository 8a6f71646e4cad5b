"""Tables that are read in chunks, and hooks between the chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from unittest import mock

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import load, one_chunk, sync
from aurora_sync.engine.places import Places
from aurora_sync.model.load import Load
from aurora_sync.model.receipt import Receipt
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync_tests.scenarios.world import World, config

ROWS = 40
# Five rows fill a block of 8,192 bytes, and a block is a chunk: 40 rows are 8 chunks.
WIDE = "repeat('x', 1500) || i"
CHUNK = {"chunk_bytes": 8192}

# When a hook is called. "within": in the transaction of a chunk. "last" and "ends": before and after the transaction of
# a pass or of the last run.
MOMENTS = ("read", "exported", "apply", "within", "applied", "last", "ends")
Hook = Callable[[str], object]


class Killed(BaseException):
    """Ends a run as a kill does: no handler of an Exception sees it."""


class Inline:
    """An executor that runs everything at once in this thread, so that a trial has one order of events."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, do: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        try:
            done.set_result(do(*arguments))
        except BaseException as error:  # noqa: BLE001 - result() raises it again
            done.set_exception(error)
        return done


def chunked(watermark_type: str = "xmin", table: str = "t", **keys: Any) -> TableConfig:
    return config(table, watermark_type, **{"load": CHUNK, **keys})


def wide(world: World, *more: str, columns: str = "id int PRIMARY KEY, v text", rows: int = ROWS) -> None:
    """Create a table of five rows a block, none of which has room for another row."""
    world.execute(
        f"CREATE TABLE t ({columns}) WITH (fillfactor = 100, autovacuum_enabled = off)",
        "ALTER TABLE t ALTER v SET STORAGE PLAIN",
        *([f"INSERT INTO t SELECT i, {WIDE} FROM generate_series(1, {rows}) i"] if rows else []),
        *more,
    )


@contextmanager
def hooked(hook: Hook) -> Iterator[None]:
    """Call the hook at each of :data:`MOMENTS`, all in this thread."""
    export, apply, advance, last = one_chunk.export_chunk, one_chunk.apply_chunk, sync_log.advance_any, sync._apply

    def exporting(*arguments: Any) -> StagedIncrement:
        hook("read")
        chunk = export(*arguments)
        hook("exported")
        return chunk

    def applying(*arguments: Any) -> bool:
        hook("apply")
        done = apply(*arguments)
        hook("applied")
        return done

    def advancing(*arguments: Any) -> Any:
        entry = advance(*arguments)
        hook("within")
        return entry

    def ending(*arguments: Any) -> Any:
        hook("last")
        applied = last(*arguments)
        hook("ends")
        return applied

    with ExitStack() as end:
        for owner, name, value in (
            (load, "ThreadPoolExecutor", Inline),
            (one_chunk, "export_chunk", exporting),
            (one_chunk, "apply_chunk", applying),
            (sync_log, "advance_any", advancing),
            (sync, "_apply", ending),
        ):
            end.enter_context(mock.patch.object(owner, name, value))
        yield


@contextmanager
def once(moment: str, do: Callable[[], object], *, after: int = 0) -> Iterator[None]:
    """Call ``do`` at a moment, when it came ``after`` times before."""
    count = 0

    def hook(now: str) -> None:
        nonlocal count
        if now == moment:
            count += 1
            if count == after + 1:
                do()

    with hooked(hook):
        yield


def killed(moment: str = "apply", *, after: int = 2) -> Any:
    """Return a context in which the run is killed at a moment that came ``after`` times before."""

    def kill() -> None:
        raise Killed

    return once(moment, kill, after=after)


def loaded_partly(world: World, table: TableConfig, *, chunks: int = 2, **options: Any) -> Load:
    """Load some chunks, and return the progress."""
    with killed(after=chunks):
        try:
            world.sync(table, **options)
        except Killed:
            pass
        else:
            raise AssertionError("the table was not read in chunks")
    return progress(table, world.places)


def progress(table: TableConfig, places: Places) -> Load:
    state = one_chunk.loading_state(table, places)
    assert state
    assert state.watermark
    assert state.watermark.load
    return state.watermark.load


def ended_equal(world: World, table: TableConfig, **options: Any) -> Receipt:
    """Sync, and assert that the target is equal afterwards by row and by content."""
    receipt = world.sync(table, **options)
    world.assert_equal(table)
    world.assert_verified(table)
    return receipt
