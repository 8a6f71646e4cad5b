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

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.foreign_text import without_quotations
from aurora_sync.source import tls
from aurora_sync.source.privileges import missing_privilege

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

# SQLSTATE classes and codes that may succeed when tried again.
# 57P04 is not among them: the database was dropped. Nor is 53400: a limit that is configured.
_TRANSIENT = ("08", "40", "530", "531", "532", "533", "55006", "55P03", "57P01", "57P02", "57P03", "57P05", "58")
_REFUSED_AT_CONNECT = (
    "authentication failed",
    "no pg_hba.conf entry",
    "does not exist",
    "is not permitted",
    "but SSL was required",
    *(_NO_TRUST := ("certificate verify failed", "does not match host name", "root certificate file")),
)
_FULL_AT_CONNECT = ("too many", "connection slots", "max_wal_senders")
# PgBouncer's word for it.
_POOLED_AT_CONNECT = ("unsupported startup parameter",)

_LOST = "the server ended, failed over or was cut off; run again"
_CONNECTIONS = "raise the connection limit of the role, the database or the server, or run fewer syncs at a time"
_NOT_A_POOLER = "give {} the server itself, not a connection pooler"
_GONE = "the table or a part of it was dropped or renamed: check table_name and schema in tables.yaml"
_ENCODING = (
    "the database holds bytes that cannot be sent as UTF-8: correct the name or the value, in a session whose"
    " client_encoding is theirs"
)
_MADE_TWICE = "if another run made it at the same time, run again; else drop or rename what has the name"
# What to do next, by SQLSTATE or the beginning of one.
_HINTS = {
    "08": _LOST,
    "22021": _ENCODING,
    "22P05": _ENCODING,
    "22": "mend the value or the view that it comes from, or exclude the column under columns: in tables.yaml",
    "2BP01": "drop what depends on it, and run again",
    "25P03": "a read may hold its snapshot for max_snapshot_minutes (tables.yaml); raise it, or read less",
    "3F000": _GONE,
    "40": "run again",
    "42P01": _GONE,
    "42703": _GONE,
    "42710": _MADE_TWICE,
    "42723": _MADE_TWICE,
    "42P06": _MADE_TWICE,
    "42P07": _MADE_TWICE,
    "53100": "make room on the disk of the server, then run again",
    "53200": "the server is short of memory; run again, or read fewer tables at a time",
    "53300": _CONNECTIONS,
    "53400": "raise the limit that is named for this role, or read a table rather than a view that sorts",
    "55006": "another session uses it, of another run or of another program: see pg_replication_slots and"
    " pg_stat_activity; run again when it has ended, or name another slot in tables.yaml",
    "55P03": "another session holds the table in ACCESS EXCLUSIVE mode; run again when it has ended",
    "57014": "somebody cancelled it (pg_cancel_backend), or a time limit did: max_snapshot_minutes (tables.yaml) for a"
    " read, the statement_timeout of this role before it begins; raise that, or read less",
    "57P04": "the database was dropped: check the name of the database in AURORA_DSN",
    "57": _LOST,
    "58": "the server could not reach its files; see its log, then run again",
}
# With this a standby cancels what its replay cannot wait for, SQLSTATE 40001. Of a session that is idle in its
# transaction it ends the connection, and the client may not hear why.
_CONFLICT = "conflict with recovery"
_CONFLICT_HINT = (
    "its replay removes rows that a read still needs, and cancels the read: set hot_standby_feedback = on there, or"
    " raise its max_standby_streaming_delay above the duration of a read; or let AURORA_DSN name the writer"
)
# SQLSTATE classes whose messages repeat values of rows, in quotation marks: data and constraints.
_REPEAT_VALUES = ("21", "22", "23")
# What a function of somebody raises may say anything, under any SQLSTATE.
_RAISED = ("P0", "38", "39")
_SHOW = "show_values: true in tables.yaml shows the value"


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
                hint=_NOT_A_POOLER.format("AURORA_DSN"),
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
        raise _at_connect(error, dsn, variable) from error
    try:
        tls.warn(connection, describe(dsn), variable)
        yield connection
    except psycopg2.Error as error:
        raise translate(error, where=describe(dsn)) from None
    finally:
        connection.close()


def _at_connect(error: psycopg2.OperationalError, dsn: str, variable: str) -> SourceError:
    text = _one_line(error)
    hint, kind = f"check host, port, user, password and database in {variable}", Kind.TRANSIENT
    if any(phrase in text for phrase in _POOLED_AT_CONNECT):
        hint, kind = _NOT_A_POOLER.format(variable), Kind.REFUSED
    elif any(phrase in text for phrase in _FULL_AT_CONNECT):
        hint = _CONNECTIONS
    elif any(phrase in text for phrase in _REFUSED_AT_CONNECT):
        kind = Kind.REFUSED
        if any(phrase in text for phrase in _NO_TRUST):
            hint = f"give {variable} host as the server's certificate names it, and its authority as sslrootcert"
    return SourceError(f"cannot connect to PostgreSQL: {text}", where=describe(dsn), hint=hint, kind=kind)


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


def describe(dsn: str) -> str:
    """``user@host:port/database``, without secrets."""
    parts = psycopg2.extensions.parse_dsn(dsn)
    host = f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}"
    return f"{parts.get('user', '')}@{host}/{parts.get('dbname', '')}"


def database_name(dsn: str) -> str:
    return str(psycopg2.extensions.parse_dsn(dsn).get("dbname", "postgres"))


def translate(error: psycopg2.Error, *, where: str) -> SourceError:
    """The SourceError for a psycopg2 error: who can mend it, and what to do next. What the server says of the values of
    a row is shown with show_values only, so raise it ``from None``."""
    code = error.pgcode or ""
    # A connection that breaks in the middle of a COPY is a DatabaseError itself: libpq has no message for it.
    lost = not code and (
        isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or type(error) is psycopg2.DatabaseError
    )
    conflict = _CONFLICT in str(error)
    if lost:
        hint = _CONFLICT_HINT if conflict else f"{_LOST}; if it is a standby: {_CONFLICT_HINT}"
        return SourceError(f"the connection was lost: {_one_line(error)}", where=where, hint=hint, kind=Kind.TRANSIENT)
    said = without_values(error)
    what = f"{said} (SQLSTATE {code or 'none'})"
    hint = _CONFLICT_HINT if conflict and not code.startswith("57") else _hint(error, code)
    full = _one_line(error)
    return SourceError(
        f"the read was cancelled: {what}" if code == "57014" else what,
        where=where,
        hint=hint,
        kind=Kind.TRANSIENT if code.startswith(_TRANSIENT) else Kind.REFUSED,
        values="" if full == said else full,
    )


def _hint(error: psycopg2.Error, code: str) -> str:
    if code == "42501":
        return missing_privilege(error.diag.message_primary or "")
    hints = [_HINTS[code[:length]] for length in range(5, 1, -1) if code[:length] in _HINTS]
    hint = hints[0] if hints else "see the log of the server"
    return f"{hint}; {_SHOW}" if code.startswith(_REPEAT_VALUES) or _is_raised(error, code) else hint


def _is_raised(error: psycopg2.Error, code: str) -> bool:
    return code.startswith(_RAISED) or error.diag.source_function == "exec_stmt_raise"


def without_values(error: psycopg2.Error) -> str:
    """The server's message and its details, without values of rows."""
    code, diag = error.pgcode or "", error.diag
    if _is_raised(error, code):
        return "a function of the source raised an error"
    said = " ".join((diag.message_primary or str(error)).split())
    if not code.startswith(_REPEAT_VALUES):
        return " ".join(part for part in (said, _labelled("DETAIL", diag.message_detail)) if part)
    named = {
        "table": diag.table_name,
        "column": diag.column_name,
        "constraint": diag.constraint_name,
        "type": diag.datatype_name,
    }
    names = ", ".join(f"{kind} {name}" for kind, name in named.items() if name)
    return without_quotations(said) + (f", {names}" if names else "")


def _labelled(label: str, text: str | None) -> str:
    return f"{label}: {' '.join(text.split())}" if text else ""


def _one_line(error: psycopg2.Error) -> str:
    return " ".join(str(error).split())
