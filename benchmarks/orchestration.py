"""Measure Dagster with many tables: definitions, the first and an idle tick of the change sensor, and a run.

Starts a local stack in a temporary folder, with Dagster's storage in its PostgreSQL, and a code server. This process is
the daemon and the worker of the run. Compare CPU times if other programs use the machine. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
import psycopg2
from dagster._core.instance import InstanceRef
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster._daemon.sensor import execute_sensor_iteration

from aurora_sync.embedded.stack import Stack
from aurora_sync.orchestration.change_sensor import TICK_SECONDS

ROWS = 10
DEFINITIONS = """
import time
began = time.process_time()
import aurora_sync.orchestration.factory
imported = time.process_time()
import aurora_sync.definitions
repository = aurora_sync.definitions.defs.get_repository_def()
repository.load_all_definitions()
print(imported - began, time.process_time() - imported)
"""


@contextmanager
def project(tables: int) -> Iterator[tuple[Stack, Path]]:
    """Start a stack with ``tables`` small tables, and put its settings and those of Dagster into the environment."""
    with tempfile.TemporaryDirectory(prefix="aurora_sync_benchmark_") as name:
        folder = Path(name)
        stack = Stack(folder / "stack")
        try:
            with stack:
                os.environ.update(stack.environment())
                execute(stack.superuser_dsn(), ["CREATE DATABASE dagster"])
                for number in range(tables):
                    execute(
                        os.environ["AURORA_DSN"],
                        [
                            f"CREATE TABLE t{number} (id int PRIMARY KEY, name text, at timestamptz DEFAULT now())",
                            f"INSERT INTO t{number} SELECT i, 'name ' || i FROM generate_series(1, {ROWS}) i",
                        ],
                    )
                entries = [f"  - {{table_name: t{i}, watermark_type: xmin, freshness: 2h}}\n" for i in range(tables)]
                (folder / "tables.yaml").write_text("tables:\n" + "".join(entries), encoding="utf-8")
                storage = stack.superuser_dsn("dagster").replace("postgresql:", "postgresql+psycopg2:")
                (folder / "dagster.yaml").write_text(
                    f"telemetry: {{enabled: false}}\nstorage: {{postgres: {{postgres_url: {json.dumps(storage)}}}}}\n",
                    encoding="utf-8",
                )
                os.environ |= {"DAGSTER_HOME": name, "AURORA_SYNC_TABLES": str(folder / "tables.yaml")}
                yield stack, folder
        finally:
            stack.remove()


def execute(dsn: str, statements: list[str]) -> None:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def definitions() -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", DEFINITIONS], capture_output=True, text=True, check=True
    )
    imports, loading = map(float, done.stdout.split())
    return {"import_cpu_seconds": round(imports, 2), "definitions_cpu_seconds": round(loading, 2)}


def ticks(instance: dg.DagsterInstance) -> dict[str, float]:
    """Return what a first tick, which requests every table, and the next one cost the daemon."""
    numbers: dict[str, float] = {}
    target = ModuleTarget(
        module_name="aurora_sync.definitions", attribute=None, working_directory=None, location_name="aurora_sync"
    )
    with WorkspaceProcessContext(instance, target) as workspace:
        location = workspace.create_request_context().get_code_location("aurora_sync")
        (sensor,) = location.get_repository(location.get_repository_names()[0]).get_sensors()
        instance.start_sensor(sensor)
        for name in ("first", "idle"):
            began, cpu = time.perf_counter(), time.process_time()
            list(execute_sensor_iteration(workspace, logging.getLogger("benchmark"), None, None))
            numbers[f"{name}_tick_daemon_cpu_seconds"] = round(time.process_time() - cpu, 2)
            numbers[f"{name}_tick_seconds"] = round(time.perf_counter() - began, 1)
            time.sleep(TICK_SECONDS)  # Dagster evaluates a sensor at most once in its interval
    numbers["runs_of_first_tick"] = instance.get_runs_count()
    return numbers


def passes(instance: dg.DagsterInstance, stack: Stack, tables: int) -> dict[str, float]:
    """Return the cost of two runs of ``tables`` tables in this process: the first, and one after changes of all."""
    from aurora_sync.definitions import defs

    job = defs.get_repository_def().get_implicit_global_asset_job_def()
    keys = {dg.AssetKey(["public", f"t{number}"]) for number in range(tables)}
    numbers: dict[str, float] = {"tables_of_run": tables}
    for name in ("first_run", "changed_run"):
        execute(os.environ["AURORA_DSN"], [f"UPDATE t{number} SET name = name || '.'" for number in range(tables)])
        before, began, cpu = sessions(stack), time.perf_counter(), time.process_time()
        run = job.get_subset(asset_selection=keys, asset_check_selection=set())
        assert run.execute_in_process(instance=instance).success
        numbers[f"{name}_cpu_ms_per_table"] = round((time.process_time() - cpu) / tables * 1000)
        numbers[f"{name}_ms_per_table"] = round((time.perf_counter() - began) / tables * 1000)
        time.sleep(1.5)  # until PostgreSQL has counted the sessions
        numbers[f"{name}_storage_connections_per_table"] = round((sessions(stack) - before) / tables, 1)
    return numbers


def sessions(stack: Stack) -> int:
    connection = psycopg2.connect(stack.superuser_dsn())
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT sessions FROM pg_stat_database WHERE datname = 'dagster'")
        ((count,),) = cursor.fetchall()
    connection.close()
    return int(count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--run", type=int, default=100, help="tables of the run that is measured")
    arguments = parser.parse_args()
    numbers: dict[str, float] = {"tables": arguments.tables}
    logging.disable(logging.INFO)
    with project(arguments.tables) as (stack, folder):
        numbers |= definitions()
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder))) as instance:
            numbers |= ticks(instance)
            numbers |= passes(instance, stack, min(arguments.run, arguments.tables))
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
