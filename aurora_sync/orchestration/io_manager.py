"""The IO manager: to write an asset is to sync its table; to read one returns a handle to the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg

from aurora_sync.model.foreign_text import printable
from aurora_sync.orchestration import compat, metadata
from aurora_sync.orchestration.ahead import Ahead
from aurora_sync.orchestration.assets import TARGET, Increment, TableAsset, apply
from aurora_sync.orchestration.resources import Connections
from aurora_sync.orchestration.warehouse_table import WarehouseTable, table_name
from aurora_sync.source.copy_out import Progress

# A line in the run's log is a row in Dagster's event storage, at about 9 ms. A short copy logs no progress.
PROGRESS_SECONDS = 10.0


@dataclass(frozen=True)
class AuroraSyncIOManager(dg.IOManager):
    """The IO manager of all tables. The strategy is chosen in :func:`aurora_sync.engine.batch.run_one`, not here."""

    connections: Connections
    ahead: Ahead
    load_job: str  # the job that loads a large table in several steps

    def handle_output(self, context: dg.OutputContext, obj: Increment) -> None:
        """Apply the increment, set its receipt, and report the receipt as metadata and data version.

        An increment that was applied with other tables of its slot or its run is only reported. Errors
        become ``dg.Failure``, which the asset's policy retries only if a retry may help.
        """
        if not obj.applied:
            places = self.connections.places()
            if receipt := self.ahead.receipt(context, places):
                obj.receipt = receipt
            else:
                attempts = context.step_context.previous_attempt_count
                apply(obj, places, attempts, logged(context.log, self.load_job))
        receipt = obj.receipt
        for warning in receipt.warnings:
            context.log.warning(printable(warning))
        context.add_output_metadata(metadata.of_receipt(receipt, obj.table))
        version = metadata.data_version(context.step_context.instance, context.asset_key, receipt)
        compat.set_data_version(context, version)

    def load_input(self, context: dg.InputContext) -> Any:
        """Return rows or a handle, by the annotation of the input.

        ``pandas.DataFrame``, ``pyarrow.Table`` and ``pyarrow.RecordBatchReader`` return rows. Any other annotation, or
        none, returns a :class:`WarehouseTable`. ``AssetIn(metadata={"columns": [...]})`` limits the columns.
        """
        target = context.upstream_output
        assert target is not None, "an asset of another code location is loaded by that location's IO manager"
        newest = compat.last_materialization(context.instance, context.asset_key)
        table = WarehouseTable(
            warehouse=self.connections.places().warehouse,
            name=table_name(target.definition_metadata[TARGET], metadata.shown_table(newest)),
            run_sequence=metadata.run_sequence(newest),
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


def io_manager(connections: Connections, tables: Mapping[str, TableAsset], load_job: str) -> dg.IOManagerDefinition:
    """Return the IO manager as a resource. ``tables`` are those that :class:`Ahead` may sync together, by step.

    At the end of the run, or of the process of a step, it closes the connection that the steps share.
    """

    @contextmanager
    def opened(_context: dg.InitResourceContext) -> Iterator[AuroraSyncIOManager]:
        try:
            yield AuroraSyncIOManager(connections, Ahead(tables), load_job)
        finally:
            connections.close()

    return dg.IOManagerDefinition(resource_fn=cast("Any", opened))  # a generator is not in the type, but closed


def logged(log: dg.DagsterLogManager, load_job: str = "") -> Callable[[Progress], None]:
    """Return a function that writes the progress of a run into the log of a step. ``load_job`` is named there when the
    step loads a table in chunks."""
    last = time.monotonic()

    def write(progress: Progress) -> None:
        nonlocal last
        if progress.phase == "chunks" and load_job:
            log.info(f"This step loads the table in chunks. The job {load_job} loads each chunk in a step of its own.")
        if not progress.seconds or time.monotonic() - last < PROGRESS_SECONDS:
            return
        last = time.monotonic()
        share = f", {progress.share:.0%}" if progress.share is not None else ""
        speed = progress.bytes / 1e6 / max(progress.seconds, 0.001)
        log.info(f"{progress.rows:,} rows, {speed:.1f} MB/s{share}")

    return write
