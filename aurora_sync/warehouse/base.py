"""The interface of a warehouse backend, independent of any backend.

A backend owns four things: the dialect of its engine, how a statement is run, how staged files become a staging table,
and what its errors mean. The statements are written once, in Snowflake SQL (merge.py, ddl.py, sync_log.py), and every
backend receives them unchanged. See docs/write-your-own-warehouse.md.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from aurora_sync.errors import ConfigError, WarehouseError
from aurora_sync.model.manifest import Manifest, TakenFile
from aurora_sync.model.receipt import QueryRef
from aurora_sync.model.usage import LoadStatements, Usage
from aurora_sync.objects.store import Store
from aurora_sync.warehouse.dialect import Dialect
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag

Row = tuple[Any, ...]


class Objects(Protocol):
    """The part of the stage that a backend may use."""

    def download(self, key: str, path: Path) -> None:
        """Write the whole object to a local file, in constant memory."""


class Folder(Objects, Protocol):
    """The folder of external files."""

    prefix: str


@dataclass(frozen=True)
class ReportedColumn:
    """A column of a table as the warehouse reports it: its type as the statements declare it (``VARCHAR``,
    ``NUMBER(10,2)``), its collation, the name of its masking policy and its comment; empty when it has none.
    ``in_key``: it belongs to the primary key of the table. ``length`` is that of a text; None when it is not known."""

    type: str
    collation: str = ""
    policy: str = ""
    nullable: bool = True
    comment: str = ""
    in_key: bool = False
    length: int | None = None


@dataclass(frozen=True)
class TableProperties:
    """What the warehouse reports about a table besides its columns."""

    comment: str
    iceberg: bool


@dataclass(frozen=True)
class Attached:
    """What others attached to a table: the masking policy of each masked column, also one that a tag brings; its row
    access policies; the streams that read it; and sentences about what could not be seen, and why."""

    masks: Mapping[str, str] = field(default_factory=dict)
    row_policies: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merged:
    """The numbers of rows that a MERGE inserted, updated and deleted."""

    inserted: int
    updated: int
    deleted: int = 0


class Session(ABC):
    """One connection, which runs statements in order. Every error is raised as WarehouseError with its kind."""

    dialect: Dialect
    query_tag: QueryTag = NO_TAG

    def queries(self, load_id: str = "") -> tuple[QueryRef, ...]:
        """Return the statements so far that needed a virtual warehouse, in order; with ``load_id`` only those that have
        it in their tag. This default is for an engine without query ids."""
        return ()

    def about(self, query_tag: QueryTag) -> None:
        """Use this tag for the statements that follow, if the engine has query tags."""
        self.query_tag = query_tag

    @abstractmethod
    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement of Snowflake SQL (``?`` placeholders) and return its rows."""

    @abstractmethod
    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        """Run one INSERT, UPDATE or DELETE and return the number of changed rows."""

    @abstractmethod
    def merge(self, statement: str, parameters: Sequence[Any] = ()) -> Merged:
        """Run one MERGE, in a transaction, and return the numbers of rows that it changed."""

    @abstractmethod
    def arrow(self, statement: str) -> Any:
        """Return the rows of one query as a ``pyarrow.RecordBatchReader``, in the warehouse's own types. Read it while
        the session is open. Needs pyarrow (the extra ``frames``)."""

    @abstractmethod
    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        """Copy exactly the manifest's files into the (quoted, qualified) staging table, whose columns are all VARCHAR.
        Returns the number of rows. A backend may read the files in place: a malformed row then fails the first
        statement that reads the table. No row is ever skipped."""

    def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
        """Return the columns of a table by name, in order; empty when there is no such table. This default reads
        INFORMATION_SCHEMA; a backend that has something cheaper overrides it, and the two methods below."""
        rows = self.query(
            "SELECT COLUMN_NAME, IS_NULLABLE, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE"
            " FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_SCHEMA = ? AND TABLE_NAME = ? ORDER BY ORDINAL_POSITION",
            (schema, name),
        )
        return {
            name: ReportedColumn(self.dialect.declared(*type_), nullable=nullable != "NO")
            for name, nullable, *type_ in rows
        }

    def properties(self, schema: str, name: str) -> TableProperties | None:
        """Return the properties of a table; None when there is no such table, or the backend does not report any."""
        return None

    def tables(self, schema: str, prefix: str) -> list[str]:
        """Return the names of the tables of a schema that begin with ``prefix``; none when there is no such schema."""
        rows = self.query(
            "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES"
            " WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE' AND STARTSWITH(TABLE_NAME, ?)",
            (schema, prefix),
        )
        return [name for (name,) in rows]

    def spellings(self, name: str) -> list[tuple[str, str]]:
        """Return schema and name of the tables, in all schemas, whose name differs from this one at most by case. May
        return others as well."""
        rows = self.query(
            "SELECT TABLE_SCHEMA, TABLE_NAME FROM INFORMATION_SCHEMA.TABLES"
            " WHERE TABLE_TYPE = 'BASE TABLE' AND LOWER(TABLE_NAME) = LOWER(?)",
            (name,),
        )
        return [(schema, found) for schema, found in rows]

    def size(self, schema: str, name: str) -> tuple[int | str, ...] | None:
        """Return the numbers of rows and bytes of a table, and the time of its creation, if the warehouse knows them
        without reading it; else None."""
        return None

    def attached(self, schema: str, name: str) -> Attached:
        """Return the policies and streams of a table. This default is for a warehouse that has none."""
        return Attached()

    def has_schema(self, name: str) -> bool:
        """Return whether the schema exists and the user may use it."""
        return bool(self.query("SELECT 1 FROM INFORMATION_SCHEMA.SCHEMATA WHERE SCHEMA_NAME = ?", (name,)))

    def copy_files(
        self, raw_table: str, columns: Sequence[str], folder: Folder, files: Sequence[TakenFile], null: str
    ) -> int:
        """Copy external files into the ``columns`` of the (quoted, qualified) raw table, all VARCHAR, by column name. A
        column that a file lacks is NULL; other columns of a file are ignored. CSV files have a header, and ``null``
        without quotes for NULL. Returns the number of rows. Fails on a malformed row."""
        raise _reads_no_files_of_others()

    def copy_ragged(self, raw_table: str, folder: Folder, files: Sequence[TakenFile], width: int, null: str) -> int:
        """Copy CSV files without a header, whose rows have any number of fields, into the ``width`` columns of the
        table by position. Missing fields are NULL; extra fields are ignored. Returns the number of rows."""
        raise _reads_no_files_of_others()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN; COMMIT on success, ROLLBACK on any exception. A failed statement always ends in a rollback, even where
        the warehouse itself would let COMMIT keep the other statements.

        After a failed ROLLBACK, the connection is closed and nothing more is sent. The transaction may still be open: a
        query would read its rows, and the next CREATE or DROP would commit it.
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
        """Close the connection. Every further call raises WarehouseError."""


def _reads_no_files_of_others() -> ConfigError:
    return ConfigError(
        "this warehouse cannot read files of AWS DMS, which watermark_type: dms needs",
        hint="choose another watermark_type in tables.yaml",
    )


@dataclass(frozen=True)
class Trial:
    """What ``check`` tries: objects in ``store``, tables in the schema of the sync log and in those of the targets."""

    store: Store
    log_schema: str
    schemas: tuple[str, ...] = ()
    targets: tuple[tuple[str, str], ...] = ()  # schema and name of each target


class Warehouse(ABC):
    """The warehouse that holds the targets. Creating one does no I/O; :meth:`session` connects."""

    kind: str  # for metadata, such as duckdb
    dialect: Dialect
    metered = True  # a query costs money, so an idle run may rely on a hint instead

    @abstractmethod
    def session(self, *, query_tag: QueryTag = NO_TAG) -> AbstractContextManager[Session]:
        """Connect, and close at the end. ``query_tag`` names the subject of the statements. Concurrent sessions, of
        this and other processes, wait for each other where the engine needs it."""

    def keep_connections(self) -> None:  # noqa: B027
        """Let the next session of this process use the connection of the last one, until :meth:`close`. This default
        connects for every session."""

    def close(self) -> None:  # noqa: B027
        """Close the connection that is kept, if there is one."""

    def reading(self, *, query_tag: QueryTag = NO_TAG) -> AbstractContextManager[Session]:
        """Connect for statements that only read. A warehouse that connecting would create is read as empty instead,
        and is not created. This default is for an engine whose connections create nothing."""
        return self.session(query_tag=query_tag)

    @abstractmethod
    def describe(self) -> str:
        """Return the location, without secrets, for messages and metadata."""

    def usage(self, days: int) -> list[Usage] | None:
        """Return what the statements of each table used in the last days, the most expensive table first. None, the
        default, means that the engine keeps no such history. Raises WarehouseError."""
        return None

    def statements_of_first_load(self, files: int) -> LoadStatements | None:
        """Return how many statements a first load of that many files has. None, the default, is for an engine whose
        statements cost nothing."""
        return None

    def problems(self, trial: Trial) -> list[str]:
        """Return a sentence for each thing that would make a sync fail. Raises WarehouseError when it cannot connect.
        This default only connects."""
        with self.session(query_tag=QueryTag("check")) as session:
            session.query("SELECT 1")
        return []
