"""The executor of our jobs: a process for each step, forked from one that has loaded the definitions."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dagster as dg

from aurora_sync.orchestration.compat import (
    ReconstructableJob,
    multiple_process_executor_requirements,
    without_component_types,
)

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode

# Modules that the forkserver of a run imports once for all tables. Without them, 20 tables took 64 s.
MODULES = [
    "aurora_sync.engine.sync",
    "aurora_sync.orchestration.factory",
    "snowflake.connector",
    "aurora_sync.orchestration.preloaded",
]
HANDED_OVER = "AURORA_SYNC_RUN_JOB"  # the path of a file with the job of the run, for the forkserver


class _HandsOverDefinitions(dg.Executor):
    """Writes the job of the run to a file, from which the module ``preloaded`` loads it in the forkserver."""

    def __init__(self, processes: dg.Executor) -> None:
        self._processes = processes

    @property
    def retries(self) -> RetryMode:
        return self._processes.retries

    @property
    def step_dependency_config(self) -> Any:
        return self._processes.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[Any]:
        job = plan_context.reconstructable_job.with_repository_load_data(execution_plan.repository_load_data)
        with tempfile.NamedTemporaryFile(prefix="aurora_sync_job_") as file:  # readable only by this user
            file.write(pickle.dumps(job))
            file.flush()
            os.environ[HANDED_OVER] = file.name
            try:
                yield from self._processes.execute(plan_context, execution_plan)
            finally:
                os.environ.pop(HANDED_OVER, None)


def forking_executor() -> dg.ExecutorDefinition:
    """Return Dagster's executor with a process for each step, whose forkserver loads the definitions once for a run."""

    def create(context: dg.InitExecutorContext) -> dg.Executor:
        return _HandsOverDefinitions(cast("Any", processes.executor_creation_fn)(context))

    processes = dg.multiprocess_executor
    forking = dg.ExecutorDefinition(
        name=processes.name,
        config_schema=cast("Any", processes.config_schema),
        requirements=multiple_process_executor_requirements(),
        executor_creation_fn=create,
        description=processes.description,
    )
    return forking.configured({"start_method": {"forkserver": {"preload_modules": MODULES}}})


def load_handed_over_job() -> None:
    """Load the job of the run, if an executor handed one over, and give it to the steps that this process forks.

    Dagster's own cache holds one job by its hash. A step asks for the job twice, and the first time by a hash that its
    parent process has computed, which is a different one.
    """
    path = os.environ.get(HANDED_OVER)
    if not path:
        return
    job: ReconstructableJob = pickle.loads(Path(path).read_bytes())
    load = ReconstructableJob.get_definition
    with without_component_types():
        loaded = job.get_definition()

    def get_definition(wanted: ReconstructableJob) -> dg.JobDefinition:
        return loaded if wanted == job else load(wanted)

    ReconstructableJob.get_definition = get_definition  # type: ignore[method-assign, assignment]
