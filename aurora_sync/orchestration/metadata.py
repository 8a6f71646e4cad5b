"""Convert receipts and source tables to Dagster metadata.

The UI shows the entries in the order in which they are given, and plots every number. So the entries begin with what a
person looks for, and only values that are worth a plot are numbers. Counters that only grow, and entries that few runs
have, are text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import dagster as dg

from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.engine import report
from aurora_sync.model.certificate import Finding
from aurora_sync.model.column import Column
from aurora_sync.model.foreign_text import markdown, markdown_list, markdown_table
from aurora_sync.model.receipt import QueryRef, Receipt
from aurora_sync.model.watermark import Snapshot, Watermark
from aurora_sync.orchestration import compat

STATE = "state"
NEXT_RECONCILE = "next_reconcile"
RUN_SEQUENCE = "run_sequence"
TABLE_NAME = "dagster/table_name"


def of_receipt(receipt: Receipt, table: TableConfig) -> dict[str, Any]:
    """Return the metadata of the materialization that a receipt describes, in the order in which the UI shows it."""
    mark = receipt.watermark_after
    return {
        STATE: state(receipt),
        "watermark_lag_seconds": milliseconds(receipt.watermark_lag_seconds),
        "rows_changed": f"{receipt.inserted:,} inserted, {receipt.updated:,} updated, {receipt.deleted:,} deleted",
        NEXT_RECONCILE: next_reconcile(receipt, table),
        **_of_attention(receipt),
        "dagster/row_count": receipt.target_rows,
        "rows_exported": receipt.rows_exported,
        "rows_inserted": receipt.inserted,
        "rows_updated": receipt.updated,
        "rows_deleted": receipt.deleted,
        "bytes_staged": receipt.bytes_staged,
        **_durations(receipt),
        **_of_stream(receipt),
        **_of_load_and_reconcile(receipt),
        "values_adjusted": _text(sum(adjusted.values for adjusted in receipt.adjusted)),
        **({"queries": queries(receipt.queries)} if receipt.queries else {}),
        "certificate": receipt.certificate.level.value,
        "guarantee": receipt.certificate.text,
        "method": receipt.method,
        RUN_SEQUENCE: str(receipt.run_sequence),
        "load_id": receipt.load_id,
        "watermark_before": dg.MetadataValue.json(watermark(receipt.watermark_before)),
        "watermark_after": dg.MetadataValue.json(watermark(mark)),
        "snapshot": dg.MetadataValue.json(snapshot(mark.snapshot)),
        TABLE_NAME: receipt.target,
        "dagster/column_schema": column_schema(receipt.columns, receipt.key),
        **({"dagster/uri": receipt.manifest_uri} if receipt.manifest_uri is not None else {}),
    }


def state(receipt: Receipt) -> str:
    """Return in one sentence until when the target is certified, or why it is not."""
    given = receipt.certificate
    return report.guarantee(given.level, given.changes, given.text, receipt.watermark_after.snapshot.taken_at)


def next_reconcile(receipt: Receipt, table: TableConfig) -> str:
    """Return when a run will compare the target with its source again. Runs without changes count too, and a receipt
    does not say how many of them there were, so a number of runs is the largest possible."""
    known, configured = receipt.certificate.reconciled, table.reconcile
    if table.watermark_type is WatermarkType.full_snapshot:
        return "every run reads the whole table"
    due = []
    if configured and configured.every:
        left = configured.every - (receipt.run_sequence - (known.run_sequence if known else 0))
        due.append("at the next run" if left <= 1 else f"in {left:,} runs at the latest")
    if configured and configured.schedule:
        due.append(f"at {compat.next_tick(configured.schedule):%Y-%m-%d %H:%M} UTC")
    last = (
        f"the last one, or full read, was run {known.run_sequence}, as of {known.as_of:%Y-%m-%d %H:%M} UTC"
        if known
        else ""
    )
    return "; ".join(filter(None, (" or ".join(due) or "none is configured", last)))


def _of_attention(receipt: Receipt) -> dict[str, Any]:
    """Return the metadata that a person should look at; empty after most runs."""
    metadata: dict[str, Any] = {}
    if receipt.warnings:
        metadata["warnings"] = dg.MetadataValue.md(markdown_list(receipt.warnings))
    if receipt.schema_changes:
        metadata["schema_changes"] = schema_changes(receipt.schema_changes)
    if receipt.adjusted:
        adjusted = [(a.column, a.policy, f"{a.values:,}", ", ".join(a.examples) or a.find) for a in receipt.adjusted]
        table = markdown_table(["column", "policy", "values", "examples, or how to find them"], adjusted)
        metadata["adjusted"] = dg.MetadataValue.md(table)
    if receipt.certificate.findings:
        findings = [(found.event, found.action.value, found.text) for found in receipt.certificate.findings]
        metadata["findings"] = dg.MetadataValue.md(markdown_table(["event", "action", ""], findings))
    if receipt.because:
        metadata["read_more_because"] = receipt.because
    return metadata


def _durations(receipt: Receipt) -> dict[str, Any]:
    """Return the seconds of the run as a number, and of its phases as text."""
    return {
        f"seconds_{phase}": milliseconds(seconds) if phase == "total" else f"{seconds:,.3f}"
        for phase, seconds in sorted(receipt.seconds.items(), key=lambda item: item[0] != "total")
    }


def _of_stream(receipt: Receipt) -> dict[str, Any]:
    """Return the metadata of the stream that a run read; empty where it read none."""
    metadata: dict[str, Any] = {}
    if receipt.slot is not None:
        metadata |= {"slot_retained_bytes": receipt.slot.retained_bytes, "slot_lag_bytes": receipt.slot.lag_bytes}
        metadata["slot_wal_status"] = receipt.slot.wal_status
    if receipt.consumed is not None:
        metadata |= {f"topic_{name}": value for name, value in vars(receipt.consumed).items() if name != "topic"}
        metadata["topic"] = receipt.consumed.topic
    if receipt.waited_seconds is not None:
        metadata["changes_waited_seconds"] = milliseconds(receipt.waited_seconds)
    return metadata


def _of_load_and_reconcile(receipt: Receipt) -> dict[str, Any]:
    """Return the progress of a load in chunks and the numbers of a reconcile, as text."""
    numbers: dict[str, int] = {}
    if load := receipt.load:
        numbers |= {"load_chunks": load.chunks, "load_chunks_done": load.chunks_done}
    if receipt.repair is not None:
        numbers |= {f"reconcile_{name}": number for name, number in vars(receipt.repair).items()}
    return {name: _text(number) for name, number in numbers.items()}


def _text(number: int) -> str:
    return f"{number:,}"


def queries(sent: Iterable[QueryRef]) -> dg.MetadataValue:
    """Return a Markdown table of the statements that needed a virtual warehouse."""
    rows = [(query.statement, query.phase, f"{query.seconds:.2f}", query.id) for query in sent]
    return dg.MetadataValue.md(markdown_table(["statement", "phase", "seconds", "query id"], rows))


def schema_changes(changes: Iterable[Finding]) -> dg.MetadataValue:
    """Return a Markdown table of changes, with before and after."""
    rows = [(c.event, c.action.value, c.before or "none", c.after or "none") for c in changes]
    return dg.MetadataValue.md(markdown_table(["change", "action", "before", "after"], rows))


def column_schema(columns: Iterable[Column], key: Iterable[str]) -> dg.TableSchema:
    """Return the columns with their types and comments at the source. ``key`` names the columns of the merge key."""
    in_key = set(key)
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                type=column.type_name,
                description=column.comment and markdown(column.comment),
                constraints=dg.TableColumnConstraints(
                    nullable=not column.not_null, other=["merge key"] if column.name in in_key else []
                ),
            )
            for column in columns
        ]
    )


def milliseconds(seconds: float) -> float:
    """Round seconds to milliseconds."""
    return round(float(seconds), 3)


def run_sequence(materialization: dg.AssetMaterialization | None) -> int | None:
    """Return the run sequence that a materialization recorded, if it did. Earlier releases recorded a number."""
    entry = materialization.metadata.get(RUN_SEQUENCE) if materialization else None
    if isinstance(entry, dg.IntMetadataValue):
        return entry.value
    return int(entry.value) if isinstance(entry, dg.TextMetadataValue) and (entry.value or "").isdecimal() else None


def shown_table(materialization: dg.AssetMaterialization | None) -> str | None:
    """Return the name of the target that a materialization recorded, if it did."""
    entry = materialization.metadata.get(TABLE_NAME) if materialization else None
    return entry.value if isinstance(entry, dg.TextMetadataValue) else None


def data_version(instance: dg.DagsterInstance, key: dg.AssetKey, receipt: Receipt) -> str:
    """Return the run sequence of the last increment that changed a row. Downstream assets need no other increments.

    A full read of an unchanged table is applied and has a new run sequence. It keeps the data version of the run before
    it, if Dagster's last materialization is of that run.
    """
    if receipt.inserted == receipt.updated == receipt.deleted == 0:
        last = compat.last_materialization(instance, key)
        if last and run_sequence(last) in (receipt.run_sequence - 1, receipt.run_sequence):
            return compat.data_version(last) or str(receipt.run_sequence)
    return str(receipt.run_sequence)


def watermark(mark: Watermark | None) -> dict[str, Any]:
    """Return strategy, value and horizon; empty before a first run. The whole document is in the manifest."""
    if mark is None:
        return {}
    value = json.loads(json.dumps(mark.value, default=str))
    return {"strategy": mark.strategy, "value": value, "horizon": mark.snapshot.xmin}


def snapshot(read: Snapshot) -> dict[str, Any]:
    return {"xmin": read.xmin, "xmax": read.xmax, "taken_at": read.taken_at.isoformat()}
