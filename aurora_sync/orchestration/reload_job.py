"""Define the job that reads rows of a table again: those since a time, or those of a range of keys (engine/reload.py).

Its only step counts the rows, and then syncs the table, reading them again. It reports the asset of the table as a sync
does. The asset itself has no such options: it may run with other assets, and by schedules.
"""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches

import dagster as dg
from pydantic import Field

from aurora_sync.engine.reload import count, reload
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import printable
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.reload import MAX_ROWS, OptionNames, Reload, RowRange
from aurora_sync.orchestration import assets
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.io_manager import logged
from aurora_sync.orchestration.project import Project

_EITHER = "Give either since, or from_key and to_key."


class ReloadOptions(dg.Config):
    """Options of the job, for the launchpad."""

    table: str = Field(description="The table as schema.table, such as public.orders.")
    since: str = Field(
        "",
        description="Read rows again whose time is not before this one, such as 2026-01-31T12:00:00+01:00. Without a "
        f"zone it is UTC; for a column without zone, it is the time as the column has it. {_EITHER}",
    )
    column: str = Field("", description="The column of since. Default: the column of the table's strategy.")
    from_key: str = Field(
        "",
        description="Read rows again whose first key column is at least this value. Rows that the source does not have "
        f"are removed from the target. {_EITHER}",
    )
    to_key: str = Field("", description="Read rows again whose first key column is below this value.")
    max_rows: int = Field(MAX_ROWS, description="Refuse to read more rows than this again.")
    dry_run: bool = Field(False, description="Only count the rows at the source, and log the number.")
    allow_deletes: bool = Field(False, description="Delete more rows from the target than delete_guard allows.")

    def request(self) -> Reload:
        names = OptionNames(lower="from_key", upper="to_key")
        return Reload(self.since, self.column, self.from_key, self.to_key, self.max_rows, names)


def job_name(project: Project) -> str:
    return f"{project.name}_reload_rows"


def reload_job(tables: Sequence[TableAsset], project: Project) -> dg.JobDefinition:
    """Return the job ``<name>_reload_rows``."""
    step = _step({asset.name: asset for asset in tables}, project)

    @dg.job(
        name=job_name(project),
        description="Reads rows of one table again: those since a time, or those of a range of keys. The log has the "
        "number of rows before they are read.",
        executor_def=project.executor,
    )
    def reload_rows() -> None:
        step.alias("reload_rows")()

    return reload_rows


def _step(by_name: dict[str, TableAsset], project: Project) -> dg.OpDefinition:
    @dg.op(
        name=f"{project.name}_reload",
        description="Counts the rows, syncs the table, and reads the rows again in the same snapshot.",
        out=dg.Out(dg.Nothing),
        pool=project.pool,
        retry_policy=assets.RETRIES,
    )
    def reload_table(
        context: dg.OpExecutionContext, config: ReloadOptions
    ) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
        if (asset := by_name.get(config.table)) is None:
            near = get_close_matches(config.table, by_name, cutoff=0.0)
            raise dg.Failure(
                f"found table {config.table!r}; expected a table of tables.yaml, such as {', '.join(near)}",
                allow_retries=False,
            )
        try:
            receipt = _reloaded(context, asset, config, project)
        except AuroraSyncError as error:
            raise assets.failure(error, context.retry_number) from error
        if receipt is None:
            return
        for warning in receipt.warnings:
            context.log.warning(printable(warning))
        yield from assets.events_of(context.instance, asset, receipt, project.verification_key(asset.group))

    return reload_table


def _reloaded(
    context: dg.OpExecutionContext, asset: TableAsset, config: ReloadOptions, project: Project
) -> Receipt | None:
    """Log the number of rows, and read them again. Returns None after a dry run."""
    places, request = project.connections.places(), config.request()
    found: RowRange = count(asset.table, places, request)
    limit = f"; max_rows is {request.max_rows:,}" if found.rows > request.max_rows else ""
    context.log.info(printable(f"{asset.name} has {found.rows:,} rows with {found}{limit}."))
    context.add_output_metadata({"rows_with": str(found), "rows": found.rows})
    if config.dry_run:
        return None
    return reload(asset.table, places, request, allow_deletes=config.allow_deletes, on_progress=logged(context.log))
