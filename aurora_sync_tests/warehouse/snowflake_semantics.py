"""A small Snowflake in this process: the real SnowflakeSession on a connection that follows Snowflake's rules.

DuckDB runs the statements. This module adds the rules that an engine on one machine does not have:

- a failed statement does not end its transaction, and COMMIT keeps the other statements, as in an account where
  TRANSACTION_ABORT_ON_ERROR is off: the harder case;
- DDL commits the open transaction, and BEGIN inside a transaction is ignored;
- each statement sees what was committed before it; a statement that writes waits for the transaction of a rival, up to
  LOCK_TIMEOUT (here one lock for all tables, in Snowflake one for each);
- CREATE OR REPLACE TABLE ... AS SELECT reads its rows at its start and replaces the table at its end, without a lock:
  what a rival commits in between is lost;
- a session that lost its client is detached: its transaction and its locks stay until it is aborted;
- a connection may break before a statement arrives or after it ran; the client cannot tell which.

Source: Snowflake's documentation, "Transactions". fakesnow (fixtures/fakesnow_server.py) implements the protocol, but
none of these rules.
"""

from __future__ import annotations

import re
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from aurora_sync.config.backends.snowflake import SnowflakeSettings
from aurora_sync.warehouse.base import Objects
from aurora_sync.warehouse.ddl import identifier
from aurora_sync.warehouse.duckdb import DUCKDB, SETTINGS, to_duckdb
from aurora_sync.warehouse.duckdb_staging import READ_CSV, ROW_BYTES
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse

_COPY = re.compile(r"COPY INTO (?P<table>\S+) FROM '@[^/]+/(?P<path>.*)' FILES = \((?P<files>.*)\) FILE_FORMAT")
_DESCRIBE = re.compile(r'DESCRIBE TABLE "((?:[^"]|"")*)"\."((?:[^"]|"")*)"')
_LIKE = re.compile(r"SHOW TABLES LIKE '(?P<name>(?:[^']|'')*)' IN DATABASE")
_SHOW = re.compile(r'SHOW (?P<kind>TABLES|SCHEMAS)(?: IN SCHEMA "(?P<schema>(?:[^"]|"")*)")?')
_TEMPORARY = re.compile(r"CREATE (OR REPLACE )?TEMPORARY TABLE (?P<table>\S+) ")
_REPLACE = re.compile(r'(?P<create>CREATE OR REPLACE TABLE )(?P<table>"[^"]+"."[^"]+)"(?P<rest> .*AS SELECT .*)')
_WORD = re.compile(r"[A-Z]+")


class Server:
    """One database in a DuckDB file. ``before`` and ``after`` are called around each statement with the connection and
    the statement, so that tests can inject failures."""

    def __init__(self, path: Path, store: Objects, *, lock_timeout: float = 0.0) -> None:
        self.path, self.store, self.lock_timeout = path, store, lock_timeout
        self.lock = threading.Lock()
        self.detached: list[Connection] = []
        self.history: list[tuple[str, str, str]] = []  # query id, statement and query tag
        self.before: Callable[[Connection, str], None] = lambda *_: None
        self.after: Callable[[Connection, str], None] = lambda *_: None
        # What is attached to tables: masks and collations by column; policies as rows of POLICY_REFERENCES (name, kind,
        # column); streams as rows of SHOW STREAMS (name, table). An error in place of rows refuses the statement.
        self.masks: dict[str, str] = {}
        self.collations: dict[str, str] = {}
        self.policies: list[tuple[str, str, str | None]] | Exception = []
        self.streams: list[tuple[str, str]] | Exception = []
        self.created_on = datetime(2026, 1, 1, tzinfo=UTC)  # of every table
        self.while_replacing: Callable[[Connection], None] = lambda _: None

    def abort_detached(self) -> None:
        """Abort the transactions of lost sessions, as Snowflake does within minutes or hours."""
        for connection in self.detached:
            connection.roll_back()
            connection._drop_temporary()
        self.detached.clear()


@dataclass
class Connection:
    server: Server
    in_transaction: bool = False
    dead: bool = False
    labels: Sequence[str] = ()  # the names of the columns of the last answer
    _temporary: list[str] = field(default_factory=list)
    _journal: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)  # the writes of the open transaction
    _holds_lock: bool = False

    def __post_init__(self) -> None:
        self._duckdb = duckdb.connect(str(self.server.path), config=dict(SETTINGS)).cursor()
        self._duckdb.execute("SET TimeZone = 'UTC'")

    @contextmanager
    def cursor(self) -> Iterator[Cursor]:
        yield Cursor(self)

    def vanish(self) -> None:
        """Lose the client without a message to Snowflake."""
        self.dead = True
        if self.in_transaction:
            self.server.detached.append(self)
        else:
            self._drop_temporary()

    def close(self) -> None:
        if not self.dead:
            self.roll_back()
            self._drop_temporary()
        self.dead = True

    def _drop_temporary(self) -> None:
        for table in self._temporary:
            self._duckdb.execute(f"DROP TABLE IF EXISTS {table}")

    def run(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        if self.dead:
            raise operational("the connection is closed")
        self.server.before(self, statement)
        if self.dead:
            raise operational("connection reset by peer")
        rows = self._run(statement, parameters)
        self.server.after(self, statement)
        if self.dead:
            raise operational("connection reset by peer")
        return rows

    def roll_back(self) -> None:
        self._end("ROLLBACK")

    def _run(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        match _WORD.match(statement):
            case None:
                raise AssertionError(f"not a statement: {statement}")
            case word if word[0] == "BEGIN":
                self.in_transaction = True
                return []
            case word if word[0] in ("COMMIT", "ROLLBACK"):
                self._end(word[0])
                return []
            case word if word[0] in ("CREATE", "DROP", "ALTER", "TRUNCATE"):
                self._end("COMMIT")
                if replacing := _REPLACE.fullmatch(statement):
                    return self._replaced(**replacing.groupdict())
                return self._autocommitted(statement, parameters)
            case word if word[0] in ("INSERT", "UPDATE", "DELETE", "MERGE", "COPY"):
                return (
                    self._written(statement, parameters)
                    if self.in_transaction
                    else self._autocommitted(statement, parameters)
                )
            case _:
                return self._execute(statement, parameters)

    def _end(self, how: str) -> None:
        if self._journal:
            self._duckdb.execute(how)
        self._journal.clear()
        self.in_transaction = False
        self._unlock()

    def _autocommitted(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        self._lock()
        try:
            return self._execute(statement, parameters)
        finally:
            self._unlock()

    def _replaced(self, create: str, table: str, rest: str) -> list[Any]:
        self._execute(f'{create}{table} NEW"{rest}', ())
        self.server.while_replacing(self)
        self._autocommitted(f'DROP TABLE {table}"', ())
        name = table.rpartition('"')[2]
        return self._autocommitted(f'ALTER TABLE {table} NEW" RENAME TO "{name}"', ())

    def _written(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        """Begin DuckDB's own transaction at the first write, after the lock is held, so that each statement sees
        everything committed before it. A failed statement aborts DuckDB's transaction: the others are then executed
        again."""
        self._lock()
        if not self._journal:
            self._duckdb.execute("BEGIN")
            self._journal.append(("SELECT 1", ()))
        try:
            rows = self._execute(statement, parameters)
        except Exception:
            self._duckdb.execute("ROLLBACK")
            self._duckdb.execute("BEGIN")
            for before in self._journal:
                self._execute(*before)
            raise
        self._journal.append((statement, parameters))
        return rows

    def _execute(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        from snowflake.connector.errors import ProgrammingError

        try:
            if copy := _COPY.match(statement):
                return self._copied(copy["table"], copy["path"], re.findall(r"'([^']*)'", copy["files"]))
            if "POLICY_REFERENCES" in statement:
                return self._answered(("policy_name", "policy_kind", "ref_column_name"), self.server.policies)
            if statement.startswith("SHOW STREAMS"):
                return self._answered(("name", "table_name"), self.server.streams)
            if asked := _DESCRIBE.match(statement):
                return self._described(*(name.replace('""', '"') for name in asked.groups()))
            if asked := _LIKE.fullmatch(statement):
                return self._alike(asked["name"].replace("''", "'"))
            if asked := _SHOW.match(statement):
                return self._shown(asked["kind"], (asked["schema"] or "").replace('""', '"'))
            if statement.startswith("MERGE"):
                return self._merged(to_duckdb(statement), parameters)
            if made := _TEMPORARY.match(statement):
                self._temporary.append(made["table"])
            return self._duckdb.execute(to_duckdb(statement), list(parameters)).fetchall()
        except duckdb.Error as error:
            raise ProgrammingError(msg=str(error), errno=100000, sqlstate="22000") from error

    def _described(self, schema: str, table: str) -> list[Any]:
        from snowflake.connector.errors import ProgrammingError

        self.labels = ("name", "type", "null?", "policy name", "comment")
        rows = self._duckdb.execute(
            "SELECT column_name, data_type, is_nullable[1], column_comment FROM information_schema.columns"
            " WHERE table_schema = ? AND table_name = ? ORDER BY ordinal_position",
            [schema, table],
        ).fetchall()
        if not rows:
            raise ProgrammingError(
                msg=f"Table '{table}' does not exist or not authorized.", errno=2003, sqlstate="02000"
            )
        masks, collations = self.server.masks, self.server.collations
        return [
            (
                name,
                _as_snowflake_names(type_) + (f" COLLATE '{collations[name]}'" if name in collations else ""),
                null,
                masks.get(name),
                comment,
            )
            for name, type_, null, comment in rows
        ]

    def _answered(self, labels: Sequence[str], answer: Sequence[tuple[Any, ...]] | Exception) -> list[Any]:
        if isinstance(answer, Exception):
            raise answer
        self.labels = labels
        return list(answer)

    def _shown(self, kind: str, schema: str) -> list[Any]:
        self.labels = ("name", "created_on", "rows", "bytes")
        if kind == "SCHEMAS":
            self.labels = ("name",)
            return self._duckdb.execute("SELECT schema_name FROM information_schema.schemata").fetchall()
        found = "SELECT table_name FROM information_schema.tables WHERE table_schema = ?"
        names = [name for (name,) in self._duckdb.execute(found, [schema]).fetchall()]
        return [
            (name, self.server.created_on, *self._size(f"{identifier(schema)}.{identifier(name)}")) for name in names
        ]

    def _alike(self, name: str) -> list[Any]:
        self.labels = ("name", "schema_name")
        found = "SELECT table_name, table_schema FROM information_schema.tables WHERE table_name ILIKE ?"
        return self._duckdb.execute(found, [name]).fetchall()

    def _size(self, table: str) -> tuple[int, int]:
        """Return the number of rows, and a number that changes with their content."""
        size = self._duckdb.execute(f"SELECT COUNT(*), COALESCE(BIT_XOR(HASH(COLUMNS(*))), 0) FROM {table}").fetchone()
        assert size
        return size[0], hash(size[1:])

    def _merged(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        self.labels = ("number of rows inserted", "number of rows updated", "number of rows deleted")
        done = [row[0] for row in self._duckdb.execute(f"{statement} RETURNING merge_action", parameters).fetchall()]
        return [tuple(done.count(action) for action in ("INSERT", "UPDATE", "DELETE"))]

    def _copied(self, table: str, path: str, files: Sequence[str]) -> list[Any]:
        self.labels = ("file", "status", "rows_loaded")
        width = len(self._duckdb.execute(f"DESCRIBE {table}").fetchall())
        columns = "{" + ", ".join(f"'c{i}': 'VARCHAR'" for i in range(width)) + "}"
        results = []
        with tempfile.TemporaryDirectory() as folder:
            for file in files:
                local = Path(folder) / file
                self.server.store.download(path + file, local)
                rows = READ_CSV.format(files="?", columns=columns, compression="zstd", row_bytes=ROW_BYTES)
                insert = f"INSERT INTO {table} SELECT * FROM {rows}"
                ((loaded,),) = self._duckdb.execute(insert, [str(local)]).fetchall()
                results.append((file, "LOADED", loaded))
        return results

    def _lock(self) -> None:
        from snowflake.connector.errors import ProgrammingError

        if not self._holds_lock and not self.server.lock.acquire(timeout=self.server.lock_timeout):
            raise ProgrammingError(msg="a lock was not released within LOCK_TIMEOUT", errno=625, sqlstate="57014")
        self._holds_lock = True

    def _unlock(self) -> None:
        if self._holds_lock:
            self._holds_lock = False
            self.server.lock.release()


class Cursor:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self.sfqid = ""

    def execute(
        self, statement: str, parameters: Sequence[Any] | None = None, *, _statement_params: dict[str, str]
    ) -> None:
        self.sfqid = str(uuid.uuid4())
        self._connection.server.history.append((self.sfqid, statement, _statement_params["QUERY_TAG"]))
        self._rows = self._connection.run(statement, tuple(parameters or ()))

    def fetchall(self) -> list[Any]:
        return self._rows

    @property
    def rowcount(self) -> int:
        return int(self._rows[0][0])

    @property
    def description(self) -> list[Any]:
        @dataclass
        class Column:
            name: str

        return [Column(label) for label in self._connection.labels]


def _as_snowflake_names(type_: str) -> str:
    name, size, rest = type_.partition("(")
    return f"{DUCKDB.type_names.get(name, name)}{size}{rest}"


@dataclass(frozen=True)
class SnowflakeLike(SnowflakeWarehouse):
    """The real Snowflake backend, connected to a server in this process. The stage shows objects from their root."""

    server: Server = None  # type: ignore[assignment]

    @classmethod
    def on(cls, server: Server) -> SnowflakeLike:
        settings = SnowflakeSettings("wh", "db", "files", {"authenticator": "none"}, account="like", user="tester")
        return cls(settings, server=server)

    def _connect(self, given: dict[str, Any]) -> Any:
        return Connection(self.server)


def operational(text: str) -> Exception:
    """Return the connector's error for a broken connection."""
    from snowflake.connector.errors import OperationalError

    return OperationalError(msg=text, errno=250003)
