"""The estimated size of a first load, from the first rows of the table."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import zstandard
from psycopg2 import sql

from aurora_sync.model.usage import LoadStatements
from aurora_sync.source.aurora_export import CALL_BYTES
from aurora_sync.source.reading import Reading
from aurora_sync.stage.writer import COMPRESSION_LEVEL, objects_of
from aurora_sync.warehouse.base import Warehouse

# One or two megabytes of CSV of a usual table: enough for zstd to reach its ratio, and read within a second.
SAMPLED_ROWS = 10_000
SAMPLED_BYTES = 50_000_000  # of CSV; for tables with very long rows


@dataclass(frozen=True)
class FirstLoad:
    """The estimate of a first load. Bytes are extrapolated from the CSV of ``sampled_rows``, the first rows of the
    table; so are the ``seconds`` that the source and this process take. ``chunks`` is 0 where one snapshot reads all.
    ``sent`` is None where statements cost nothing."""

    rows: int
    sampled_rows: int
    csv_bytes: int
    staged_bytes: int  # in S3, compressed by the client's export
    files: int
    sent: LoadStatements | None
    chunks: int = 0
    seconds: float = 0.0
    compressed: bool = True


def first_load(
    reading: Reading,
    statement: sql.Composed,
    rows_estimate: int,
    warehouse: Warehouse,
    *,
    chunks: int = 0,
    compressed: bool = True,
) -> FirstLoad | None:
    """Read the first rows that the statement selects, and estimate the load of all of them. None for a view or a
    foreign table, whose first rows may take as long as all of them. The transaction cannot be used afterwards.

    ``rows_estimate`` is used when there are more rows than the sample. ``compressed``: the staged files will be.
    """
    if reading.table.kind not in "rpm":
        return None
    sample, whole, started = _Sample(), False, monotonic()
    with suppress(_EnoughError):
        reading.copy(statement + sql.SQL(" LIMIT {}").format(sql.Literal(SAMPLED_ROWS)), sample)
        whole = sample.rows < SAMPLED_ROWS
    sample.close()
    seconds = monotonic() - started
    rows = sample.rows if whole else max(rows_estimate, sample.rows)
    sizes = sample.csv_bytes, sample.staged_bytes
    csv_bytes, staged_bytes = (size * rows // max(1, sample.rows) for size in sizes)
    parts = max(1, chunks)
    if compressed:
        files = parts * objects_of(-(-staged_bytes // parts))
    else:
        staged_bytes = csv_bytes
        files = max(chunks, -(-csv_bytes // CALL_BYTES))
    sent = warehouse.statements_of_first_load(files)
    duration = seconds * rows / max(1, sample.rows)
    return FirstLoad(rows, sample.rows, csv_bytes, staged_bytes, files, sent, chunks, duration, compressed)


class _EnoughError(Exception):
    """Ends the export of a sample."""


class _Sample:
    """The sink of a sample: it compresses the rows as the stage does, and keeps only their sizes."""

    def __init__(self) -> None:
        self.csv_bytes = self.staged_bytes = 0
        self.rows = 0
        self._zstd = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()

    @property
    def write(self) -> Callable[[bytes], object]:
        return self._write

    def _write(self, row: bytes) -> None:
        self.rows += 1
        self.csv_bytes += len(row)
        self.staged_bytes += len(self._zstd.compress(row))
        if self.csv_bytes >= SAMPLED_BYTES:
            raise _EnoughError

    def close(self) -> None:
        if self.rows:
            self.staged_bytes += len(self._zstd.flush())
