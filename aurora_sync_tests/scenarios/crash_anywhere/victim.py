"""A process that runs one sync and is killed with SIGKILL at a named point of it.

The point is a wrapped function of the product, which has no code for this test.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints, sync
from aurora_sync.model.export import Exported
from aurora_sync.source.reading import Reading
from aurora_sync.stage import writer
from aurora_sync.stage.writer import Attempt, Stage
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.world import World

# The number of rows that are written before it is killed in the middle of its COPY.
ROWS_BEFORE_THE_KILL = 150


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(owner: Any, name: str) -> None:
    """Kill the process when this function has returned."""
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*arguments: Any, **keywords: Any) -> None:
        original(*arguments, **keywords)
        die()

    setattr(owner, name, wrapped)


def before(owner: Any, name: str) -> None:
    setattr(owner, name, die)


def in_mid_copy() -> None:
    original = Reading.export

    def export(self: Reading, statement: Any, destination: Any, progress: Any = None) -> Exported:
        return original(self, statement, _Short(destination), progress)

    Reading.export = export  # type: ignore[method-assign]


class _Short:
    def __init__(self, sink: Any) -> None:
        self._sink = sink
        self._left = ROWS_BEFORE_THE_KILL

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sink, name)

    def write(self, row: bytes) -> None:
        self._sink.write(row)
        self._left -= 1
        if self._left == 0:
            die()


def after_commit() -> None:
    original = DuckDBSession.transaction

    @contextmanager
    def transaction(self: DuckDBSession) -> Iterator[None]:
        with original(self):
            yield
        die()

    DuckDBSession.transaction = transaction  # type: ignore[assignment,method-assign]


# In the order of a run; from here on the increment is committed:
COMMITTED = ("after_commit", "before_the_hint", "after_the_hint")
POINTS: dict[str, Callable[[], None]] = {
    "after_the_state_was_read": lambda: after(hints, "read_state"),
    "after_the_snapshot": lambda: after(Reading, "observe"),
    "in_mid_copy": in_mid_copy,
    "after_the_objects": lambda: after(Attempt, "close"),
    "after_the_manifest": lambda: after(Stage, "commit"),
    "after_copy_into": lambda: after(DuckDBSession, "load"),
    "after_the_fence_moved": lambda: after(sync_log, "advance"),
    "before_commit": lambda: after(sync_log, "record"),
    "after_commit": after_commit,
    "before_the_hint": lambda: before(Stage, "confirm"),
    "after_the_hint": lambda: after(Stage, "confirm"),
}


def run(point: str, config: TableConfig, dsn: str, stage_url: str, warehouse: str, environment: dict[str, str]) -> None:
    """Sync until the point is reached. Increments are cut into several objects, so that only half of one is written."""
    os.environ.update(environment)
    writer.CHUNK_BYTES = 1000
    original = Stage.attempt

    def attempt(self: Stage, table: str, load_id: str) -> Attempt:
        attempt = original(self, table, load_id)
        attempt._object_bytes = 500
        return attempt

    Stage.attempt = attempt  # type: ignore[method-assign]
    POINTS[point]()
    sync.run(config, World(dsn, stage_url, Path(warehouse)).places)
