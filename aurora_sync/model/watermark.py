"""The watermark and its parts: the snapshot, the identity token, canaries and known columns.

Transaction ids are 64-bit integers (epoch included), times are timezone-aware UTC.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from aurora_sync.model.as_json import as_json
from aurora_sync.model.load import Load


@dataclass(frozen=True)
class Snapshot:
    """The source snapshot in which an increment was read."""

    xmin: int  # the horizon
    xmax: int  # first transaction id not yet assigned
    taken_at: datetime  # clock of the source


@dataclass(frozen=True)
class Token:
    """The identity token (correctness.md, section 2): facts that identify the source database and the table.

    Every run compares the stored token with the current one before it reads.
    """

    system_identifier: str
    timeline: int
    major: int
    database_oid: int
    started: str  # pg_postmaster_start_time(), ISO 8601
    in_recovery: bool
    table_oid: int
    members: dict[str, int]  # leaf oid (JSON keys are text) -> relfilenode
    counters_since: str = ""  # start of the server's statistics; the crash of a single backend resets it as well
    labels: dict[str, str] = field(default_factory=dict)  # pg_enum oid -> label, of the table's enums
    attributes: int = 0  # the largest column number: a column added later has a larger one
    # Versions of the catalogue rows of the columns and of their types; empty: an earlier release wrote the token.
    columns: str = ""
    named: str = ""  # versions of the catalogue rows with the table's name; empty: an earlier release wrote the token
    # pg_type oid -> facts outside of the row that change the text of a value: attributes of a composite type, names
    # behind a reg* type; None: an earlier release wrote the token.
    types: dict[str, str] | None = None
    # Leaf oid -> versions of the catalogue rows that attach it to the table; None: an earlier release wrote the token.
    attached: dict[str, str] | None = None
    # Oid -> name: tables that had this table's name before; a connector may still send their changes under that name.
    former: dict[str, str] = field(default_factory=dict)

    @property
    def is_named(self) -> bool:
        """True when values of the table print names that can change without an ALTER of the table: labels of enums,
        attributes of composite types, names behind reg* types."""
        return bool(self.labels or self.types)

    def rewritten(self, now: Token) -> bool:
        """Return whether a leaf of this token was rewritten or truncated before ``now``."""
        return any(now.members.get(oid, filenode) != filenode for oid, filenode in self.members.items())

    def reattached(self, now: Token) -> bool:
        """Return whether a leaf of this token was detached and attached again before ``now``."""
        if self.attached is None or now.attached is None:
            return False
        return any(now.attached.get(oid, version) != version for oid, version in self.attached.items())


@dataclass(frozen=True)
class Canary:
    """A row as it was exported. After a restore the row of the same key usually has another xmin or content."""

    key: tuple[str, ...]  # the merge key's values, as text
    xmin: int  # raw, 32 bits
    digest: str  # of the CSV row


@dataclass(frozen=True)
class KnownColumn:
    """The description of a synced column that a watermark stores."""

    attnum: int
    name: str
    type_name: str
    base_type: str
    not_null: bool
    generation: str  # the expression of a generated column
    policy: str
    key_place: int  # position in the merge key, from 1; 0: not in the key


@dataclass(frozen=True)
class Left:
    """The state of the target after a run, for noticing changes by others. ``columns`` are the columns that the run
    wrote, with their types as warehouse/ddl.py names them. ``sums`` are sums over aurora_sync's own columns of all
    rows, as text. ``order`` lists the columns in the order of the target, where a column that was dropped and added
    again comes last; empty when an earlier release wrote the watermark."""

    columns: dict[str, str]
    sums: str
    order: list[str] = field(default_factory=list)


# Strategies whose watermarks are taken as lagging when an earlier release wrote them: it did not store ``lags``.
_SENT_BY_OTHERS = ("debezium", "dms")


# ``Watermark.covers`` of a target whose load was aborted: it describes no target, so the table is read in full.
ABORTED = "aborted"


@dataclass(frozen=True)
class Watermark:
    """The state from which a strategy resumes. ``value`` belongs to the strategy alone.

    Every watermark also stores the snapshot and the token, so that any strategy can continue from the horizon of any
    other. ``columns`` are the columns that were read. ``covers`` is a digest of which changes the strategy looked for:
    when it differs, the watermark no longer describes the target and the table is read in full. ``left`` is stored in
    the sync log alone; None when an earlier release wrote the watermark. ``doubts`` are the doubts of all runs since
    the last reconcile or full read: a later read from the horizon does not find the rows that these runs may have
    missed. ``lags``: the target has what a connector or task had sent by then, which may be less than the snapshot saw,
    or older; a read from the horizon alone does not find those rows either. ``comments`` is the digest of the comments
    that the target was given; empty when an earlier release made the target, whose comments then stay as they are.
    ``load`` is the progress of a load in chunks that is not finished: the target then has only some rows of the
    snapshot. Such a watermark has version 2, because a release that does not know loads would lose the other rows.
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
    comments: str = ""
    load: Load | None = None
    version: int = 1

    def to_json(self) -> str:
        return json.dumps(as_json(self), sort_keys=True)

    def loading(self, load: Load) -> Watermark:
        """Return the watermark of a target that is being loaded."""
        return replace(self, load=load, version=2)

    @classmethod
    def from_json(cls, text: str) -> Watermark:
        """Return the watermark from the JSON of :meth:`to_json`. Raises ValueError for a newer version, and ValueError,
        KeyError or TypeError for a document of another shape."""
        document = json.loads(text)
        if document.get("version") not in (1, 2):
            raise ValueError(
                f"the watermark has version {document.get('version')!r}, but this release reads versions 1 and 2"
            )
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
            comments=document.get("comments", ""),
            load=Load.from_json(document["load"]) if document.get("load") else None,
            version=document["version"],
        )
