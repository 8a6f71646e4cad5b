"""The receipt of a run, and the reports that it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from aurora_sync.model.as_json import as_json
from aurora_sync.model.certificate import Certificate, Finding
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.verification import Verification
from aurora_sync.model.watermark import Watermark


def find_rows(table: str, xmins: Sequence[int]) -> str:
    """Return a statement for the source that finds the rows of these transactions, which are 32 bits each; empty where
    there are none, as in a view. ``table`` is its name in SQL."""
    if not xmins:
        return ""
    listed = ", ".join(f"'{xmin}'" for xmin in xmins)
    return f"SELECT ctid, * FROM {table} WHERE xmin::text IN ({listed})"  # noqa: S608


@dataclass(frozen=True)
class Adjusted:
    """Values of one column that its policy, null or clamp, changed on the way. ``find`` is a statement for the source
    that finds some of the rows; ``examples`` are values as they were, each behind its row's merge key, where the table
    has show_values."""

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
        return f"{text}; {f'to find them: {self.find}' if self.find else 'show_values: true in tables.yaml shows some'}"


@dataclass(frozen=True)
class Applied:
    """What the warehouse reports of one applied manifest, after its transaction committed."""

    run_sequence: int
    inserted: int
    updated: int
    deleted: int
    target_rows: int  # rows that count as present (not soft-deleted) after the increment
    seconds: dict[str, float]  # load, merge
    adjusted: tuple[Adjusted, ...] = ()
    changes: tuple[Finding, ...] = ()  # of the target's columns


@dataclass(frozen=True)
class Repair:
    """What a reconcile compared, and what of the target it put right."""

    buckets_compared: int
    buckets_differing: int
    rows_moved: int  # besides those of the increment
    lost: int  # were missing in the target
    stale: int
    ghosts: int  # were in the target and not in the source


@dataclass(frozen=True)
class Slot:
    """A logical replication slot, as its server shows it."""

    name: str
    active_pid: int | None
    confirmed: int  # LSN up to which its reader has said that all is safe
    wal_status: str  # reserved, extended, unreserved, lost
    retained_bytes: int  # of WAL, which the server keeps for it
    lag_bytes: int  # of WAL, which its reader has not confirmed
    safe_bytes: int | None  # of WAL that may still be written before it is in danger; None: without limit

    @property
    def lost(self) -> bool:
        """Whether what it should still have is gone: max_slot_wal_keep_size, or a server that invalidated it."""
        return self.wal_status == "lost"


@dataclass(frozen=True)
class Consumed:
    """What a run read of a topic, in offsets, and how many more there were when it ended."""

    topic: str
    messages: int
    behind: int


@dataclass(frozen=True)
class Receipt:
    """What one run did for one table. ``changed`` is False when nothing was there to apply."""

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
    watermark_lag_seconds: float  # age of the oldest open writing transaction: what it writes is not in yet
    certificate: Certificate
    verification: Verification | None = None
    adjusted: tuple[Adjusted, ...] = ()
    schema_changes: tuple[Finding, ...] = ()  # of the source's columns and of the target's
    slot: Slot | None = None  # after the run, where it read one, or a topic that is filled from one
    consumed: Consumed | None = None  # of a topic
    waited_seconds: float | None = None  # since the oldest change of a stream was committed
    repair: Repair | None = None  # what a reconcile found and did; None where there was none
    because: str = ""  # why more was read than the strategy's own increment
    seconds: dict[str, float] = field(default_factory=dict)  # plan, export, load, reconcile, merge, total
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Without the canaries of the watermarks, which hold keys of rows; the manifest has them."""
        marks = (self.watermark_before, self.watermark_after)
        before, after = (mark and dataclasses.replace(mark, canaries=()) for mark in marks)
        return dict(as_json(self)) | {"watermark_before": as_json(before), "watermark_after": as_json(after)}
