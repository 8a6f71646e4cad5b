"""Runs that die between any two steps, beside writers of every kind: the target has no wrong row, but a reader that
applies the files in the order of their list has many."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from aurora_sync.model.dms_columns import NULL, UNCHANGED
from aurora_sync.source.dms import files as dms_files
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse import apply as applying
from aurora_sync.warehouse import raw_files as dms
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.dms_files.conftest import run, table_of
from aurora_sync_tests.scenarios.dms_files.task import Task
from aurora_sync_tests.scenarios.logical import writers
from aurora_sync_tests.scenarios.logical.test_random import Died, Step, dying, schedule
from aurora_sync_tests.scenarios.world import World

STEPS: list[Step] = [
    (dms_files, "listing", True),
    (sync_log, "taken", True),
    (DuckDBSession, "copy_files", True),
    (dms, "count_parts", True),
    (Stage, "commit", True),
    (sync_log, "advance", True),
    (sync_log, "record", True),
    (sync_log, "record_taken", True),
    (applying, "drop_staging", False),  # committed
    (Stage, "confirm", False),
]
A_RUN = 80  # transactions during one run


def applied_as_listed(task: Task) -> dict[str, tuple[str | None, ...]]:
    """Apply the files in the order of a plain listing; the last row of a key wins. In a transaction folder, the rows of
    the table are found by position."""
    rows: dict[str, tuple[str | None, ...]] = {}
    for key in task.store.list(task.store.prefix):
        body = task.store.get(key)
        assert body is not None
        of_folder = task.cdc_path is not None and f"/{task.cdc_path}/" in key
        for operation, *values in list(task.read(body))[0 if task.cdc_path else 1 :]:
            if of_folder:
                if operation in "BC" or values[:2] != [task.table, "public"]:
                    continue
                del values[:2]
            row = tuple(None if v in (NULL, UNCHANGED) else v for v in values[: len(task.columns)])
            if operation == "D":
                rows.pop(str(row[0]), None)
            else:
                rows[str(row[0])] = row
    return rows


FORMS = [("csv", None), ("csv.gz", "all/changes"), ("csv.gz", None)]


@pytest.mark.parametrize(
    ("times", "form", "cdc_path"),
    [
        *((1, *form) for form in FORMS[:2]),
        *(pytest.param(3, *form, marks=pytest.mark.long) for form in FORMS),
    ],
)
def test_no_row_is_wrong_whenever_runs_die(
    world: World,
    task_of: Callable[..., Task],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
    form: str,
    cdc_path: str | None,
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    dice = random.Random(seed)
    monkeypatch.setattr("aurora_sync.engine.runners.files.MOST_FILES", 4)
    monkeypatch.setattr(writers, "TRUNCATES", False)  # a task writes nothing for them: test_dms_files.py
    world.execute(*writers.TABLES)
    task = task_of("t", "id doc n tags", form=form, cuts=100, dice=dice, cdc_path=cdc_path)
    table = table_of(task)
    died = 0
    runs = schedule(dice, STEPS, 3, times)
    with writers.writing(world.dsn, seed) as done:
        done.until(100, 100)
        task.load(rows_a_file=20)
        for number, step in enumerate(runs):
            done.until(100 + A_RUN * number, 100 + A_RUN * (number + 1))
            task.write()
            if step is None:
                run(table, world)
                continue
            owner, name, after = step
            with dying(monkeypatch, owner, name, after=after):
                try:
                    run(table, world)
                except Died:
                    died += 1
    task.write()
    while (consumed := run(table, world).consumed) and consumed.behind:
        pass
    world.assert_equal(table)
    names = ", ".join(f"{name}::text" for name in task.columns)
    source = {row[0]: tuple(row) for row in world.execute(f"SELECT {names} FROM t")}
    naive = applied_as_listed(task)
    wrong = sum(source.get(key) != row for key, row in naive.items()) + len(source.keys() - naive.keys())
    print(
        f"{done.committed:,} transactions, {len(task.changes):,} changes, {died} of {len(runs)} runs died;"
        f" naive: {wrong} wrong"
    )
    assert died > 1
    assert wrong, "the writers were too tame"
    world.assert_verified(table)
