"""Define one asset per table of tables.yaml.

The body of an asset looks empty because the IO manager does the work: it calls :func:`aurora_sync.engine.sync.run`.
Read that function first.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from aurora_sync.config.freshness import Freshness
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import markdown, markdown_code, printable
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.relation import SourceTable
from aurora_sync.orchestration import checks, compat, metadata
from aurora_sync.orchestration.project import Project, dagster_name
from aurora_sync.source.copy_out import Progress
from aurora_sync.strategies import strategy_of

STRATEGY_TAG = "aurora_sync/strategy"
TARGET = "aurora_sync/target"  # schema and table in the warehouse, for load_input

# Transient errors (errors.Kind.retry) are retried after about 10, 30 and 70 seconds, by (2 ** n - 1) * delay: a
# failover of Aurora takes 30 to 60 seconds. Other errors are not retried (io_manager.py).
RETRIES = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL, jitter=dg.Jitter.PLUS_MINUS)


class SyncOptions(dg.Config):
    """Options of one run, for the launchpad."""

    full: bool = Field(default=False, description="Read the whole table, and replace the target.")
    reconcile: bool = Field(
        default=False,
        description="Compare the target with its source, bucket by bucket, and repair deleted, lost and stale rows.",
    )
    allow_deletes: bool = Field(default=False, description="Delete more rows from the target than delete_guard allows.")


# Made once: Dagster would derive these fields for every table.
OPTIONS_SCHEMA = SyncOptions.to_fields_dict()

_OF_EXECUTION = {"op_tags", "run_tags", "priority", "pool"}


@dataclass
class Increment:
    """Description, without rows, of what one run moves for one table. The IO manager sets the receipt, once."""

    table: TableConfig
    options: SyncOptions
    _receipt: Receipt | None = None

    @property
    def applied(self) -> bool:
        return self._receipt is not None

    @property
    def receipt(self) -> Receipt:
        if self._receipt is None:
            raise RuntimeError(f"the increment of {self.table.qualified_name} was not applied yet")
        return self._receipt

    @receipt.setter
    def receipt(self, receipt: Receipt) -> None:
        if self._receipt is not None:
            raise RuntimeError(f"the increment of {self.table.qualified_name} was applied already")
        self._receipt = receipt


Results = Iterator[
    dg.MaterializeResult[Increment] | dg.AssetObservation | dg.AssetCheckResult | dg.AssetCheckEvaluation
]


@dataclass(frozen=True)
class TableAsset:
    """A table and the spec of its asset. Checks, jobs, sensor and verification follow the key and group of the spec."""

    table: TableConfig
    spec: dg.AssetSpec

    @property
    def name(self) -> str:
        """``schema.table`` of the source."""
        return self.table.qualified_name

    @property
    def key(self) -> dg.AssetKey:
        return self.spec.key

    @property
    def group(self) -> str:
        return self.spec.group_name or group(self.table)


@dataclass(frozen=True)
class DefinitionLine:
    """File and line that define a table. The UI links the asset to this line."""

    file: Path
    number: int


def asset_key(table: TableConfig) -> dg.AssetKey:
    """Return the key ``target schema / target table``, as spelled in tables.yaml, before any translation."""
    return dg.AssetKey([dagster_name(part) for part in table.target_names])


def source_key(table: TableConfig, source: str) -> dg.AssetKey:
    """Return the asset key of the source table: four parts, beginning with ``aurora``."""
    return dg.AssetKey(["aurora", *(dagster_name(part) for part in (source, table.schema_, table.table_name))])


def group(table: TableConfig) -> str:
    return table.group or dagster_name(table.schema_)


def default_spec(
    table: TableConfig, project: Project, *, source: SourceTable | None, line: DefinitionLine | None
) -> dg.AssetSpec:
    """Return the spec of a table's asset before the project translates it.

    Comment and columns are missing if ``source`` is None (no catalogue).
    """
    strategy = table.watermark_type.value
    synced = f"{markdown_code(table.qualified_name)} of {markdown(project.source)}, synced by {strategy}."
    return dg.AssetSpec(
        asset_key(table),
        description=f"{markdown(source.comment)}\n\n{synced}" if source and source.comment else synced,
        deps=[source_key(table, project.source)],
        code_version=code_version(table),
        freshness_policy=freshness_policy(table.freshness),
        group_name=group(table),
        kinds={"postgres", project.warehouse},
        metadata=_definition_metadata(table, source, line),
        owners=table.owners,
        tags={STRATEGY_TAG: strategy, **table.tags},
    )


def table_asset(asset: TableAsset, project: Project) -> dg.AssetsDefinition:
    """Return the asset of one table.

    Its checks can be left out of a run. They are evaluated all the same: see :func:`checked`.
    """
    table, key = asset.table, asset.key
    verification = project.verification_key(asset.group)

    @dg.multi_asset(
        name=key.to_python_identifier(),
        specs=[with_io_manager(asset.spec, project)],
        check_specs=checks.specs(table, key),
        can_subset=True,
        pool=table.pool or project.pool,
        op_tags=op_tags(table),
        retry_policy=RETRIES,
        config_schema=OPTIONS_SCHEMA,
    )
    def sync_table(context: dg.AssetExecutionContext) -> Results:
        # Dagster passes the Increment to the IO manager, which syncs the table and sets the receipt. So the checks use
        # the snapshot of this sync.
        increment = Increment(table, begin(context, project))
        if key in context.selected_asset_keys:
            yield dg.MaterializeResult(asset_key=key, value=increment)
        else:  # a person launched checks only
            apply(increment, project.connections.places(), context.retry_number)
            report_sync(context.instance, asset, increment.receipt, verification)
        yield observation(asset.table, project.source, read_state(increment.receipt))
        results = checks.results(table, key, increment.receipt, context.instance, verification)
        yield from checked(context, results)

    return sync_table


def with_io_manager(spec: dg.AssetSpec, project: Project) -> dg.AssetSpec:
    """Return the spec of an asset whose values go to our IO manager."""
    return spec.merge_attributes(metadata={"dagster/io_manager_key": project.io_manager_key})


def begin(context: dg.AssetExecutionContext, project: Project) -> SyncOptions:
    """Return the options of the run. Let the steps of this process share connections."""
    compat.keep_connections(context.instance)
    project.connections.places().warehouse.keep_connections()
    return SyncOptions(**context.op_execution_context.op_config)


def apply(
    increment: Increment, places: Places, attempts_before: int, on_progress: Callable[[Progress], None] | None = None
) -> None:
    """Sync the table of an increment and set its receipt.

    Errors become ``dg.Failure``, which the asset's policy retries only if a retry may help.
    """
    wanted = increment.options
    try:
        increment.receipt = batch.run_one(
            increment.table,
            places,
            full=wanted.full,
            reconcile=wanted.reconcile,
            allow_deletes=wanted.allow_deletes,
            on_progress=on_progress,
        )
    except AuroraSyncError as error:
        raise failure(error, attempts_before) from error


def checked(
    context: dg.AssetExecutionContext, results: Iterable[dg.AssetCheckResult]
) -> Iterator[dg.AssetCheckResult | dg.AssetCheckEvaluation]:
    """Yield the results of checks that are part of the run, and evaluations for the others.

    Runs that the change sensor and schedules request select only blocking checks (jobs.py).
    """
    for result in results:
        assert result.asset_key is not None
        assert result.check_name is not None
        selected = dg.AssetCheckKey(result.asset_key, result.check_name) in context.selected_asset_check_keys
        yield result if selected else compat.evaluation_in_step(context, result)


def observation(table: TableConfig, source: str, state: str) -> dg.AssetObservation:
    """Return an observation of a source table, without which its asset would look as if nobody watched it.

    It has no data version: one that arrived late would mark the target as outdated.
    """
    return dg.AssetObservation(source_key(table, source), metadata={metadata.STATE: state})


def read_state(receipt: Receipt) -> str:
    """Say what a sync read of its source table."""
    changed = f"{receipt.rows_exported:,} rows were read" if receipt.changed else "no row had changed"
    return f"Read as of {receipt.watermark_after.snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC: {changed}"


def op_tags(table: TableConfig) -> dict[str, Any]:
    """Return the tags of the step that syncs the table. The priority is one of them."""
    return {**table.op_tags, **({compat.PRIORITY_TAG: str(table.priority)} if table.priority else {})}


def failure(error: AuroraSyncError, attempts_before: int = 0) -> dg.Failure:
    """Convert an error to a failure with place and hint for the UI. Only some kinds are retried.

    After earlier attempts, the hint no longer suggests running the step again.
    """
    if attempts_before:
        error.lasts()
    shown = {"where": error.where, "hint": error.hint, "kind": error.kind.value}
    return dg.Failure(
        description=str(error),
        metadata={name: printable(text) for name, text in shown.items() if text},
        allow_retries=error.kind.retry,
    )


def report_sync(
    instance: dg.DagsterInstance, asset: TableAsset, receipt: Receipt, verification: dg.AssetKey | None
) -> None:
    """Record a sync that another asset made, with the events that the table's own asset would record.

    ``verification`` has the meaning that it has for :func:`checks.results`.
    """
    for event in events_of(instance, asset, receipt, verification):
        instance.report_runless_asset_event(event)


def events_of(
    instance: dg.DagsterInstance, asset: TableAsset, receipt: Receipt, verification: dg.AssetKey | None
) -> Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]:
    """Yield the events that the table's own asset would record for a sync."""
    key = asset.key
    tags = compat.data_version_tags(metadata.data_version(instance, key, receipt))
    yield dg.AssetMaterialization(key, metadata=metadata.of_receipt(receipt, asset.table), tags=tags)
    for result in checks.results(asset.table, key, receipt, instance, verification):
        yield compat.evaluation(result)


def source_spec(table: TableConfig, project: Project, source: SourceTable | None) -> dg.AssetSpec:
    """Return the spec of the source table, an external asset."""
    return dg.AssetSpec(
        source_key(table, project.source),
        description=markdown(source.comment) if source and source.comment else None,
        group_name=f"aurora_{dagster_name(project.source)}",
        kinds={"postgres"},
    )


def code_version(table: TableConfig) -> str:
    """Return a hash of the table's configuration and the strategy's version. The UI marks assets with an older hash.

    Default values are left out, so that a release that adds a key does not change the hash; so are keys that say where
    and when a run executes.
    """
    strategy = strategy_of(table)
    described = f"{strategy.version} {table.model_dump_json(exclude_defaults=True, exclude=_OF_EXECUTION)}"
    return hashlib.sha256(described.encode()).hexdigest()[:12]


def freshness_policy(freshness: Freshness | None) -> dg.FreshnessPolicy | None:
    if freshness is None:
        return None
    return dg.FreshnessPolicy.time_window(freshness.fail_window, freshness.warn_window)


def _definition_metadata(table: TableConfig, source: SourceTable | None, line: DefinitionLine | None) -> dict[str, Any]:
    target = table.written_target
    shown: dict[str, Any] = {"dagster/table_name": ".".join(target), TARGET: list(target)}
    if source is not None:
        key = table.primary_key or source.primary_key
        shown["dagster/column_schema"] = metadata.column_schema(source.columns, key)
    if line is not None:
        shown |= compat.code_reference(line.file, line.number)
    return shown
