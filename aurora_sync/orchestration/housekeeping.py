"""Define the weekly job that removes files and tables of killed runs (aurora_sync/engine/gc.py)."""

from collections.abc import Sequence

import dagster as dg

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import gc
from aurora_sync.errors import AuroraSyncError
from aurora_sync.orchestration import assets
from aurora_sync.orchestration.assets import failure
from aurora_sync.orchestration.project import Project


def gc_schedule(tables: Sequence[TableConfig], project: Project) -> dg.ScheduleDefinition:
    """Return the schedule of the job ``<name>_gc``: on Sundays at 04:00 UTC."""

    @dg.op(
        name=f"{project.name}_collect",
        out=dg.Out(dg.Nothing),
        description="Removes files and tables that no run needs, and shows their number and size.",
        retry_policy=assets.RETRIES,
    )
    def collect(context: dg.OpExecutionContext) -> None:
        try:
            places = project.connections.places()
            collected = gc.collect(places, older_than=gc.age_limit(tables))
            compacted = gc.compact_log(places)
        except AuroraSyncError as error:
            raise failure(error) from error
        for each in collected:
            context.log.info(f"{each.count:,} {each.kind} removed")
        context.log.info(f"{compacted:,} entries of the sync log written together")
        counts = {each.kind: each.count for each in collected}
        sizes = {f"bytes of {each.kind}": each.bytes for each in collected if each.bytes is not None}
        context.add_output_metadata(counts | sizes)

    @dg.job(
        name=f"{project.name}_gc",
        executor_def=project.executor,
        description="Removes files and tables that killed runs left in the stage and in the log schema.",
    )
    def collect_garbage() -> None:
        collect.alias("collect_garbage")()

    return dg.ScheduleDefinition(
        name=f"{project.name}_gc_weekly",
        job=collect_garbage,
        cron_schedule="0 4 * * 0",
        execution_timezone="UTC",
        description="Removes what killed runs left behind, on Sundays at 04:00 UTC.",
        default_status=project.schedule_status,
    )
