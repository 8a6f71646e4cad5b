"""The metrics of a project: the newest sync log entry of each table, and the state of the source.

Ages are not metrics. A collector may read a file long after it was written, so times are exported as they are, and the
reader subtracts them from now.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

from aurora_sync.config.loader import expand, load
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.newest import entries_of, newest_entries
from aurora_sync.engine.places import Places
from aurora_sync.errors import SourceError, WarehouseError
from aurora_sync.model.certificate import Level
from aurora_sync.model.load import Load
from aurora_sync.model.prometheus import Metric, Sample
from aurora_sync.model.receipt import Slot
from aurora_sync.source import activity, table_names
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync.strategies import strategy_of
from aurora_sync.warehouse.sync_log import LogEntry

_OF_TABLE, _OF_SLOT = ("database", "table"), ("database", "slot")


def _gauge(name: str, text: str, *labels: str) -> Metric:
    return Metric(f"aurora_sync_{name}", "gauge", text, labels)


SOURCE_UP = _gauge("source_up", "Whether the source answered: 1 or 0.", "database")
WAREHOUSE_UP = _gauge("warehouse_up", "Whether the warehouse answered: 1 or 0.", "database")
APPLIED_RUNS = Metric(
    "aurora_sync_applied_runs_total", "counter", "Runs that changed the target; 0 if it was never synced.", _OF_TABLE
)
WATERMARK = _gauge(
    "watermark_timestamp_seconds",
    "Time of the snapshot that the watermark describes, by the source's clock.",
    *_OF_TABLE,
)
APPLIED = _gauge("last_applied_timestamp_seconds", "Time of the last run that changed the target.", *_OF_TABLE)
RECONCILED = _gauge(
    "last_reconcile_timestamp_seconds", "Time of the snapshot of the last reconcile or full read.", *_OF_TABLE
)
TARGET_ROWS = _gauge("target_rows", "Rows in the target that are not marked as deleted.", *_OF_TABLE)
STAGED_ROWS = _gauge("last_run_staged_rows", "Rows that the last run staged.", *_OF_TABLE)
CHANGED_ROWS = _gauge("last_run_changed_rows", "Rows of the target that the last run changed.", *_OF_TABLE, "change")
CERTIFICATE = _gauge(
    "certificate", "Whether the target has the certificate of this level: 1 or 0.", *_OF_TABLE, "level"
)
CHUNKS = _gauge("load_chunks", "Chunks of the load that is not finished.", *_OF_TABLE)
CHUNKS_DONE = _gauge("load_chunks_done", "Chunks of the unfinished load that are in the target.", *_OF_TABLE)
ROW_CHANGES = Metric(
    "aurora_sync_source_row_changes_total",
    "counter",
    "Rows inserted, updated and deleted in the source's table, by the statistics of the server.",
    _OF_TABLE,
)
SLOT_UP = _gauge("slot_up", "Whether the replication slot exists and is usable: 1 or 0.", *_OF_SLOT)
SLOT_ACTIVE = _gauge("slot_active", "Whether a process reads the slot: 1 or 0.", *_OF_SLOT)
SLOT_RETAINED = _gauge("slot_retained_bytes", "WAL that the server keeps for the slot.", *_OF_SLOT)
SLOT_LAG = _gauge("slot_lag_bytes", "WAL that the reader of the slot has not confirmed.", *_OF_SLOT)
SLOT_SAFE = _gauge("slot_safe_bytes", "WAL that can be written before the slot may be lost.", *_OF_SLOT)

METRICS = (
    *(SOURCE_UP, WAREHOUSE_UP, APPLIED_RUNS, WATERMARK, APPLIED, RECONCILED, TARGET_ROWS, STAGED_ROWS, CHANGED_ROWS),
    *(CERTIFICATE, CHUNKS, CHUNKS_DONE, ROW_CHANGES, SLOT_UP, SLOT_ACTIVE, SLOT_RETAINED, SLOT_LAG, SLOT_SAFE),
)


@dataclass
class _Source:
    """The state of the source. ``tables`` is None if it could not be reached."""

    tables: list[TableConfig] | None = None
    changes: dict[tuple[str, str], int] = field(default_factory=dict)
    slots: dict[str, Slot | None] = field(default_factory=dict)


def collect(settings: Settings, places: Places, on_error: Callable[[Exception], object]) -> list[Sample]:
    """Return the metrics of the tables of tables.yaml. A source or warehouse that cannot be reached is passed to
    ``on_error``, and the metrics of the other are returned. Raises ConfigError if tables.yaml is not valid."""
    database = {"database": places.source.database}
    source, entries = _source(settings, places, on_error), _entries(places, on_error)
    samples = [
        Sample(SOURCE_UP, int(source.tables is not None), database),
        Sample(WAREHOUSE_UP, int(entries is not None), database),
    ]
    if entries is not None:
        tables = source.tables if source.tables is not None else _known(settings, entries)
        for table, entry in zip(tables, entries_of(tables, entries), strict=True):
            samples += _of_table(entry, {**database, "table": table.qualified_name})
    for (schema, name), changes in source.changes.items():
        samples.append(Sample(ROW_CHANGES, changes, {**database, "table": f"{schema}.{name}"}))
    for name, found in source.slots.items():
        samples += _of_slot(found, {**database, "slot": name})
    return samples


def _source(settings: Settings, places: Places, on_error: Callable[[Exception], object]) -> _Source:
    config = load(settings.tables)
    try:
        with connect(places.source.dsn, application_name="aurora_sync metrics") as connection:
            tables = expand(config, table_names.existing(connection) if config.has_globs else ())
            changes = activity.row_changes(connection, [(table.schema_, table.table_name) for table in tables])
            slots: dict[str, Slot | None] = {}
            for name in sorted({table.slot_name for table in tables if strategy_of(table).uses_slot}):
                slots[name] = None
                with suppress(SourceError):  # the slot of another plugin or database
                    slots[name] = slot.look(connection, name)
            return _Source(tables, changes, slots)
    except SourceError as error:
        on_error(error)
        return _Source()


def _entries(places: Places, on_error: Callable[[Exception], object]) -> list[LogEntry] | None:
    """Return the newest entry of each target; None if the warehouse cannot be reached."""
    try:
        return newest_entries(places, "metrics")
    except WarehouseError as error:
        on_error(error)
        return None


def _known(settings: Settings, entries: Iterable[LogEntry]) -> list[TableConfig]:
    """Return the tables without the source: a glob has those of its tables that were synced before."""
    config = load(settings.tables)
    globs = [entry for entry in config.tables if entry.glob]
    logged = sorted({entry.source_table for entry in entries})
    split = [(schema, name) for schema, _, name in (each.partition(".") for each in logged)]
    matched = [
        next((glob.of(*each) for glob in globs if glob.matches(*each)), None)
        for each in split
        if each not in config.explicit
    ]
    return [entry.table for entry in config.tables if not entry.glob] + [table for table in matched if table]


def _of_table(entry: LogEntry | None, labels: dict[str, str]) -> Iterator[Sample]:
    yield Sample(APPLIED_RUNS, entry.run_sequence if entry else 0, labels)
    if entry is None:
        return
    watermark, certificate = json.loads(entry.watermark), json.loads(entry.certificate)
    yield Sample(WATERMARK, datetime.fromisoformat(watermark["snapshot"]["taken_at"]).timestamp(), labels)
    yield Sample(APPLIED, entry.applied_at.timestamp(), labels)
    if reconciled := certificate["reconciled"]:
        yield Sample(RECONCILED, datetime.fromisoformat(reconciled["as_of"]).timestamp(), labels)
    yield Sample(TARGET_ROWS, entry.target_rows, labels)
    yield Sample(STAGED_ROWS, entry.staged_rows, labels)
    for change in ("inserted", "updated", "deleted"):
        yield Sample(CHANGED_ROWS, getattr(entry, change), {**labels, "change": change})
    for level in Level:
        yield Sample(CERTIFICATE, int(certificate["level"] == level.value), {**labels, "level": level.value})
    if watermark.get("load"):
        progress = Load.from_json(watermark["load"])
        yield Sample(CHUNKS, progress.chunks, labels)
        yield Sample(CHUNKS_DONE, progress.chunks_done, labels)


def _of_slot(found: Slot | None, labels: dict[str, str]) -> Iterator[Sample]:
    yield Sample(SLOT_UP, int(found is not None and not found.lost), labels)
    if found is None:
        return
    yield Sample(SLOT_ACTIVE, int(found.active_pid is not None), labels)
    yield Sample(SLOT_RETAINED, found.retained_bytes, labels)
    yield Sample(SLOT_LAG, found.lag_bytes, labels)
    if found.safe_bytes is not None:
        yield Sample(SLOT_SAFE, found.safe_bytes, labels)
