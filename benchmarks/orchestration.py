"""Measure Dagster with many tables: definitions, and passes of the change sensor with the runs that they request.

Starts a local stack in a temporary folder, with Dagster's storage in its PostgreSQL, and a code server, which starts
the runs. This process is the daemon. The last line is one JSON object.
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
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
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
def project(tables: int) -> Iterator[Path]:
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
                    "telemetry: {enabled: false}\n"
                    # A run starts at once. In the queue, it would wait for the daemon.
                    "run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n"
                    f"storage: {{postgres: {{postgres_url: {json.dumps(storage)}}}}}\n",
                    encoding="utf-8",
                )
                os.environ |= {"DAGSTER_HOME": name, "AURORA_SYNC_TABLES": str(folder / "tables.yaml")}
                yield folder
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


def passes(instance: dg.DagsterInstance, tables: int) -> dict[str, float]:
    """Return the cost of three ticks of the change sensor with their runs: every table is new, every table changed, and
    none changed. A pass ends with the last of its runs."""
    numbers: dict[str, float] = {}
    target = ModuleTarget(
        module_name="aurora_sync.definitions", attribute=None, working_directory=None, location_name="aurora_sync"
    )
    with WorkspaceProcessContext(instance, target) as workspace:
        location = workspace.create_request_context().get_code_location("aurora_sync")
        (sensor,) = location.get_repository(location.get_repository_names()[0]).get_sensors()
        instance.start_sensor(sensor)
        for name in ("new", "changed", "idle"):
            if name == "changed":
                execute(os.environ["AURORA_DSN"], [f"UPDATE t{n} SET name = name || '.'" for n in range(tables)])
                time.sleep(TICK_SECONDS)  # until PostgreSQL has counted the updates
            runs, began, cpu = instance.get_runs_count(), time.perf_counter(), time.process_time()
            list(execute_sensor_iteration(workspace, logging.getLogger("benchmark"), None, None))
            numbers[f"{name}_tick_daemon_cpu_seconds"] = round(time.process_time() - cpu, 2)
            numbers[f"{name}_tick_seconds"] = round(time.perf_counter() - began, 1)
            numbers[f"{name}_runs"] = instance.get_runs_count() - runs
            wait_for_runs(instance)
            numbers[f"{name}_pass_seconds"] = round(time.perf_counter() - began, 1)
            time.sleep(max(0.0, began + TICK_SECONDS + 1 - time.perf_counter()))  # at most one tick in its interval
    return numbers


def wait_for_runs(instance: dg.DagsterInstance) -> None:
    """Wait for the end of all runs. Raises an error if one failed."""
    while instance.get_runs_count(dg.RunsFilter(statuses=NOT_FINISHED_STATUSES)):
        time.sleep(0.5)
    if failed := instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])):
        raise RuntimeError(f"{failed} runs failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    arguments = parser.parse_args()
    numbers: dict[str, float] = {"tables": arguments.tables}
    logging.disable(logging.INFO)
    with project(arguments.tables) as folder:
        numbers |= definitions()
        with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder))) as instance:
            numbers |= passes(instance, arguments.tables)
    print(json.dumps(numbers))


if __name__ == "__main__":
    main()
