"""Convert receipts and source tables to Dagster metadata.

The UI plots only numbers, so every value that is worth a plot is an int or a float.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import dagster as dg

from aurora_sync.model.certificate import Finding
from aurora_sync.model.column import Column
from aurora_sync.model.foreign_text import markdown, markdown_list, markdown_table
from aurora_sync.model.receipt import QueryRef, Receipt
from aurora_sync.model.watermark import Snapshot, Watermark
from aurora_sync.orchestration import compat

RUN_SEQUENCE = "run_sequence"
TABLE_NAME = "dagster/table_name"


def of_stream(receipt: Receipt) -> dict[str, Any]:
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


def of_receipt(receipt: Receipt) -> dict[str, Any]:
    """Return the metadata of the materialization that a receipt describes."""
    metadata: dict[str, Any] = {
        "dagster/row_count": receipt.target_rows,
        TABLE_NAME: receipt.target,
        "dagster/column_schema": column_schema(receipt.columns, receipt.key),
        "rows_exported": receipt.rows_exported,
        "rows_inserted": receipt.inserted,
        "rows_updated": receipt.updated,
        "rows_deleted": receipt.deleted,
        "bytes_staged": receipt.bytes_staged,
        **{f"seconds_{phase}": milliseconds(seconds) for phase, seconds in receipt.seconds.items()},
        "watermark_lag_seconds": milliseconds(receipt.watermark_lag_seconds),
        RUN_SEQUENCE: receipt.run_sequence,
        "certificate": receipt.certificate.level.value,
        "guarantee": receipt.certificate.text,
        "method": receipt.method,
        "load_id": receipt.load_id,
        "watermark_before": dg.MetadataValue.json(watermark(receipt.watermark_before)),
        "watermark_after": dg.MetadataValue.json(watermark(receipt.watermark_after)),
        "snapshot": dg.MetadataValue.json(snapshot(receipt.watermark_after.snapshot)),
    }
    if receipt.queries:
        metadata["queries"] = queries(receipt.queries)
    if receipt.because:
        metadata["read_more_because"] = receipt.because
    if receipt.manifest_uri is not None:
        metadata["dagster/uri"] = receipt.manifest_uri
    if receipt.certificate.findings:
        findings = [(found.event, found.action.value, found.text) for found in receipt.certificate.findings]
        metadata["findings"] = dg.MetadataValue.md(markdown_table(["event", "action", ""], findings))
    metadata |= of_stream(receipt)
    if receipt.schema_changes:
        metadata["schema_changes"] = schema_changes(receipt.schema_changes)
    if load := receipt.load:
        metadata |= {"load_chunks": load.chunks, "load_chunks_done": load.chunks_done}
    if receipt.repair is not None:
        metadata |= {f"reconcile_{name}": number for name, number in vars(receipt.repair).items()}
    metadata["values_adjusted"] = sum(adjusted.values for adjusted in receipt.adjusted)
    if receipt.adjusted:
        adjusted = [(a.column, a.policy, f"{a.values:,}", ", ".join(a.examples) or a.find) for a in receipt.adjusted]
        table = markdown_table(["column", "policy", "values", "examples, or how to find them"], adjusted)
        metadata["adjusted"] = dg.MetadataValue.md(table)
    if receipt.warnings:
        metadata["warnings"] = dg.MetadataValue.md(markdown_list(receipt.warnings))
    return metadata


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
    """Return the run sequence that a materialization recorded, if it did."""
    entry = materialization.metadata.get(RUN_SEQUENCE) if materialization else None
    return entry.value if isinstance(entry, dg.IntMetadataValue) else None


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
