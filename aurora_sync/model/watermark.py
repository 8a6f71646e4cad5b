"""The watermark, and what it is made of: the snapshot, the identity token, canaries and known columns.

Transaction ids are 64-bit integers (epoch included), times are timezone-aware UTC.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aurora_sync.model.as_json import as_json


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
        return json.dumps(as_json(self), sort_keys=True)

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
