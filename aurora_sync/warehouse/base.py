"""The interface of a warehouse backend, and nothing that knows a backend.

A backend owns four things: the dialect of its engine, how a statement is run, how staged files become a staging table,
and what its errors mean. The statements themselves are written once, in Snowflake SQL (merge.py, ddl.py, sync_log.py),
and reach a backend as they are. docs/write-your-own-warehouse.md
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

from aurora_sync.errors import ConfigError, WarehouseError
from aurora_sync.model.manifest import Manifest, TakenFile
from aurora_sync.warehouse.dialect import Dialect

Row = tuple[Any, ...]


class Objects(Protocol):
    """What a backend may ask of the stage."""

    def download(self, key: str, path: Path) -> None:
        """Write the whole object to a local file, in constant memory."""


class Folder(Objects, Protocol):
    """Where files of others lie."""

    prefix: str


class Session(ABC):
    """One connection, statements in order. Every error surfaces as WarehouseError with its kind."""

    dialect: Dialect

    @abstractmethod
    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement of Snowflake SQL (``?`` placeholders) and return its rows."""

    @abstractmethod
    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run one INSERT, UPDATE, DELETE or MERGE and return the number of rows it changed."""

    @abstractmethod
    def arrow(self, statement: str) -> Any:
        """The rows of one query as a ``pyarrow.RecordBatchReader``, in the warehouse's own types; to be read while
        the session is open. Needs pyarrow (the extra ``frames``)."""

    @abstractmethod
    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        """Copy the manifest's files, and no others, into the (quoted, qualified) staging table, whose columns
        are all VARCHAR, in file order. Returns the rows loaded. Fails on any malformed row; never skips one."""

    def copy_files(self, raw_table: str, folder: Folder, files: Sequence[TakenFile], null: str) -> int:
        """Copy files of others into the (quoted, qualified) raw table, whose columns are all VARCHAR, by the names of
        columns: what a file has no column for is NULL, what the table has none for is left out. CSV files have a
        header, and ``null`` without quotes where a value is NULL. Returns the rows. Fails on any malformed row."""
        raise _reads_no_files_of_others()

    def copy_ragged(self, raw_table: str, folder: Folder, files: Sequence[TakenFile], width: int, null: str) -> int:
        """Copy CSV files without a header, whose rows have any number of fields, into the ``width`` columns of the
        table by their place: what a row lacks is NULL, what it has beyond them is left out."""
        raise _reads_no_files_of_others()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN; COMMIT on success, ROLLBACK on any exception. A failed statement inside always ends in a
        rollback, also where the warehouse itself would let COMMIT keep the rest.

        After a ROLLBACK that failed nothing more is sent: it would be part of a transaction that may still be open,
        would read what that wrote, and the next CREATE or DROP would commit it.
        """
        self.query("BEGIN TRANSACTION")
        try:
            yield
            self.query("COMMIT")
        except BaseException as error:
            try:
                self.query("ROLLBACK")
            except WarehouseError as unrolled:
                error.add_note(f"ROLLBACK failed too: {unrolled}")
                self.close()
            raise

    @abstractmethod
    def close(self) -> None:
        """Drop the connection: every further call raises WarehouseError."""


def _reads_no_files_of_others() -> ConfigError:
    return ConfigError(
        "this warehouse reads no files that others wrote, which watermark_type: dms needs",
        hint="choose another watermark_type in tables.yaml",
    )


class Warehouse(ABC):
    """Where the tables go. Opening one does no I/O; :meth:`session` connects."""

    kind: str  # such as duckdb, for metadata
    dialect: Dialect
    metered = True  # asking it costs money: an idle run may go by a hint instead

    @abstractmethod
    def session(self, *, query_tag: str = "") -> AbstractContextManager[Session]:
        """Connect; close at the end. Concurrent sessions, of other processes too, wait for each other where
        the engine needs it."""

    @abstractmethod
    def describe(self) -> str:
        """Where this is, without secrets: for messages and metadata."""
