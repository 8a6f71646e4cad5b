"""A small AWS DMS task: it writes a real slot's changes to S3, in files as the DMS documentation describes them.

Full load files are LOAD00000001 and so on, from a snapshot later than the start of the changes. Files of changes
follow, cut anywhere, with the operation, the change sequence (35 digits), the commit time and the old key of an update.
A value that the log does not repeat is written as CsvNoSupValue.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import random
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aurora_sync.model.dms_columns import BEFORE, NULL, OP, SEQUENCE, TIMESTAMP, UNCHANGED
from aurora_sync.objects.store import Store
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import pgoutput, slot
from aurora_sync.source.logical.pgoutput import NEW, Begin, Relation, Values
from aurora_sync_tests.scenarios.world import World


@dataclass
class Task:
    """The task of one table. ``cuts`` is the maximal number of changes in a file."""

    world: World
    table: str
    columns: list[str]
    key: list[str]
    form: str = "csv"  # csv, csv.gz, parquet
    cuts: int = 1000
    cdc_path: str | None = None  # the folder of transactions, if they are preserved
    null: str = NULL  # CsvNullValue
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    name: str = field(default_factory=lambda: f"dms_{uuid.uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.store = Store(self.world.places.stage.store.bucket, f"{self.name}/")
        self.changes: list[list[str | None]] = []  # all changes since the start, as rows of files
        self._numbers, self._files, self._loads = itertools.count(1), itertools.count(1), 0
        self._newest = ""
        self._relation: Relation | None = None
        self._began: Begin | None = None
        self._pending: list[list[str | None]] = []

    @property
    def folder(self) -> str:
        return f"s3://{self.store.bucket}/{self.name}"

    @property
    def header(self) -> list[str]:
        return [OP, *self.columns, *(BEFORE + name for name in self.key), TIMESTAMP, SEQUENCE]

    def start(self) -> None:
        """Start recording changes; the full load comes later."""
        self.world.execute(
            f"CREATE PUBLICATION {self.name} FOR TABLE {_quoted(self.table)} WITH (publish_via_partition_root = true)"
        )
        slot.create(self.world.dsn, self.name, timeout="30s")

    def stop(self) -> None:
        with connect(self.world.dsn) as connection:
            if slot.look(connection, self.name):
                slot.drop(connection, self.name)

    def load(self, *, rows_a_file: int = 1000) -> None:
        """Write the current table as the full load, in place of an earlier load."""
        names = ", ".join(f"{_quoted(name)}::text" for name in self.columns)
        now = datetime.now(UTC).replace(tzinfo=None).isoformat(" ")
        nothing: list[str | None] = [None] * len(self.key)
        rows = [
            ["I", *row, *nothing, now, ""] for row in self.world.execute(f"SELECT {names} FROM {_quoted(self.table)}")
        ]
        for number, first in enumerate(range(0, max(len(rows), 1), rows_a_file), 1):
            self.put(f"LOAD{number:08X}", rows[first : first + rows_a_file])

    def write(self) -> None:
        """Write all changes that are committed now, in files that are cut anywhere, even within transactions."""
        with connect(self.world.dsn) as connection:
            mark, _ = slot.mark(connection)
            found = self.world.execute(f"SELECT oid FROM pg_class WHERE relname = {_literal(self.table)}")
            if not found:  # the table is renamed at the moment; its changes wait in the slot
                return
            ((oid,),) = found
            reached = slot.drain(self.world.dsn, self.name, self.name, mark, {oid: self}).reached
            slot.advance(connection, self.name, reached)
        while self._pending:
            size = self.dice.randint(1, self.cuts)
            now = datetime.now(UTC)
            name = f"{now:%Y%m%d}-{now:%H%M%S}{next(self._files):06}"
            if self.cdc_path:
                self._put(f"{self.cdc_path}/CDC_TXN_{name}", self._csv(self._mixed(self._pending[:size])))
            else:
                self.put(name, self._pending[:size])
            del self._pending[:size]

    def put(self, name: str, rows: list[list[str | None]]) -> None:
        if self.cdc_path:
            body = self._csv([row[: len(self.columns) + 1] for row in rows])
        else:
            body = self._parquet(rows) if self.form == "parquet" else self._csv([list(self.header), *rows])
        self._put(f"public/{self.table}/{name}", body)

    def _put(self, path: str, body: bytes) -> None:
        key = f"{self.store.prefix}{path}.{self.form}"
        self.store.delete([key])
        self.store.put_new(key, body)

    def _mixed(self, rows: list[list[str | None]]) -> Iterator[list[str | None]]:
        """Yield the rows without column names, between rows of other tables and the marks of transactions."""
        width = len(self.columns) + 1
        for number, row in enumerate(rows):
            values, before, sequence = row[:width], row[width:-2], row[-1]
            yield ["B", str(number), "2026-01-01 00:00:00"]
            yield ["D", self.table, "other schema", *values[1:], "9" * 35, *values[1:2]]
            yield [values[0], self.table, "public", *values[1:], sequence, *before]
            yield ["I", "wider", "public", *(["1"] * 3 * width), "9" * 35]
            yield ["I", "narrower", "public", "9" * 35]
            yield ["C", str(number), "2026-01-01 00:00:00"]

    def _parquet(self, rows: list[list[str | None]]) -> bytes:
        columns = {
            name: pa.array(column, pa.string())
            for name, column in zip(self.header, _turned(rows, self.header), strict=True)
        }
        found = io.BytesIO()
        pq.write_table(pa.table(columns), found)
        return found.getvalue()

    def _csv(self, rows: Iterable[list[str | None]]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([[self.null if value is None else value for value in row] for row in rows])
        body = text.getvalue().encode()
        return gzip.compress(body) if self.form == "csv.gz" else body

    def read(self, body: bytes) -> Iterator[list[str]]:
        """Read a file of the task."""
        text = (gzip.decompress(body) if self.form == "csv.gz" else body).decode()
        return csv.reader(io.StringIO(text))

    # The methods of a feed, for slot.drain

    def needs_new_session(self, began: Begin) -> bool:
        return False

    def begins(self, began: Begin) -> bool:
        self._began = began
        return True

    def relation(self, relation: Relation) -> None:
        self._relation = relation

    def insert(self, data: bytes) -> None:
        self._change("I", tuple(pgoutput.row(data, 6)[0]))

    def update(self, data: bytes) -> None:
        if data[5] == NEW:
            return self._change("U", tuple(pgoutput.row(data, 6)[0]))
        before, at = pgoutput.row(data, 6)
        return self._change("U", tuple(pgoutput.row(data, at + 1)[0]), tuple(before))

    def delete(self, data: bytes) -> None:
        self._change("D", tuple(pgoutput.row(data, 6)[0]))

    def truncate(self) -> None:
        """Ignore a TRUNCATE, for which a task writes no change."""

    def _change(self, operation: str, values: Values, before: Values | None = None) -> None:
        assert self._relation
        assert self._began
        names = [attribute.name for attribute in self._relation.attributes]
        texts: dict[str, Any] = {
            name: value.decode() if isinstance(value, bytes) else (None if value is None else UNCHANGED)
            for name, value in zip(names, values, strict=True)
        }
        olds = dict(zip(names, before or values, strict=True))
        old = [v.decode() if isinstance(v := olds[name], bytes) else None for name in self.key]
        if operation != "U":
            old = [None] * len(self.key)
        at = self._began.committed_at
        # Commit times may be out of order; the change sequence is in the order of commits.
        self._newest = max(self._newest, f"{at:%Y%m%d%H%M%S}{at.microsecond // 10_000:02}")
        sequence = f"{self._newest}{next(self._numbers):019}"
        moment = at.replace(tzinfo=None).isoformat(" ", "microseconds")
        row = [operation, *(texts.get(name) for name in self.columns), *old, moment, sequence]
        self.changes.append(row)
        self._pending.append(row)


def _turned(rows: list[list[str | None]], header: list[str]) -> list[list[str | None]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in header]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
