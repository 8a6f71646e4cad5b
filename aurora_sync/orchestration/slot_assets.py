"""Define the assets of all tables of one replication slot as one step, because a slot is read for all its tables.

A run for some of the tables syncs all of them. It reports the other tables as their own runs would.
"""

from collections.abc import Sequence
from functools import partial

import dagster as dg

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch, sync
from aurora_sync.engine.batch import Batch
from aurora_sync.engine.places import Places
from aurora_sync.errors import AuroraSyncError, ConfigError
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration import assets, checks
from aurora_sync.orchestration.assets import Increment, SyncOptions, TableAsset
from aurora_sync.orchestration.project import Project


def slot_assets(tables: Sequence[TableAsset], project: Project) -> dg.AssetsDefinition:
    """Return the assets of ``tables``, which share a slot."""
    by_key = {asset.key: asset for asset in tables}
    configs = tuple(asset.table for asset in tables)
    _refuse_differences(configs)

    @dg.multi_asset(
        name=op_name(tables[0], project),
        specs=[assets.with_io_manager(asset.spec.replace_attributes(skippable=True), project) for asset in tables],
        check_specs=[each for asset in tables for each in checks.specs(asset.table, asset.key)],
        can_subset=True,
        pool=configs[0].pool or project.pool,
        op_tags=assets.op_tags(configs[0]),
        retry_policy=assets.RETRIES,
        config_schema=assets.OPTIONS_SCHEMA,
    )
    def sync_slot(context: dg.AssetExecutionContext) -> assets.Results:
        """The work is done by aurora_sync.engine.batch.run; the IO manager reports each table's receipt."""
        config = assets.begin(context, project)
        asked = [by_key[key].table for key in by_key if key in context.selected_asset_keys]
        receipts: dict[str, Receipt] = {}
        error = _run(configs, asked, project.connections.places(), config, receipts)
        for asset in tables:
            table, key, receipt = asset.table, asset.key, receipts.get(asset.name)
            if receipt is None:
                continue
            verification = project.verification_key(asset.group)
            if table not in asked:
                assets.report_sync(context.instance, asset, receipt, verification)
                continue
            yield dg.MaterializeResult(asset_key=key, value=Increment(table, config, receipt))
            yield assets.observation(table, project.source, assets.read_state(receipt))
            results = checks.results(table, key, receipt, context.instance, verification)
            yield from assets.checked(context, results)
        if error is not None:
            raise assets.failure(error, context.retry_number) from error

    return sync_slot


def _refuse_differences(tables: Batch) -> None:
    """Raise ConfigError if tables of one slot differ in what belongs to their common step."""
    first = tables[0]
    if problems := [
        f"table {table.qualified_name}: {key}: found another value than {first.qualified_name} has; expected one {key}"
        f" for all tables of slot {first.slot_name}, because one step in Dagster syncs them"
        for table in tables
        for key in ("pool", "op_tags", "priority")
        if getattr(table, key) != getattr(first, key)
    ]:
        raise ConfigError(problems)


def op_name(asset: TableAsset, project: Project) -> str:
    """Return the name, in a run's config, of the step that syncs the table."""
    slot = batch.shared_with(asset.table)
    return f"{project.name}_slot_{slot}" if slot else asset.key.to_python_identifier()


def _run(
    tables: Batch, asked: list[TableConfig], places: Places, config: SyncOptions, receipts: dict[str, Receipt]
) -> AuroraSyncError | None:
    """Sync the tables and add their receipts by qualified name. Return the first error, after all calls."""

    def keep(receipt: Receipt) -> None:
        receipts[receipt.table] = receipt

    def scan(table: TableConfig) -> None:
        keep(sync.run(table, places, full=config.full, reconcile=config.reconcile, allow_deletes=config.allow_deletes))

    calls = [partial(scan, table) for table in asked]
    if not (config.full or config.reconcile):
        calls = [partial(batch.run, tables, places, keep, allow_deletes=config.allow_deletes)]
    errors = []
    for call in calls:
        try:
            call()
        except AuroraSyncError as error:
            errors.append(error)
    return errors[0] if errors else None
