"""The receipt of a run, and the reports that it contains."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aurora_sync.model.as_json import as_json
from aurora_sync.model.certificate import Certificate, Finding
from aurora_sync.model.column import Column
from aurora_sync.model.load import Load
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.verification import Verification
from aurora_sync.model.watermark import Watermark


def find_rows(table: str, xmins: Sequence[int]) -> str:
    """Return a statement for the source that finds the rows written by these transactions (32-bit ids); empty when
    ``xmins`` is empty, as for a view. ``table`` is the name of the table in SQL."""
    if not xmins:
        return ""
    listed = ", ".join(f"'{xmin}'" for xmin in xmins)
    return f"SELECT ctid, * FROM {table} WHERE xmin::text IN ({listed})"  # noqa: S608


@dataclass(frozen=True)
class Adjusted:
    """The number of values of one column that its policy, null or clamp, changed in a run. ``find`` is a statement for
    the source that finds some of the rows. ``examples`` are original values, each after the merge key of its row; empty
    unless the table has show_values."""

    column: str  # as the source spells it
    policy: str
    values: int
    examples: tuple[str, ...] = ()
    find: str = ""

    def __str__(self) -> str:
        became = {"null": "became NULL", "clamp": "were clamped"}[self.policy]
        text = f"{self.values:,} values of column {self.column} {became}"
        if self.examples:
            return f"{text}, such as {', '.join(self.examples)}"
        return f"{text}; " + (
            f"to find them: {self.find}" if self.find else "show_values: true in tables.yaml shows some"
        )


@dataclass(frozen=True)
class QueryRef:
    """A statement of a run that needed a virtual warehouse. ``seconds`` is the time until the client had the answer,
    which includes the start of the virtual warehouse and the wait for it."""

    id: str  # of the query history
    statement: str  # its first word: COPY, MERGE, INSERT, ...
    phase: str  # look, load, merge, verify
    seconds: float


@dataclass(frozen=True)
class Applied:
    """The warehouse's report of one applied manifest, after its transaction committed."""

    run_sequence: int
    inserted: int
    updated: int
    deleted: int
    target_rows: int  # rows that count as present (not soft-deleted) after the increment
    seconds: dict[str, float]  # load, merge
    adjusted: tuple[Adjusted, ...] = ()
    changes: tuple[Finding, ...] = ()  # of the target's columns
    queries: tuple[QueryRef, ...] = ()
    target: tuple[str, str] | None = None  # schema and table in the warehouse


@dataclass(frozen=True)
class Repair:
    """The numbers of a reconcile: what it compared, and what it repaired in the target."""

    buckets_compared: int
    buckets_differing: int
    rows_moved: int  # besides the rows of the increment
    lost: int  # rows that were missing in the target
    stale: int
    ghosts: int  # rows of the target that the source did not have


@dataclass(frozen=True)
class Slot:
    """The state of a logical replication slot, from ``pg_replication_slots``."""

    name: str
    active_pid: int | None
    confirmed: int  # LSN up to which its reader has confirmed the changes
    wal_status: str  # reserved, extended, unreserved, lost
    retained_bytes: int  # WAL that the server keeps for the slot
    lag_bytes: int  # WAL that the slot's reader has not confirmed
    safe_bytes: int | None  # WAL that can still be written before the slot may be lost; None: no limit

    @property
    def lost(self) -> bool:
        """True when the server removed WAL that the slot needs (max_slot_wal_keep_size), or invalidated the slot."""
        return self.wal_status == "lost"


@dataclass(frozen=True)
class Consumed:
    """The number of offsets of a topic that a run read, and how many remained (``behind``) when it ended."""

    topic: str
    messages: int
    behind: int


@dataclass(frozen=True)
class Receipt:
    """The report of what one run did for one table. ``changed`` is False when there was nothing to apply."""

    table: str
    target: str
    strategy: str
    method: str  # how the rows were found this time, in words: "horizon scan", "lock fence", ...
    load_id: str
    disposition: Disposition
    run_sequence: int
    changed: bool
    rows_exported: int
    bytes_staged: int
    inserted: int
    updated: int
    deleted: int
    source_rows: int | None
    target_rows: int
    watermark_before: Watermark | None
    watermark_after: Watermark
    manifest_uri: str | None
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sees_deletes: bool
    watermark_lag_seconds: float  # age of the oldest open writing transaction, whose rows the target does not have yet
    certificate: Certificate
    verification: Verification | None = None
    adjusted: tuple[Adjusted, ...] = ()
    schema_changes: tuple[Finding, ...] = ()  # of the source's columns and of the target's
    slot: Slot | None = None  # after a run that read a slot, or a topic that is filled from one
    consumed: Consumed | None = None  # after a run that read a topic
    waited_seconds: float | None = None  # since the commit of the oldest change that the run read from a stream
    load: Load | None = None  # the load in chunks that the run continued or finished
    repair: Repair | None = None  # None when the run did not reconcile
    because: str = ""  # why the run read more than the strategy's own increment
    seconds: dict[str, float] = field(default_factory=dict)  # plan, export, load, reconcile, merge, total
    queries: tuple[QueryRef, ...] = ()  # in Snowflake, of the attempt that ended with this receipt
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the receipt as JSON values, without the canaries of the watermarks: they contain keys of rows. The
        manifest has them."""
        marks = (self.watermark_before, self.watermark_after)
        before, after = (mark and dataclasses.replace(mark, canaries=()) for mark in marks)
        return dict(as_json(self)) | {"watermark_before": as_json(before), "watermark_after": as_json(after)}
