"""Define the assets of all tables of one replication slot as one step, because a slot is read for all its tables.

A run for some of the tables syncs all of them. It reports the other tables as their own runs would.
"""

from collections.abc import Iterator, Mapping
from functools import partial

import dagster as dg

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch, sync
from aurora_sync.engine.batch import Batch
from aurora_sync.engine.places import Places
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration import assets, checks
from aurora_sync.orchestration.assets import Attributes, Increment, SyncOptions
from aurora_sync.orchestration.project import Project


def slot_assets(tables: Batch, attributes: Mapping[str, Attributes], project: Project) -> dg.AssetsDefinition:
    """Return the assets of ``tables``, which share a slot. The keys of ``attributes`` are qualified names of tables."""
    keys = {table.qualified_name: assets.asset_key(table) for table in tables}
    by_key = {keys[table.qualified_name]: table for table in tables}

    def spec(table: TableConfig) -> dg.AssetSpec:
        said = attributes[table.qualified_name].copy()
        said["metadata"] = {**said["metadata"], "dagster/io_manager_key": project.io_manager_key}
        return dg.AssetSpec(keys[table.qualified_name], skippable=True, **said)

    @dg.multi_asset(
        name=op_name(tables[0], project.name),
        specs=[spec(table) for table in tables],
        check_specs=[each for table in tables for each in checks.specs(table, keys[table.qualified_name])],
        can_subset=True,
        pool=project.pool,
        retry_policy=assets.RETRIES,
    )
    def sync_slot(
        context: dg.AssetExecutionContext, config: SyncOptions
    ) -> Iterator[dg.MaterializeResult[Increment] | dg.AssetCheckResult]:
        """The work is done by aurora_sync.engine.batch.run; the IO manager reports each table's receipt."""
        asked = [by_key[key] for key in by_key if key in context.selected_asset_keys]
        receipts: dict[str, Receipt] = {}
        error = _run(tables, asked, project.connections.places(), config, receipts)
        for table in tables:
            receipt, key = receipts.get(table.qualified_name), keys[table.qualified_name]
            if receipt is None:
                continue
            verification = project.verification_key(assets.group(table))
            if table not in asked:
                assets.report_sync(context.instance, table, receipt, verification)
                continue
            yield dg.MaterializeResult(asset_key=key, value=Increment(table, config, receipt))
            for result in checks.results(table, key, receipt, context.instance, verification):
                if dg.AssetCheckKey(key, result.check_name or "") in context.selected_asset_check_keys:
                    yield result
        if error is not None:
            raise assets.failure(error, context.retry_number) from error

    return sync_slot


def op_name(table: TableConfig, name: str) -> str:
    """Return the name, in a run's config, of the step that syncs the table."""
    slot = batch.shared_with(table)
    return f"{name}_slot_{slot}" if slot else assets.asset_key(table).to_python_identifier()


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
