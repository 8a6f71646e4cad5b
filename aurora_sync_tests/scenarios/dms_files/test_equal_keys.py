"""Equal keys with two texts, in the files of a task: the warehouse computes the net change of each key."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from aurora_sync_tests.scenarios.dms_files.conftest import run, table_of
from aurora_sync_tests.scenarios.dms_files.task import Task
from aurora_sync_tests.scenarios.equal_keys import FLOATS, FOLDED, SCALES, EqualKeys
from aurora_sync_tests.scenarios.world import World


@pytest.mark.parametrize("case", [*FLOATS, SCALES, FOLDED], ids=lambda case: case.type)
@pytest.mark.parametrize("whole", [True, False], ids=["whole rows", "partial rows"])
def test_keys_that_are_equal_come_as_one_row(
    world: World, task_of: Callable[..., Task], case: EqualKeys, whole: bool
) -> None:
    case.needs_server(world)
    world.execute(*case.create())
    if whole:
        world.execute(f"UPDATE {case.table} SET doc = 'short'")
    task = task_of(case.table, "id n v doc", "id n")
    table = table_of(task)
    task.load()
    run(table, world)
    for changes in (case.changes(), case.more_changes()):
        world.execute(*changes)
        task.write()
        assert run(table, world).method.startswith("files")
        case.assert_synced(world)


def test_a_load_and_its_changes_come_as_one_row(world: World, task_of: Callable[..., Task]) -> None:
    (case, _) = FLOATS
    world.execute(*case.create())
    task = task_of(case.table, "id n v doc", "id n")
    task.load()
    world.execute(*case.changes())
    task.write()
    run(table_of(task), world)
    case.assert_synced(world)
