"""The IO manager: writing an asset is one sync of its table, reading one is a handle to the target."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import dagster as dg

from aurora_sync.engine import batch
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import printable
from aurora_sync.orchestration import compat, metadata
from aurora_sync.orchestration.assets import TARGET, Increment, failure
from aurora_sync.orchestration.resources import Connections
from aurora_sync.orchestration.warehouse_table import WarehouseTable
from aurora_sync.source.copy_out import Progress
from aurora_sync.warehouse.ddl import TableName

# A line in the run's log is a row in Dagster's event storage, at about 9 ms: one for a short table is none.
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class AuroraSyncIOManager(dg.IOManager):
    """Knows no strategy: :func:`aurora_sync.engine.batch.run_one` picks it by the table's configuration."""

    connections: Connections

    def handle_output(self, context: dg.OutputContext, obj: Increment) -> None:
        """Apply the increment, unless that was done together with others, leave its receipt in it, and report it as
        metadata and data version.

        Errors become ``dg.Failure``, retried by the asset's policy only where trying again may help.
        """
        if not obj.applied:
            try:
                obj.receipt = batch.run_one(
                    obj.table,
                    self.connections.places(),
                    full=obj.options.full,
                    reconcile=obj.options.reconcile,
                    allow_deletes=obj.options.allow_deletes,
                    on_progress=_logged(context),
                )
            except AuroraSyncError as error:
                raise failure(error, context.step_context.previous_attempt_count) from error
        receipt = obj.receipt
        for warning in receipt.warnings:
            context.log.warning(printable(warning))
        context.add_output_metadata(metadata.of_receipt(receipt))
        version = metadata.data_version(context.step_context.instance, context.asset_key, receipt)
        compat.set_data_version(context, version)

    def load_input(self, context: dg.InputContext) -> Any:
        """What the input's annotation asks for: ``pandas.DataFrame``, ``pyarrow.Table`` or
        ``pyarrow.RecordBatchReader`` is data, anything else, or none, the handle.

        ``AssetIn(metadata={"columns": [...]})`` reads these columns only.
        """
        target = context.upstream_output
        assert target is not None, "an asset of another code location is loaded by that location's IO manager"
        table = WarehouseTable(
            warehouse=self.connections.places().warehouse,
            name=TableName(*target.definition_metadata[TARGET]),
            run_sequence=metadata.run_sequence(compat.last_materialization(context.instance, context.asset_key)),
        )
        columns = context.definition_metadata.get("columns")
        wanted = context.dagster_type.typing_type
        name = f"{getattr(wanted, '__module__', '').partition('.')[0]}.{getattr(wanted, '__name__', '')}"
        match name:
            case "pandas.DataFrame":
                return table.read(columns).to_pandas()
            case "pyarrow.Table":
                return table.read(columns)
            case "pyarrow.RecordBatchReader":
                return table.batches(columns)
        return table


def _logged(context: dg.OutputContext) -> Callable[[Progress], None]:
    last = time.monotonic()

    def log(progress: Progress) -> None:
        nonlocal last
        if time.monotonic() - last < PROGRESS_SECONDS:
            return
        last = time.monotonic()
        share = f", {progress.share:.0%}" if progress.share is not None else ""
        speed = progress.bytes / 1e6 / max(progress.seconds, 0.001)
        context.log.info(f"{progress.rows:,} rows, {speed:.1f} MB/s{share}")

    return log
