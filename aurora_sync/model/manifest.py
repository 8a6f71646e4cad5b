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
from aurora_sync.model.load import Chunk
from aurora_sync.model.reload import RowRange
from aurora_sync.model.watermark import Watermark


class Disposition(Enum):
    """The way in which the target applies the rows of an increment."""

    UPSERT = "upsert"  # newest version of some rows: insert or update by merge key
    APPEND = "append"  # rows that were never exported before, each exactly once: insert
    REPLACE = "replace"  # the whole table: afterwards the target holds these rows and no others
    CHANGES = "changes"  # net changes of a section of a change stream, deletes included, in parts
    HISTORY = "history"  # every change as a row of the table <target>_HISTORY


@dataclass(frozen=True)
class Evolution:
    """The changes of the target's columns that follow the changes of the source's columns."""

    renamed: dict[str, str] = field(default_factory=dict)  # from the old name to the new
    dropped: tuple[str, ...] = ()  # the target keeps them, marked as dropped
    retyped: tuple[str, ...] = ()  # get their current natural type, where the values convert
    former_key: tuple[str, ...] = ()  # columns of the merge key before it changed
    rekeyed: bool = False


@dataclass(frozen=True)
class StagedFile:
    """One immutable object of an attempt. ``name`` is relative to the attempt's prefix."""

    name: str
    rows: int
    bytes: int  # size of the stored object
    row_bytes: int = 0  # an upper bound of the length of its rows, as CSV
    compression: Literal["zstd", ""] = "zstd"  # empty: not compressed


@dataclass(frozen=True)
class Part:
    """The net changes of a section of a change stream, at most one row for each key. Parts are applied in order."""

    truncated: bool = False  # the source was truncated before the changes of this part
    partial: int = 0  # number of rows that leave some columns of the target unchanged


@dataclass(frozen=True)
class TakenFile:
    """An object that another program wrote, and that the warehouse copies from its place."""

    key: str
    etag: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The document that commits an attempt's files; written last, never overwritten.

    ``columns`` are the source columns in file order. After them every row has one more field, its raw 32-bit xmin
    (``0`` where the relation has none); under CHANGES the fields of dispositions/changes.py follow. Files of
    ``history`` have the fields of warehouse/history.py. ``key`` is the merge key, empty when the table has none.
    ``source_rows`` is ``count(*)``, in the same snapshot, of the rows that the target should hold after this increment,
    or None when they were not counted. ``expected_sequence`` and ``expected_load_id`` name the state from which the
    attempt started; the warehouse applies the manifest as run ``expected_sequence + 1``.
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
    fill: dict[str, str | None] = field(default_factory=dict)  # new column -> its value in rows not in the files
    repaired: Buckets | None = None  # of these buckets the files hold every source row: any other row was deleted
    again: RowRange | None = None  # of this range the files hold every source row, too
    parts: tuple[Part, ...] = ()  # only under CHANGES
    history: tuple[StagedFile, ...] = ()  # the files with every change, where the table has a history
    log_position: int = 0  # LSN up to which the snapshot of a scan saw; a stream continues from there
    taken: tuple[TakenFile, ...] = ()  # besides ``files``
    comment: str | None = None  # on the source table
    chunk: Chunk | None = None  # of a load in chunks
    net_rows: int = 0  # number of rows that the warehouse computed from ``taken``

    def of_history(self) -> Manifest:
        """Return a manifest of the history: the files are those of ``history``, the disposition is HISTORY."""
        return dataclasses.replace(self, disposition=Disposition.HISTORY, files=self.history)

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files) + self.net_rows

    @property
    def fields(self) -> int:
        """The number of fields of a row in the files."""
        more = {Disposition.CHANGES: 3 + len(self.key), Disposition.HISTORY: 6}
        return len(self.columns) + 1 + more.get(self.disposition, 0)

    @property
    def bytes(self) -> int:
        return sum(file.bytes for file in self.files)

    def to_json(self) -> str:
        return json.dumps(as_json(self), indent=1)
