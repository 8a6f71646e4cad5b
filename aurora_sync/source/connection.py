"""Connections to the source. They pin every setting that could change the text of a value.

The settings hold for one transaction, never for the session. A transaction pooler may run each transaction in another
session, and gives that session to other clients afterwards. We must not change settings of these clients, nor depend on
settings that they made. A replication connection is an exception: its session is not shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import LogicalReplicationConnection

from aurora_sync.errors import SourceError
from aurora_sync.source import tls
from aurora_sync.source.dsn import describe
from aurora_sync.source.server_errors import NOT_A_POOLER, translate, translate_at_connect

# Requested at connect, because psycopg2 chooses its codec then. After a later SET the server would send UTF-8, and the
# driver would still decode by the encoding of the database, the role or PGCLIENTENCODING.
ENCODING = "UTF8"
# Settings that decide what COPY prints.
TEXT_SETTINGS = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "extra_float_digits": "1",  # shortest text that reads back as the same float
    "bytea_output": "hex",
}
# The other settings protect what is read, and the source.
_PINNED = {
    "client_encoding": ENCODING,
    **TEXT_SETTINGS,
    "search_path": "",  # no object of the source can shadow a function or type that we name
    "row_security": "off",  # a policy that would silently filter rows becomes an error
    "synchronize_seqscans": "off",  # rows come in heap order, so an unchanged table exports the same bytes
    "lock_timeout": "60s",  # do not wait for ever behind an ALTER TABLE
}


class PinnedCursor(Cursor):
    """Runs each statement in a transaction that is READ COMMITTED and READ ONLY and has the pinned settings.

    In autocommit one message carries the settings and the statement, and the server runs both as one transaction. If
    the statement is BEGIN, the settings hold until COMMIT, and the modes that BEGIN names replace these. That is
    possible because SET takes no snapshot.
    """

    def execute(self, query: str | sql.Composable, vars: Any = None) -> None:  # type: ignore[override]
        super().execute(self._pinned(query), vars)

    def copy_expert(self, query: str | sql.Composable, file: Any, size: int = 8192) -> None:  # type: ignore[override]
        super().copy_expert(self._pinned(query), file, size)

    def _pinned(self, query: str | sql.Composable) -> str:
        text = query if isinstance(query, str) else query.as_string(self)
        if self.connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            return text
        # If the database's default is SERIALIZABLE, our reads could make transactions of the application fail.
        return f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY; {_settings('LOCAL')};\n{text}"


def write(cursor: Cursor, statement: str | sql.Composable, *, statement_timeout: str | None = None) -> None:
    """Run a statement that writes, in a transaction of its own. Without this function a statement is read-only."""
    limit = [sql.SQL("SET LOCAL statement_timeout TO {}").format(sql.Literal(statement_timeout))]
    parts = [sql.SQL("SET TRANSACTION READ WRITE"), *(limit if statement_timeout else [])]
    cursor.execute(sql.SQL("; ").join([*parts, sql.SQL(statement) if isinstance(statement, str) else statement]))


@contextmanager
def connect(
    dsn: str, *, variable: str = "AURORA_DSN", application_name: str = "aurora_sync", **more: Any
) -> Iterator[Connection]:
    """Open an autocommit connection with pinned settings, and close it at the end. ``variable`` is the setting that has
    ``dsn``; ``more`` is passed to psycopg2.

    Every psycopg2 error inside is raised as :class:`SourceError` with its kind.
    """
    options = {"application_name": application_name, "cursor_factory": PinnedCursor, **more}
    with _opened(dsn, variable, options) as connection:
        connection.autocommit = True
        yield connection


@contextmanager
def connect_for_replication(dsn: str, *, application_name: str = "aurora_sync") -> Iterator[Connection]:
    """Open a logical replication connection with pinned settings, and close it at the end. Raises SourceError, as
    :func:`connect`; the error is not transient if a connection pooler answers in place of the server."""
    options = {"application_name": application_name, "connection_factory": LogicalReplicationConnection}
    with _opened(dsn, "AURORA_DSN", options) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("IDENTIFY_SYSTEM")  # before any SET: a pooler's session is shared
        except psycopg2.errors.SyntaxError as error:
            raise SourceError(
                "expected a replication connection, but got an ordinary one",
                where=describe(dsn),
                hint=NOT_A_POOLER.format("AURORA_DSN"),
            ) from error
        cursor.execute(_settings("SESSION"))
        yield connection


@contextmanager
def _opened(dsn: str, variable: str, options: dict[str, Any]) -> Iterator[Connection]:
    options = {"client_encoding": ENCODING, "keepalives_idle": 30, **options}
    if "connect_timeout" not in psycopg2.extensions.parse_dsn(dsn):
        options["connect_timeout"] = 10
    try:
        connection = psycopg2.connect(dsn, **options)
    except psycopg2.OperationalError as error:
        raise translate_at_connect(error, dsn, variable) from error
    try:
        tls.warn(connection, describe(dsn), variable)
        yield connection
    except psycopg2.Error as error:
        raise translate(error, where=describe(dsn)) from None
    finally:
        connection.close()


def control_data(connection: Connection) -> tuple[str, int]:
    """Read system identifier and timeline; ('', 0) if this role may not read them. Call in autocommit."""
    with connection.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT (SELECT system_identifier::text FROM pg_control_system()),"
                " (SELECT timeline_id FROM pg_control_checkpoint())"
            )
        except (psycopg2.errors.InsufficientPrivilege, psycopg2.errors.FeatureNotSupported):
            return "", 0
        ((system_identifier, timeline),) = cursor.fetchall()
    return system_identifier, timeline


def _settings(scope: str) -> str:
    return "; ".join(f"SET {scope} {name} TO '{value}'" for name, value in _PINNED.items())
