"""The transaction counter passes 2^32: a row stores only the low half of its transaction's id, which starts again from
3."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.fixtures.wrapped_cluster import CYCLE, WrappedCluster
from aurora_sync_tests.scenarios.random_writers.replicas import naive_replicas
from aurora_sync_tests.scenarios.random_writers.trial import Trial, trial
from aurora_sync_tests.scenarios.world import World, config


def written(cluster: WrappedCluster, dsn: str) -> tuple[int, int]:
    """Return the number of rows that were written before and after the wrap."""
    database = dsn.rpartition("/")[2]
    ((there,),) = cluster.server.execute("SELECT to_regclass('t') IS NOT NULL", database=database)
    if not there:
        return 0, 0
    before, after = (f"count(*) FILTER (WHERE xmin::text::bigint {side} {CYCLE // 2})" for side in "><")
    ((high, low),) = cluster.server.execute(f"SELECT {before}, {after} FROM t", database=database)
    return high, low


@contextmanager
def passing(cluster: WrappedCluster, edge: int, dsn: str, after: float) -> Iterator[None]:
    """Let others use up the counter a little at a time, once rows have existed for so many seconds."""
    ended = threading.Event()

    def others() -> None:
        while written(cluster, dsn)[0] == 0 and not ended.wait(0.05):
            pass
        ended.wait(after)
        while (counter := cluster.counter()) <= edge:
            cluster.go_past(counter + 100)
            time.sleep(0.01)

    thread = threading.Thread(target=others)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def trial_across(cluster: WrappedCluster, ids: str, seconds: float, stage_url: str, folder: Path) -> Trial:
    """Run a random trial during which the counter passes a multiple of 2^32. Needs ``store_environment``."""
    edge = cluster.approach()
    seed = random.SystemRandom().randrange(10**6)
    with fresh_database(cluster.server.dsn()) as dsn, fresh_database(cluster.server.dsn()) as other_dsn:
        assert cluster.counter() < edge

        def enough(so_far: Trial) -> bool:
            return cluster.counter() > edge and written(cluster, dsn)[1] > 0 and bool(so_far.naive["xmin"].lost)

        with passing(cluster, edge, dsn, after=seconds / 2):
            world = World(dsn, stage_url, folder / "warehouse.duckdb")
            done = trial(world, other_dsn, ids=ids, seed=seed, seconds=seconds, enough=enough)
        print(done)
        before, after = written(cluster, dsn)
    assert cluster.counter() // CYCLE == edge // CYCLE
    assert min(before, after) > 0, (before, after)
    return done


def test_no_strategy_loses_a_row_while_the_counter_passes_2_32(
    wrapped_cluster: WrappedCluster, stage_url: str, store_environment: dict[str, str], tmp_path: Path
) -> None:
    done = trial_across(wrapped_cluster, "identity", 4, stage_url, tmp_path)
    assert not done.lost(), {name: outcome.examples for name, outcome in done.ours.items()}
    assert done.naive["xmin"].lost


@pytest.mark.long
@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("ids", ["identity", "serial", "cache", "application"])
def test_no_strategy_loses_a_row_in_many_passes(
    wrapped_cluster: WrappedCluster,
    stage_url: str,
    store_environment: dict[str, str],
    tmp_path: Path,
    ids: str,
    number: int,
) -> None:
    done = trial_across(wrapped_cluster, ids, 20, stage_url, tmp_path)
    assert not done.lost(), {name: outcome.examples for name, outcome in done.ours.items()}


def test_rows_from_both_sides_arrive_after_a_pause_and_old_rows_come_to_rest(
    wrapped_cluster: WrappedCluster, stage_url: str, store_environment: dict[str, str], tmp_path: Path
) -> None:
    edge = wrapped_cluster.approach()
    world = World(wrapped_cluster.server.dsn("oldtimes"), stage_url, tmp_path / "warehouse.duckdb")
    old = [config("ancient"), config("middle_aged")]
    world.execute("DROP TABLE IF EXISTS t", "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1)")
    table, naive = config(), naive_replicas(world.dsn)["xmin"]
    for each in (*old, table):
        assert world.sync(each).method == "whole table"
        assert world.sync(each).rows_exported == 0
    naive.sync()

    # No run takes place while one transaction writes on both sides, and others before and after.
    with world.open_transaction("INSERT INTO t VALUES (2, 'spans the edge')") as spanning:
        world.execute("INSERT INTO t VALUES (3, 'before')", "UPDATE t SET v = 'before' WHERE id = 1")
        wrapped_cluster.go_past(edge + 5)
        spanning.cursor().execute("SAVEPOINT s; INSERT INTO t VALUES (4, 'in a subtransaction, after')")
        world.execute("INSERT INTO t VALUES (5, 'after')")
        naive.sync()
        assert world.sync(table).method == "horizon scan"
        world.assert_equal(table)
        spanning.commit()
    world.execute("UPDATE t SET v = 'again' WHERE id = 5")
    naive.sync()
    world.sync(table)
    world.assert_equal(table)
    assert {"2", "4", "5"}.isdisjoint(naive.rows)

    # When the counter passes them a second time, an old row's 32 bits equal those of a new row.
    (first,) = world.execute("SELECT min(xmin::text::bigint) FROM ancient")[0]
    (counter,) = world.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")[0]
    assert counter < edge + first < edge + 100_000
    exported: dict[str, list[int]] = {each.table_name: [] for each in (*old, table)}
    wrapped_cluster.go_past(edge + first)
    for _ in range(4):
        for each in (*old, table):
            exported[each.table_name].append(world.sync(each).rows_exported)
        wrapped_cluster.go_past(wrapped_cluster.counter())
    assert exported == {"ancient": [100, 0, 0, 0], "middle_aged": [0] * 4, "t": [0] * 4}
    for each in (*old, table):
        world.assert_equal(each)
