"""SIGKILL at each point from reading the state to the last call: the next run ends at the right target."""

from __future__ import annotations

import multiprocessing
import signal
from itertools import cycle

import pytest
from _pytest.mark.structures import ParameterSet

from aurora_sync.config.tables import TableConfig
from aurora_sync_tests.scenarios.crash_anywhere import victim
from aurora_sync_tests.scenarios.world import World, config

pytestmark = pytest.mark.closes_warehouse

# Each fork of this server has all modules loaded, but no connections or threads.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([victim.__name__, "boto3", "duckdb"])

WITH_A_KEY = "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)"
WITHOUT = "CREATE TABLE t (id bigint GENERATED ALWAYS AS IDENTITY, v text)"
INSERT = "INSERT INTO t (v) SELECT {!r} || (n / 2) FROM generate_series(1, {}) n"
TABLES: dict[str, tuple[str, TableConfig]] = {
    "upsert": (WITH_A_KEY, config()),
    "append": (WITHOUT, config(append_only=True)),
    "replace_without_a_key": (WITHOUT, config(watermark_type="full_snapshot", columns={"include": ["v"]})),
}


def killed_at(point: str, table: TableConfig, world: World, environment: dict[str, str]) -> bool:
    arguments = (point, table, world.dsn, world.stage_url, str(world.warehouse_path), environment)
    process = PROCESSES.Process(target=victim.run, args=arguments)
    process.start()
    process.join()
    return process.exitcode == -signal.SIGKILL


def assert_equal(world: World, table: TableConfig) -> None:
    if table.columns.include:
        source = world.execute("SELECT v, count(*) FROM t GROUP BY v")
        assert world.target_rows(table) == {(v,): count for v, count in source}
    else:
        world.assert_equal(table)


def grid() -> list[ParameterSet]:
    """Return every point with every kind. An append cannot hide a repetition, so `make test` runs it at every point;
    the other kinds take turns."""
    turns = zip(victim.POINTS, cycle(kind for kind in TABLES if kind != "append"), strict=False)
    kept = {*turns, *((point, "append") for point in victim.POINTS)}
    return [
        pytest.param(point, kind, marks=() if (point, kind) in kept else pytest.mark.long)
        for point in victim.POINTS
        for kind in TABLES
    ]


@pytest.mark.parametrize(("point", "kind"), grid())
def test_a_run_after_a_kill_ends_at_the_same_target(
    world: World, store_environment: dict[str, str], point: str, kind: str
) -> None:
    create, table = TABLES[kind]
    world.execute(create, INSERT.format("old", 300))
    # This row's transaction is older than everything that the killed run reads. It commits after the crash; for an
    # append before it, because its horizon would leave that run nothing to export.
    with world.open_transaction("INSERT INTO t (v) VALUES ('late')") as late:
        assert world.sync(table).run_sequence == 1
        world.execute(INSERT.format("new", 300))
        if kind == "append":
            late.commit()
        else:
            world.execute("UPDATE t SET v = v || '!' WHERE id % 3 = 0")

        assert killed_at(point, table, world, store_environment)
        late.commit()
    world.execute(INSERT.format("newest", 10))
    world.sync(table)

    assert_equal(world, table)
    assert world.run_sequences(table) == ([1, 2, 3] if point in victim.COMMITTED else [1, 2])
    assert world.staging_tables() == []


@pytest.mark.parametrize(("point", "kind"), list(zip(victim.POINTS, cycle(TABLES), strict=False)))
def test_a_first_run_that_is_killed_leaves_a_table_to_be_read_in_full(
    world: World, store_environment: dict[str, str], point: str, kind: str
) -> None:
    create, table = TABLES[kind]
    world.execute(create, INSERT.format("old", 300))
    assert killed_at(point, table, world, store_environment)
    world.execute(INSERT.format("new", 10))
    world.sync(table)

    assert_equal(world, table)
    assert world.run_sequences(table) == ([1, 2] if point in victim.COMMITTED else [1])
