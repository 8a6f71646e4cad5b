"""Define the job that loads a large table in chunks, with one step for each chunk (engine/load.py).

::

    begin ─► load_chunk[chunk_0], load_chunk[chunk_1], ... ─► finish

The job runs on any executor. Rows go through the stage, and the sync log says which chunks are loaded. Between the
steps go a few names and numbers, through the bucket of the stage. A step may be run twice, or twice at once.

The run holds the lease of the load. So another run of the table does not read the same chunks, and the run that
re-executes this one may.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

import dagster as dg
from pydantic import Field

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import load, one_chunk, sync
from aurora_sync.engine.lease import Lease
from aurora_sync.engine.one_chunk import BeginsAgainError
from aurora_sync.engine.places import Places
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import printable
from aurora_sync.orchestration import assets, compat
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.io_manager import logged
from aurora_sync.orchestration.project import Project
from aurora_sync.orchestration.resources import Connections

# What a step needs as a pod of its own. Workers that loaded chunks into DuckDB reached 431 MB, with DuckDB in the
# process; into Snowflake 284 MB (docs/deployment.md).
KUBERNETES = {
    "dagster-k8s/config": {
        "container_config": {
            "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        }
    }
}

# A load has up to 1,000 chunks, which wait for the pool of the source at the same time. Other tables go first. The
# second tag is Celery's default; without it, dagster-celery warns of the first one.
CHUNKS_LAST = {compat.PRIORITY_TAG: "-1", "dagster-celery/priority": "5"}

Opened = dict[str, Any]  # the options of the job
Chunk = dict[str, Any]  # table, load id and number of a chunk
Done = dict[str, Any]  # what became of a chunk


class LoadOptions(dg.Config):
    """Options of the job, for the launchpad."""

    table: str = Field(description="The table as schema.table, such as public.orders.")
    full: bool = Field(False, description="Load the table again, although its target is complete.")
    allow_deletes: bool = Field(False, description="Remove rows from the target, however many.")


def job_name(project: Project) -> str:
    return f"{project.name}_load_large_table"


def load_job(tables: Sequence[TableAsset], project: Project) -> dg.JobDefinition:
    """Return the job ``<name>_load_large_table``."""
    by_name = {asset.name: asset for asset in tables}
    begin, load_chunk, finish = _begin(by_name, project), _load_chunk(by_name, project), _finish(by_name, project)

    @dg.job(
        name=job_name(project),
        description="Loads a large table in chunks, each in a step of its own, and then syncs it. A run that is "
        "re-executed goes on with the chunks that are left.",
        resource_defs={"io_manager": _through_the_stage(project.connections)},
        executor_def=project.load_executor or project.executor,
    )
    def load_large_table() -> None:
        opened, chunks = begin.alias("begin")()
        finish.alias("finish")(opened, chunks.map(load_chunk.alias("load_chunk")).collect())

    return load_large_table


def _begin(by_name: dict[str, TableAsset], project: Project) -> dg.OpDefinition:
    @dg.op(
        name=f"{project.name}_begin_load",
        description="Begins the load of the table, or finds the chunks that are left of it.",
        out={"opened": dg.Out(Opened), "chunks": dg.DynamicOut(Chunk)},
        pool=project.pool,
        retry_policy=assets.RETRIES,
    )
    def begin(
        context: dg.OpExecutionContext, config: LoadOptions
    ) -> Iterator[dg.Output[Opened] | dg.DynamicOutput[Chunk]]:
        asset = by_name.get(config.table)
        if asset is None:
            near = get_close_matches(config.table, by_name, cutoff=0.0)
            raise dg.Failure(
                f"found table {config.table!r}; expected a table of tables.yaml, such as {', '.join(near)}",
                allow_retries=False,
            )
        try:
            places = project.connections.places()
            with Lease(places.stage.store, asset.table, holder(context)):
                found = load.open_load(asset.table, places, full=config.full)
        except AuroraSyncError as error:
            raise assets.failure(error, context.retry_number) from error
        if found is None:
            context.log.info(f"{config.table} is not read in chunks now: the last step syncs it.")
        else:
            context.log.info(f"{config.table}: {found.chunks_done:,} of {found.chunks:,} chunks are loaded.")
        yield dg.Output(config.model_dump(), "opened")
        for number in found.left if found else ():
            chunk = {"table": config.table, "load_id": found.id if found else "", "number": number}
            yield dg.DynamicOutput(chunk, f"chunk_{number}", "chunks")

    return begin


def _load_chunk(by_name: dict[str, TableAsset], project: Project) -> dg.OpDefinition:
    @dg.op(
        name=f"{project.name}_load_chunk",
        description="Reads one chunk of the table, and adds it to the target.",
        out=dg.Out(Done),
        pool=project.pool,
        retry_policy=assets.RETRIES,
        tags=KUBERNETES | CHUNKS_LAST,
    )
    def load_chunk(context: dg.OpExecutionContext, chunk: Chunk) -> Done:
        try:
            done = _loaded(context, by_name[chunk["table"]].table, project.connections.places(), chunk)
        except BeginsAgainError as error:
            context.log.warning(printable(f"The last step begins the load again: {error}"))
            done = {"state": "left to the last step"}
        except AuroraSyncError as error:
            raise assets.failure(error, context.retry_number) from error
        context.add_output_metadata(done)
        return done

    return load_chunk


def _loaded(context: dg.OpExecutionContext, table: TableConfig, places: Places, chunk: Chunk) -> Done:
    """Load a chunk. Returns what became of it, as metadata."""
    with Lease(places.stage.store, table, holder(context)):
        state = one_chunk.loading_state(table, places)
        if state and load.window_closed(table, state):
            return {"state": f"not read: {load.goes_on(table)}"}
        found = one_chunk.load_chunk(table, places, chunk["load_id"], chunk["number"], logged(context.log), reuses=True)
    if found is None:
        return {"state": "was loaded before"}
    return {"state": "loaded", "rows": found.rows, "bytes_staged": found.bytes, "seconds": round(found.seconds, 3)}


def _finish(by_name: dict[str, TableAsset], project: Project) -> dg.OpDefinition:
    @dg.op(
        name=f"{project.name}_finish_load",
        description="Reads what was written while the chunks were loaded, compares the target with the source, and "
        "reports the asset of the table.",
        out=dg.Out(dg.Nothing),
        pool=project.pool,
        retry_policy=assets.RETRIES,
        tags=KUBERNETES,
    )
    def finish(
        context: dg.OpExecutionContext, opened: Opened, chunks: list[Done]
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        asset = by_name[opened["table"]]
        table = asset.table
        try:
            places = project.connections.places()
            Lease(places.stage.store, table, holder(context)).release()  # the run takes one if chunks are left
            receipt = sync.run(
                table, places, allow_deletes=opened["allow_deletes"], on_progress=logged(context.log, job_name(project))
            )
        except AuroraSyncError as error:
            raise assets.failure(error, context.retry_number) from error
        for warning in receipt.warnings:
            context.log.warning(printable(warning))
        yield from assets.events_of(context.instance, asset, receipt, project.verification_key(asset.group))

    return finish


def holder(context: dg.OpExecutionContext) -> str:
    """Return the holder of the lease: the first run of those that re-execute each other."""
    return f"Dagster run {context.run.root_run_id or context.run_id}"


def _through_the_stage(connections: Connections) -> dg.IOManagerDefinition:
    """Return the IO manager of the values between steps: objects below ``dagster/`` in the stage."""

    @dg.io_manager(description="Keeps the values between the steps of a load in the bucket of the stage.")
    def values_in_the_stage(_context: dg.InitResourceContext) -> dg.IOManager:
        from dagster_aws.s3 import PickledObjectS3IOManager  # takes 1.6 s

        store = connections.places().stage.store
        return PickledObjectS3IOManager(store.bucket, store.client, f"{store.prefix}dagster")

    return values_in_the_stage
