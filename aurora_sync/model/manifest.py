"""The manifest of an increment: the S3 object that commits the files of an attempt."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from aurora_sync.model.as_json import as_json
from aurora_sync.model.buckets import Buckets
from aurora_sync.model.certificate import Certificate
from aurora_sync.model.column import Column
from aurora_sync.model.watermark import Watermark


class Disposition(Enum):
    """What the rows of an increment mean to the target."""

    UPSERT = "upsert"  # newest version of some rows: insert or update by merge key
    APPEND = "append"  # rows never seen before, each exactly once: insert
    REPLACE = "replace"  # the whole table: afterwards the target holds these rows and no others
    CHANGES = "changes"  # what a stretch of a change stream did to some rows, deletes included, in parts
    HISTORY = "history"  # every change, recorded beside the target


@dataclass(frozen=True)
class Evolution:
    """How the target's columns follow those of the source."""

    renamed: dict[str, str] = field(default_factory=dict)  # from the old name to the new
    dropped: tuple[str, ...] = ()  # kept, and marked
    retyped: tuple[str, ...] = ()  # to the natural type of today, where the values convert
    former_key: tuple[str, ...] = ()  # of another merge key
    rekeyed: bool = False


@dataclass(frozen=True)
class StagedFile:
    """One immutable object of an attempt. ``name`` is relative to the attempt's prefix."""

    name: str
    rows: int
    bytes: int  # as it lies there
    row_bytes: int = 0  # no row of it is longer, as CSV
    compression: Literal["zstd", ""] = "zstd"  # empty: not compressed


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
    log_position: int = 0  # of a scan that a stream goes on from: LSN up to which its snapshot saw
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
        return json.dumps(as_json(self), indent=1)
