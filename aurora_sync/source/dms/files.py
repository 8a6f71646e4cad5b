"""Lists the files of an AWS DMS task in S3, in the order in which they are read, and checks their first lines.

::

    folder/schema/table/LOAD00000001.csv           full load, numbered in hexadecimal
    folder/schema/table/20141029-1134010000.csv    changes, named by the time of writing
    folder/cdc_path/20141029-1134010000.csv        changes of all tables, no header; if the task preserves transactions

Digits sort before letters, so a plain listing has the changes before the load (correctness.md, section 8.2).
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.model.dms_columns import BEFORE, OP, SEQUENCE, TIMESTAMP
from aurora_sync.model.manifest import TakenFile
from aurora_sync.model.relation import SourceTable
from aurora_sync.objects.store import Store, Stored

_NAME = re.compile(r"(?:LOAD(?P<load>[0-9A-Fa-f]{5,})|(?:CDC_TXN_)?\d{8}-?\d{6,})\.(?:csv|parquet)(?:\.gz)?")
_HEADER_BYTES = 65_536
# Largest difference between the clocks of S3 and of the source.
CLOCKS = timedelta(minutes=10)


@dataclass(frozen=True)
class File:
    stored: Stored
    load: int | None  # number within the full load; None: changes
    name: str

    @property
    def id(self) -> tuple[str, str]:
        return self.stored.key, self.stored.etag

    @property
    def taken(self) -> TakenFile:
        return TakenFile(self.stored.key, self.stored.etag, self.stored.bytes)

    @property
    def order(self) -> tuple[bool, int, str]:
        return self.load is None, self.load or 0, self.name


def of_table(config: TableConfig) -> list[File]:
    """List all files of the table, in the order in which they are read. Raises SourceError for a name of another form,
    and StageError."""
    store = Store.from_url(config.files or "")
    return listing(store, config.schema_, config.table_name, config.cdc_path)


def listing(store: Store, schema: str, table: str, cdc_path: str | None = None) -> list[File]:
    """List the files of a table below ``store``. Raises as :func:`of_table`."""
    files = []
    folders = [f"{schema}/{table}/", *([f"{cdc_path}/"] if cdc_path else [])]
    for page in itertools.chain.from_iterable(store.pages(store.prefix + folder) for folder in folders):
        for stored in page:
            name = stored.key.rpartition("/")[2]
            found = _NAME.fullmatch(name)
            if found:
                files.append(File(stored, int(found["load"], 16) if found["load"] else None, name))
            elif name:  # empty: an object for the folder itself, which consoles create
                raise SourceError(
                    f"found {name}; expected a file of a DMS task, such as LOAD00000001.csv or 20141029-1134010000.csv",
                    where=store.uri(stored.key),
                    hint="move the file to another folder: this one may only contain files of one DMS task",
                )
    return sorted(files, key=lambda file: file.order)


def fields(table: SourceTable) -> list[str]:
    """Return the fields behind operation, table and schema in a row of a transaction folder: the table's columns, then
    the columns that the rules of the task's mapping add, in the order of the rules."""
    key = [BEFORE + column.name for column in table.columns if column.name in table.primary_key]
    return [column.name for column in table.columns] + [SEQUENCE, *key]


def digest(files: Iterable[File]) -> str:
    """Return a digest of the keys and etags. It changes when a file is added, changed or removed."""
    text = "\n".join(sorted("\t".join(file.id) for file in files))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def superseded(files: Sequence[File], scanned_at: datetime | None) -> list[File]:
    """Return the files without anything new: changes older than the full load, which has their effect and what the task
    missed while it was stopped; and all files older than a scan, by the source's clock."""
    loads = [file.stored.modified for file in files if file.load is not None]
    return [
        file
        for file in files
        if (loads and file.load is None and file.stored.modified < min(loads))
        or (scanned_at and file.stored.modified < scanned_at - CLOCKS)
    ]


def lacking(store: Store, file: File, columns: Iterable[str], old_keys: Iterable[str]) -> list[str]:
    """Return which of these columns a CSV file lacks; none for Parquet, which names its columns at the end of the file.

    ``old_keys`` are the columns that must have the old key in a file of changes. Raises ConfigError if the first line
    shows that the task has other settings than those that provisioning/dms_task.py makes.
    """
    if ".parquet" in file.name:
        return []
    head = store.head(file.stored.key, _HEADER_BYTES)
    if file.name.endswith(".gz"):
        head = _unpacked(store, file, head)
    names = next(csv.reader([head.decode("utf-8", "replace").partition("\n")[0].rstrip("\r")]), [])
    if problems := _other_settings(names, old_keys if file.load is None else ()):
        raise ConfigError(
            [f"{problem}: the first line of the file shows this" for problem in problems],
            values=f"{', '.join(names)[:200]!r}",
            where=store.uri(file.stored.key),
            hint="configure endpoint and task as `aurora-sync cdc dms` prints them, and reload the table with the task",
        )
    return [name for name in columns if name not in names]


def assert_whole(store: Store, files: Iterable[File]) -> None:
    """Raise SourceError for a file of 0 bytes. Even an empty table has no such file."""
    for file in files:
        if not file.stored.bytes:
            raise _not_whole(store, file, "it has 0 bytes")


def _unpacked(store: Store, file: File, head: bytes) -> bytes:
    """Decompress the first bytes of a gzip file. Raises SourceError if they show that the file is cut off."""
    gzip = zlib.decompressobj(wbits=31)
    try:
        unpacked = gzip.decompress(head, _HEADER_BYTES)
    except zlib.error as error:
        raise _not_whole(store, file, str(error)) from error
    if len(head) == file.stored.bytes and not (gzip.eof or gzip.unconsumed_tail):
        raise _not_whole(store, file, f"its gzip stream does not end within its {file.stored.bytes:,} bytes")
    return unpacked


def _not_whole(store: Store, file: File, what: str) -> SourceError:
    return SourceError(
        f"the file is incomplete: {what}",
        where=store.uri(file.stored.key),
        hint="this run applied nothing; run again when the task has written the file, or reload the table with it",
        kind=Kind.REFUSED,
    )


def _other_settings(names: Sequence[str], old_keys: Iterable[str]) -> list[str]:
    """Describe the settings that differ, judged by the names in a file's first line."""
    if len(names) == 1 and re.search(rf"\b{OP}\b", names[0]):
        return ["CsvDelimiter is not ','"]
    if not {OP, SEQUENCE, TIMESTAMP} & set(names):
        return ["AddColumnName is not true"]
    problems = [] if OP in names else ["IncludeOpForFullLoad is not true"]
    if TIMESTAMP not in names:
        problems.append(f"TimestampColumnName is not {TIMESTAMP}")
    if SEQUENCE not in names:
        problems.append(f"the table mappings have no rule add-column for {SEQUENCE}")
    if missing := [name for name in old_keys if name not in names]:
        problems.append(f"the table mappings have no rule add-before-image-columns for {', '.join(missing)}")
    return problems
