"""Tables that a DMS task follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.model.receipt import Receipt
from aurora_sync_tests.scenarios.dms_files.task import Task
from aurora_sync_tests.scenarios.world import World, config


@pytest.fixture
def task_of(world: World) -> Iterator[Callable[..., Task]]:
    made: list[Task] = []

    def make(table: str = "t", columns: str = "id v doc", key: str = "id", **more: Any) -> Task:
        made.append(Task(world, table, columns.split(), key.split(), **more))
        made[-1].start()
        return made[-1]

    yield make
    for task in made:
        task.stop()


def table_of(task: Task, **keys: Any) -> TableConfig:
    if task.cdc_path:
        keys["cdc_path"] = task.cdc_path
    return config(task.table, "dms", files=task.folder, **keys)


def run(table: TableConfig, world: World, **options: Any) -> Receipt:
    receipts: list[Receipt] = []
    batch.run([table], world.places, receipts.append, **options)
    (receipt,) = receipts
    return receipt
