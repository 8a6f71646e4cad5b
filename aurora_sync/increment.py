"""The values that travel between the rooms: frozen, and the glossary of the project.

========== =============================================================================================
watermark  what a strategy must remember to resume; a small versioned JSON document
horizon    ``pg_snapshot_xmin`` of the snapshot that was read: every transaction id below it is decided
token      the identity token: what proves that today's source is the database the watermark came from
increment  the rows that one run moves for one table; here its description, never its rows
disposition what the rows mean to the target: UPSERT, APPEND, REPLACE, CHANGES
load id    unique per attempt; in the S3 path, the staging table's name and the query tag
manifest   the S3 object that commits an attempt's files
receipt    what an applied increment did
run sequence the number of applied increments of a table; compare-and-set on it fences overlapping runs
========== =============================================================================================

All transaction ids are 64-bit integers (epoch included), all times are timezone-aware UTC, all byte
counts are bytes, all durations are seconds.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from aurora_sync.buckets import Buckets

# In place of a value, where the table has not show_values.
HIDDEN = "(hidden)"
# The longest text that a VARCHAR of Snowflake holds; every backend keeps to it, so that what a trial took a laptop
# for runs in production as well.
MAX_VALUE_BYTES = 128 * 2**20


class Disposition(Enum):
    """What the rows of an increment mean to the target."""

    UPSERT = "upsert"  # newest version of some rows: insert or update by merge key
    APPEND = "append"  # rows never seen before, each exactly once: insert
    REPLACE = "replace"  # the whole table: afterwards the target holds these rows and no others
    CHANGES = "changes"  # what a stretch of a change stream did to some rows, deletes included, in parts
    HISTORY = "history"  # every change, recorded beside the target


@dataclass(frozen=True)
class Column:
    """A column as the source's catalogue describes it.

    ``type_name`` is ``format_type()`` (``numeric(10,2)``, ``character varying(20)[]``); ``base_type`` is
    the ``pg_type.typname`` after unwrapping domains (``numeric``, ``_varchar``), ``base_modifier`` its
    typmod (-1 when none), ``type_category`` ``pg_type.typcategory`` (``A`` array, ``E`` enum, ...). ``policy`` is not
    the catalogue's: what becomes of a value that the warehouse's natural type cannot hold (``types`` of tables.yaml).
    """

    name: str
    attnum: int
    type_name: str
    base_type: str
    base_modifier: int = -1
    type_category: str = "S"
    not_null: bool = False
    default: str | None = None
    identity: str = ""  # '' none, 'a' generated always, 'd' by default
    generated: bool = False
    comment: str | None = None
    missing: str | None = None  # what rows older than the column hold, as text; None: NULL
    policy: str = "exact"

    @property
    def is_integer(self) -> bool:
        """Whether a key of this column alone is its own number (buckets.py)."""
        return self.base_type in ("int2", "int4", "int8")

    @property
    def is_array(self) -> bool:
        """Of a type that any type has an array of; a box has a notation of its own."""
        return self.type_category == "A" and self.base_type.startswith("_") and self.base_type != "_box"


@dataclass(frozen=True)
class Snapshot:
    """The source snapshot that an increment was read in."""

    xmin: int  # the horizon
    xmax: int  # first transaction id not yet assigned
    taken_at: datetime  # clock of the source


@dataclass(frozen=True)
class Token:
    """The identity token (correctness.md, section 2): compared with the stored one before every read."""

    system_identifier: str
    timeline: int
    major: int
    database_oid: int
    started: str  # pg_postmaster_start_time(), ISO 8601
    in_recovery: bool
    table_oid: int
    members: dict[str, int]  # leaf oid (JSON keys are text) -> relfilenode
    counters_since: str = ""  # when the server's statistics began: anew after every crash, of a backend as well
    labels: dict[str, str] = field(default_factory=dict)  # pg_enum oid -> label, of the table's enums
    attributes: int = 0  # the largest column number: a column added later has a larger one
    # Versions of the catalogue rows of its columns and of their types; empty: an earlier release wrote this.
    columns: str = ""
    named: str = ""  # versions of the catalogue rows that name it; empty: an earlier release wrote this
    # pg_type oid -> what besides the row decides what a value prints as: attributes of a composite type, names behind a
    # reg* type; None: an earlier release wrote this.
    types: dict[str, str] | None = None
    # Leaf oid -> versions of the catalogue rows that make it a part of the table; None: an earlier release wrote this.
    attached: dict[str, str] | None = None
    # Oid -> name: tables that had this table's name before it, and that a connector may still send under it.
    former: dict[str, str] = field(default_factory=dict)

    @property
    def is_named(self) -> bool:
        """Whether values of the table print names that another ALTER than one of the table may change."""
        return bool(self.labels or self.types)

    def rewritten(self, now: Token) -> bool:
        """Whether a leaf known here was rewritten or truncated since."""
        return any(now.members.get(oid, filenode) != filenode for oid, filenode in self.members.items())

    def reattached(self, now: Token) -> bool:
        """Whether a leaf known here was detached and attached again since."""
        if self.attached is None or now.attached is None:
            return False
        return any(now.attached.get(oid, version) != version for oid, version in self.attached.items())


@dataclass(frozen=True)
class Canary:
    """A row as it was exported. Its like in another history of the database is rarely the same."""

    key: tuple[str, ...]  # the merge key's values, as text
    xmin: int  # raw, 32 bits
    digest: str  # of the CSV row


@dataclass(frozen=True)
class KnownColumn:
    """What a watermark remembers of a column that was synced."""

    attnum: int
    name: str
    type_name: str
    base_type: str
    not_null: bool
    generation: str  # the expression of a generated column
    policy: str
    key_place: int  # in the merge key, from 1; 0: not of it


@dataclass(frozen=True)
class Evolution:
    """How the target's columns follow those of the source."""

    renamed: dict[str, str] = field(default_factory=dict)  # from the old name to the new
    dropped: tuple[str, ...] = ()  # kept, and marked
    retyped: tuple[str, ...] = ()  # to the natural type of today, where the values convert
    former_key: tuple[str, ...] = ()  # of another merge key
    rekeyed: bool = False


@dataclass(frozen=True)
class Left:
    """What a run left in its target. ``columns`` are those that it wrote, with their types in the words of
    warehouse/ddl.py; ``sums`` are over our own columns of all rows, as text. ``order`` has the columns as they stand in
    the target: one that was dropped and added again stands at the end. Empty: an earlier release wrote this."""

    columns: dict[str, str]
    sums: str
    order: list[str] = field(default_factory=list)


# Strategies whose watermarks of earlier releases may lag: these did not write it.
_SENT_BY_OTHERS = ("debezium", "dms")


@dataclass(frozen=True)
class Watermark:
    """What a strategy must remember to resume. ``value`` belongs to the strategy alone.

    Every strategy also stores the snapshot and the token, so that any strategy can go on from the horizon
    of any other. ``columns`` are those that were read, and ``covers`` names what they were read for: when it
    changes, the watermark no longer describes the target and the table is read in full. ``left`` is in the sync log
    alone, and only where this release wrote it. ``doubts`` are those of the runs since the last reconcile or full read:
    what they may have missed, no later read from the horizon finds. ``lags``: the target has what others had sent by
    then, which may be less than the snapshot saw, or older; a read from the horizon alone does not find that either.
    """

    strategy: str
    value: dict[str, Any]
    snapshot: Snapshot
    token: Token
    covers: str = ""
    canaries: tuple[Canary, ...] = ()
    columns: tuple[KnownColumn, ...] = ()
    left: Left | None = None
    doubts: tuple[str, ...] = ()
    lags: bool = False
    version: int = 1

    def to_json(self) -> str:
        return json.dumps(_plain(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Watermark:
        """Raises ValueError on a document of a newer version or another shape."""
        document = json.loads(text)
        if document.get("version") != 1:
            raise ValueError(f"watermark version {document.get('version')!r}; this release reads version 1")
        snapshot = document["snapshot"]
        return cls(
            strategy=document["strategy"],
            value=document["value"],
            snapshot=Snapshot(
                int(snapshot["xmin"]), int(snapshot["xmax"]), datetime.fromisoformat(snapshot["taken_at"])
            ),
            token=Token(**document["token"]),
            covers=document["covers"],
            canaries=tuple(Canary(tuple(c["key"]), c["xmin"], c["digest"]) for c in document["canaries"]),
            columns=tuple(KnownColumn(**column) for column in document["columns"]),
            left=Left(**document["left"]) if document.get("left") else None,
            doubts=tuple(document.get("doubts", ())),
            lags=document.get("lags", document["strategy"] in _SENT_BY_OTHERS),
        )


class Action(Enum):
    """What a run does about something that its source shows."""

    GO_ON = "go on"
    WIDEN = "widen"  # read from further back
    ADAPT = "adapt"  # change the target's columns
    BACKFILL = "backfill"  # fill a new column of the target
    RECONCILE = "reconcile"  # compare with the source, and repair
    RESEED = "reseed"  # read the whole table; it replaces the target's content in one transaction


@dataclass(frozen=True)
class Finding:
    """Something that changed at the source since the watermark was taken, and what is done about it. A change of the
    table's schema says what it was ``before`` and ``after``."""

    event: str
    action: Action
    text: str
    before: str = ""
    after: str = ""

    @property
    def is_schema_change(self) -> bool:
        return bool(self.before or self.after)


class Level(Enum):
    CERTIFIED = "certified"  # nothing that was committed before the snapshot is missing
    BOUNDED = "bounded"  # that holds up to a named lag
    UNCERTIFIED = "uncertified"


@dataclass(frozen=True)
class Reconciled:
    """The last time that the whole target was compared with its source, or read from it."""

    run_sequence: int
    as_of: datetime  # of the snapshot


@dataclass(frozen=True)
class Certificate:
    """What an increment guarantees of its target: of which ``changes``, and in words why."""

    level: Level
    changes: tuple[str, ...]  # inserts, updates, deletes
    text: str
    rests_on: dict[str, str] = field(default_factory=dict)  # snapshot, horizon, fence, token
    findings: tuple[Finding, ...] = ()
    reconciled: Reconciled | None = None

    def to_json(self) -> str:
        return json.dumps(_plain(self), sort_keys=True)

    @staticmethod
    def reconciled_in(text: str) -> Reconciled | None:
        """The last reconcile that the JSON of a certificate names."""
        found = json.loads(text)["reconciled"]
        return found and Reconciled(found["run_sequence"], datetime.fromisoformat(found["as_of"]))


@dataclass(frozen=True)
class StagedFile:
    """One immutable object of an attempt. ``name`` is relative to the attempt's prefix."""

    name: str
    rows: int
    bytes: int  # compressed
    row_bytes: int = 0  # no row of it is longer, as CSV


@dataclass(frozen=True)
class Part:
    """A stretch of a change stream, at most one row for each key. Parts are applied in order."""

    truncated: bool = False  # the source was truncated, and the rows of this part came after that
    partial: int = 0  # rows of which some columns stay as the target has them


@dataclass(frozen=True)
class TakenFile:
    """An object that others wrote, and the warehouse copied from where it lies."""

    key: str
    etag: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Commits an attempt's files; written last, never overwritten.

    ``columns`` are the source columns in file order; every file ends with one more field, the row's raw
    32-bit xmin (``0`` where the relation has none), and of CHANGES with those of warehouse/changes.py; those of
    ``history`` have the fields of warehouse/history.py. ``key``
    is the merge key, empty when the table has none. ``source_rows`` is ``count(*)`` in the same snapshot, of
    the rows the target should hold after this increment, or None when it was not counted.
    ``expected_sequence`` and ``expected_load_id`` name the state that the attempt started from; applying it
    makes ``expected_sequence + 1``.
    """

    table: str  # schema.table of the source, as in tables.yaml
    load_id: str
    prefix: str  # object key prefix of the attempt, ends with /
    disposition: Disposition
    files: tuple[StagedFile, ...]
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    watermark_before: Watermark | None
    watermark_after: Watermark
    expected_sequence: int
    certificate: Certificate
    expected_load_id: str = ""
    source_rows: int | None = None
    evolution: Evolution = Evolution()
    fill: dict[str, str | None] = field(default_factory=dict)  # new column -> what rows that are not here hold
    repaired: Buckets | None = None  # in these the files hold every row of the source: what is not here was deleted
    parts: tuple[Part, ...] = ()  # of CHANGES
    history: tuple[StagedFile, ...] = ()  # every change of them, where the table has a history

    taken: tuple[TakenFile, ...] = ()  # besides ``files``
    net_rows: int = 0  # that the warehouse made of them

    def of_history(self) -> Manifest:
        """The files of the history as those of a manifest."""
        return dataclasses.replace(self, disposition=Disposition.HISTORY, files=self.history)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files) + self.net_rows

    @property
    def fields(self) -> int:
        """Of a row in the files."""
        more = {Disposition.CHANGES: 3 + len(self.key), Disposition.HISTORY: 6}
        return len(self.columns) + 1 + more.get(self.disposition, 0)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def to_json(self) -> str:
        return json.dumps(_plain(self), indent=1)


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
class State:
    """The newest row of the sync log for a table: the truth to resume from."""

    run_sequence: int  # 0: never applied
    watermark: Watermark | None
    load_id: str = ""  # of the attempt that made this run sequence
    target_rows: int = 0
    applied_at: datetime | None = None
    reconciled: Reconciled | None = None
    idle_runs: int = 0  # since the last applied one; a hint alone knows
    source_table: str = ""  # schema.table that the increment was read from; only the log knows
    edited: str = ""  # why the target is to be compared with the source: it is not as it was left


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
class RowDifference:
    """One row that is not the same on both sides: each value of its key and of the columns that differ, as (source,
    target). A row that only one side has is None on the other."""

    key: tuple[str, ...]  # empty where rows are told apart by their content, and without show_values
    source: dict[str, str | None] | None
    target: dict[str, str | None] | None
    find: str = ""  # a statement that finds the row, where it has an xmin

    def without_values(self, key: Collection[str]) -> RowDifference:
        """Keep the names of the columns alone; of a row that both sides have, without those of its key."""
        alike = key if self.source and self.target else ()

        def hidden(side: dict[str, str | None] | None) -> dict[str, str | None] | None:
            return None if side is None else {name: HIDDEN for name in side if name not in alike}

        return dataclasses.replace(self, key=(), source=hidden(self.source), target=hidden(self.target))


@dataclass(frozen=True)
class Verification:
    """Source and target compared by content, as of the snapshot of one increment."""

    table: str
    run_sequence: int
    as_of: datetime  # of the snapshot
    method: str
    source_rows: int = 0
    target_rows: int = 0
    buckets_compared: int = 0
    rows_moved: int = 0  # read from the source to be compared one by one
    missing: int = 0  # rows that the target lacks
    different: int = 0
    ghosts: int = 0  # rows that only the target has
    examples: tuple[RowDifference, ...] = ()
    same_version: int = 0  # different rows that have the version (xmin) of the source's row: a reconcile passes them
    repair: str = "reconcile"  # the command of aurora-sync that repairs what differs
    caveat: str = ""  # what else than a fault may be among the differences

    @property
    def equal(self) -> bool:
        return not (self.missing or self.different or self.ghosts)

    def to_json(self) -> dict[str, Any]:
        return {"equal": self.equal, **_plain(self)}


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
        return dict(_plain(self)) | {"watermark_before": _plain(before), "watermark_after": _plain(after)}


def _plain(value: Any) -> Any:
    """Dataclasses, enums and times as JSON values; tuples as lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
