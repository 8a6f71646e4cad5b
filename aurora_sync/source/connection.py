"""Connections to the source, with every setting that could change a value's text pinned.

The settings hold for one transaction, never for the session. A transaction pooler may run each transaction in another
session, and gives that session to other clients afterwards: they must find it as they left it, and we must not depend
on what they left in it. A replication connection is an exception: its session is nobody else's.
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

# Asked for at connect, because psycopg2 chooses its codec then: with a SET afterwards the server sends UTF-8, and the
# driver reads it by the encoding of the database, the role or PGCLIENTENCODING.
ENCODING = "UTF8"
# What COPY prints depends on these.
TEXT_SETTINGS = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "extra_float_digits": "1",  # shortest text that reads back as the same float
    "bytea_output": "hex",
}
# The rest keeps a forgotten session from hurting the source.
_PINNED = {
    "client_encoding": ENCODING,
    **TEXT_SETTINGS,
    "search_path": "",  # nothing of the source's schemas can shadow a function or type that we name
    "row_security": "off",  # a policy that would silently filter rows becomes an error
    "synchronize_seqscans": "off",  # rows come in heap order, so an unchanged table exports the same bytes
    "lock_timeout": "60s",  # behind an ALTER TABLE we would queue, and readers of the table behind us
}


class PinnedCursor(Cursor):
    """Runs each statement in a transaction that is READ COMMITTED and READ ONLY and has the pinned settings.

    In autocommit one message carries the settings and the statement, which the server runs as one transaction. Where
    the statement is BEGIN, the settings hold until COMMIT, and the modes that BEGIN names replace these: no SET takes a
    snapshot.
    """

    def execute(self, query: str | sql.Composable, vars: Any = None) -> None:  # type: ignore[override]
        super().execute(self._pinned(query), vars)

    def copy_expert(self, query: str | sql.Composable, file: Any, size: int = 8192) -> None:  # type: ignore[override]
        super().copy_expert(self._pinned(query), file, size)

    def _pinned(self, query: str | sql.Composable) -> str:
        text = query if isinstance(query, str) else query.as_string(self)
        if self.connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            return text
        # SERIALIZABLE would make the application's transactions fail.
        return f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ ONLY; {_settings('LOCAL')};\n{text}"


def write(cursor: Cursor, statement: str | sql.Composable, *, statement_timeout: str | None = None) -> None:
    """Run a statement that writes, in a transaction of its own. All others are read-only."""
    limit = [sql.SQL("SET LOCAL statement_timeout TO {}").format(sql.Literal(statement_timeout))]
    parts = [sql.SQL("SET TRANSACTION READ WRITE"), *(limit if statement_timeout else [])]
    cursor.execute(sql.SQL("; ").join([*parts, sql.SQL(statement) if isinstance(statement, str) else statement]))


@contextmanager
def connect(
    dsn: str, *, variable: str = "AURORA_DSN", application_name: str = "aurora_sync", **more: Any
) -> Iterator[Connection]:
    """An autocommit connection with pinned settings, closed at the end; ``dsn`` came from ``variable``, and ``more`` is
    for psycopg2.

    Every psycopg2 error raised inside surfaces as :class:`SourceError` with its kind.
    """
    options = {"application_name": application_name, "cursor_factory": PinnedCursor, **more}
    with _opened(dsn, variable, options) as connection:
        connection.autocommit = True
        yield connection


@contextmanager
def connect_for_replication(dsn: str, *, application_name: str = "aurora_sync") -> Iterator[Connection]:
    """A logical replication connection with pinned settings, closed at the end. Raises SourceError, as
    :func:`connect`; it is never transient where a connection pooler answers in place of the server."""
    options = {"application_name": application_name, "connection_factory": LogicalReplicationConnection}
    with _opened(dsn, "AURORA_DSN", options) as connection, connection.cursor() as cursor:
        try:
            cursor.execute("IDENTIFY_SYSTEM")  # before any SET: this may be the session of others
        except psycopg2.errors.SyntaxError as error:
            raise SourceError(
                "asked for a replication connection, and got an ordinary one",
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
    """System identifier and timeline; ('', 0) where the server does not let this role read them. In autocommit."""
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
