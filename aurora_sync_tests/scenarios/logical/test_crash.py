"""SIGKILL at each point of a batch: the next run continues from the state of the targets and ends at the right
result."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.source.logical import slot
from aurora_sync.stage.writer import Attempt, Stage
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.crash_anywhere.test_crash_anywhere import PROCESSES
from aurora_sync_tests.scenarios.crash_anywhere.victim import after, after_commit, before
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.world import World

pytestmark = pytest.mark.closes_warehouse

COMMITTED = ("after_commit", "before_the_slot_hears", "after_the_slot_has_heard", "before_the_hint")
POINTS: dict[str, Callable[[], None]] = {
    "after_the_mark": lambda: after(slot, "mark"),
    "after_the_drain": lambda: after(slot, "drain"),
    "after_the_objects": lambda: after(Attempt, "close"),
    "after_the_manifest": lambda: after(Stage, "commit"),
    "after_copy_into": lambda: after(DuckDBSession, "load"),
    "after_the_fence_moved": lambda: after(sync_log, "advance"),
    "before_commit": lambda: after(sync_log, "record"),
    "after_commit": after_commit,
    "before_the_slot_hears": lambda: before(slot, "advance"),
    "after_the_slot_has_heard": lambda: after(slot, "advance"),
    "before_the_hint": lambda: before(Stage, "confirm"),
}


def victim(point: str, tables: tuple[TableConfig, ...], dsn: str, stage: str, path: str, more: dict[str, str]) -> None:
    os.environ.update(more)
    places = World(dsn, stage, Path(path)).places
    POINTS[point]()
    batch.run(tables, places, lambda receipt: None)


@pytest.mark.parametrize("point", POINTS)
def test_a_batch_after_a_kill_ends_at_the_same_targets(
    streamed: Streamed, store_environment: dict[str, str], point: str
) -> None:
    world, tables = streamed.world, (streamed.table("t"), streamed.table("u"))
    for name in ("t", "u"):
        world.execute(
            f"CREATE TABLE {name} (id int PRIMARY KEY, v text)",
            f"INSERT INTO {name} SELECT g, 'old' FROM generate_series(1, 50) g",
        )
    streamed.setup(*tables)
    streamed.run(*tables)
    for name in ("t", "u"):
        world.execute(
            f"INSERT INTO {name} SELECT g, 'new' FROM generate_series(51, 60) g",
            f"UPDATE {name} SET id = -id WHERE id < 10",
            f"DELETE FROM {name} WHERE id > 55",
        )
    arguments = (point, tables, world.dsn, world.stage_url, str(world.warehouse_path), store_environment)
    process = PROCESSES.Process(target=victim, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    world.execute("UPDATE t SET v = 'later' WHERE id < -5", "DELETE FROM u WHERE id < -5")

    receipts = streamed.run(*tables)
    assert all(receipt.method.startswith("stream") for receipt in receipts.values())
    for table in tables:
        world.assert_equal(table)
        assert world.run_sequences(table) == ([1, 2, 3] if point in COMMITTED else [1, 2])
    assert world.staging_tables() == []
