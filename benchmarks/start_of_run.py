"""Measure the start of a run in a project of create-dagster with our component: from its launch until its first step.

::

    python benchmarks/start_of_run.py --tables 20

It starts a local stack and the project's code server, and launches runs of one table: with the executor for DuckDB,
which runs steps in the process of the run, and with the executor for Snowflake, which forks a process for each step. No
step needs to reach Snowflake. The last line is one JSON object: the seconds after the launch, for each executor.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
from dagster._core.definitions.selector import JobSubsetSelector
from dagster._core.instance import InstanceRef
from dagster._core.workspace.context import WorkspaceProcessContext, WorkspaceRequestContext
from dagster._core.workspace.load_target import ModuleTarget

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.orchestration import project

DEFINITIONS = """\
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
SNOWFLAKE = {
    "AURORA_SYNC_WAREHOUSE": "snowflake",
    "SNOWFLAKE_ACCOUNT": "none",
    "SNOWFLAKE_USER": "none",
    "SNOWFLAKE_PASSWORD": "none",
    "SNOWFLAKE_DATABASE": "NONE",
    "SNOWFLAKE_WAREHOUSE": "NONE",
    "SNOWFLAKE_STAGE": "NONE.NONE.NONE",
}
PHASES = {
    "process": dg.DagsterEventType.ENGINE_EVENT,  # the process of the run has started
    "definitions": dg.DagsterEventType.RUN_START,  # and has loaded the definitions
    "step": dg.DagsterEventType.STEP_START,
}
TABLE = dg.AssetKey(["public", "t0"])


def write_project(folder: Path, tables: int) -> None:
    (folder / "shop" / "defs" / "crm").mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        "[tool.dg]\ndirectory_type = 'project'\n[tool.dg.project]\nroot_module = 'shop'\ncode_location_name = 'shop'\n"
    )
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "defs" / "__init__.py").touch()
    (folder / "shop" / "definitions.py").write_text(DEFINITIONS)
    entries = [f"    - {{table_name: t{number}, watermark_type: xmin}}\n" for number in range(tables)]
    (folder / "shop" / "defs" / "crm" / "defs.yaml").write_text(
        "type: aurora_sync.AuroraSync\nattributes:\n  tables:\n" + "".join(entries)
    )


def launch(instance: dg.DagsterInstance, workspace: WorkspaceRequestContext) -> dict[str, float]:
    """Launch a run of one table. Return the seconds from the launch until the first event of each phase."""
    location = workspace.get_code_location("shop")
    repository = location.get_repository(location.get_repository_names()[0])
    selected = JobSubsetSelector(
        "shop", repository.name, "crm_changes", None, asset_selection=[TABLE], asset_check_selection=[]
    )
    job = location.get_job(selected)
    plan = location.get_execution_plan(job, {}, None, None, instance)
    run = instance.create_run(
        job_name=job.name,
        run_id=None,
        run_config={},
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={},
        root_run_id=None,
        parent_run_id=None,
        step_keys_to_execute=None,
        execution_plan_snapshot=plan.execution_plan_snapshot,
        job_snapshot=job.job_snapshot,
        parent_job_snapshot=job.parent_job_snapshot,
        asset_selection=frozenset([TABLE]),
        asset_check_selection=frozenset(),
        resolved_op_selection=None,
        op_selection=None,
        remote_job_origin=job.get_remote_origin(),
        job_code_origin=job.get_python_origin(),
        asset_graph=repository.asset_graph,
    )
    began = time.time()
    instance.launch_run(run.run_id, workspace)
    while not instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_START).records:
        stored = instance.get_run_by_id(run.run_id)
        if stored and stored.is_finished:
            raise SystemExit("the run ended before its first step")
        time.sleep(0.05)
    if os.environ["AURORA_SYNC_WAREHOUSE"] == "snowflake":  # else the sync would be retried for minutes
        instance.run_launcher.terminate(run.run_id)
    while (stored := instance.get_run_by_id(run.run_id)) and not stored.is_finished:
        time.sleep(0.2)
    found = {}
    for phase, kind in PHASES.items():
        first = instance.get_records_for_run(run.run_id, of_type=kind, limit=1).records[0]
        found[phase] = round(first.timestamp - began, 1)
    return found


def measure(folder: Path, rounds: int) -> dict[str, float]:
    """Start the project's code server, and return the phases of the quickest of some runs."""
    target = ModuleTarget(
        module_name="shop.definitions", attribute=None, working_directory=str(folder), location_name="shop"
    )
    with (
        dg.DagsterInstance.from_ref(InstanceRef.from_dir(os.environ["DAGSTER_HOME"])) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        runs = [launch(instance, workspace.create_request_context()) for _ in range(rounds)]
    return min(runs, key=lambda phases: phases["step"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    logging.disable(logging.INFO)
    with project(arguments.tables) as folder:
        write_project(folder, arguments.tables)
        numbers = {"in_process": measure(folder, arguments.rounds)}
        os.environ |= SNOWFLAKE
        numbers["forked"] = measure(folder, arguments.rounds)
        # The code server of runs that were terminated does not end by itself.
        subprocess.run(["pkill", "-KILL", "-f", "-P", str(os.getpid()), "dagster api grpc"], check=False)
    print(json.dumps({"tables": arguments.tables, "seconds": numbers}))


if __name__ == "__main__":
    main()
