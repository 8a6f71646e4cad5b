"""Connections to the source, with every session setting that could change a value's text pinned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import Kind, SourceError

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
_SESSION = {
    "client_encoding": ENCODING,
    **TEXT_SETTINGS,
    "search_path": "",  # nothing of the source's schemas can shadow a function or type that we name
    "row_security": "off",  # a policy that would silently filter rows becomes an error
    "synchronize_seqscans": "off",  # rows come in heap order, so an unchanged table exports the same bytes
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "read committed",  # SERIALIZABLE would make the application's transactions fail
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
    "certificate verify failed",
)
_FULL_AT_CONNECT = ("too many", "connection slots")

_LOST = "the server ended, failed over or was cut off; run again"
_CONNECTIONS = "raise the connection limit of the role, the database or the server, or run fewer syncs at a time"
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
    "42501": "grant SELECT on the table and USAGE on its schema to this role",
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


@contextmanager
def connect(
    dsn: str, *, variable: str = "AURORA_DSN", application_name: str = "aurora_sync", **more: Any
) -> Iterator[Connection]:
    """An autocommit connection with pinned settings, closed at the end; ``dsn`` came from ``variable``, and ``more`` is
    for psycopg2.

    Every psycopg2 error raised inside surfaces as :class:`SourceError` with its kind.
    """
    options: dict[str, Any] = {
        "application_name": application_name,
        "client_encoding": ENCODING,
        "keepalives_idle": 30,
        **more,
    }
    if "connect_timeout" not in psycopg2.extensions.parse_dsn(dsn):
        options["connect_timeout"] = 10
    try:
        connection = psycopg2.connect(dsn, **options)
    except psycopg2.OperationalError as error:
        text = _one_line(error)
        refused = any(phrase in text for phrase in _REFUSED_AT_CONNECT)
        full = any(phrase in text for phrase in _FULL_AT_CONNECT)
        raise SourceError(
            f"cannot connect to PostgreSQL: {text}",
            where=describe(dsn),
            hint=_CONNECTIONS if full else f"check host, port, user, password and database in {variable}",
            kind=Kind.REFUSED if refused else Kind.TRANSIENT,
        ) from error
    try:
        if "connection_factory" not in more:  # a replication connection is in autocommit, and does not know the word
            connection.autocommit = True
        with connection.cursor() as cursor:
            pin(cursor)
        yield connection
    except psycopg2.Error as error:
        raise translate(error, where=describe(dsn)) from error
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


def pin(cursor: psycopg2.extensions.cursor) -> None:
    """Pin the settings of this session. SET takes no snapshot, so an open transaction still has none."""
    settings = [
        sql.SQL("SET {} TO {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in _SESSION.items()
    ]
    cursor.execute(sql.SQL("; ").join(settings))


def describe(dsn: str) -> str:
    """``user@host:port/database``, without secrets."""
    parts = psycopg2.extensions.parse_dsn(dsn)
    host = f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}"
    return f"{parts.get('user', '')}@{host}/{parts.get('dbname', '')}"


def database_name(dsn: str) -> str:
    return str(psycopg2.extensions.parse_dsn(dsn).get("dbname", "postgres"))


def translate(error: psycopg2.Error, *, where: str) -> SourceError:
    """The SourceError for a psycopg2 error: who can mend it, and what to do next."""
    code = error.pgcode or ""
    # A connection that breaks in the middle of a COPY is a DatabaseError itself: libpq has no message for it.
    lost = not code and (
        isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or type(error) is psycopg2.DatabaseError
    )
    if lost:
        return SourceError(f"the connection was lost: {_one_line(error)}", where=where, hint=_LOST, kind=Kind.TRANSIENT)
    hints = [_HINTS[code[:length]] for length in range(5, 1, -1) if code[:length] in _HINTS]
    what = f"{_one_line(error)} (SQLSTATE {code or 'none'})"
    return SourceError(
        f"the read was cancelled: {what}" if code == "57014" else what,
        where=where,
        hint=hints[0] if hints else "see the log of the server",
        kind=Kind.TRANSIENT if code.startswith(_TRANSIENT) else Kind.REFUSED,
    )


def _one_line(error: psycopg2.Error) -> str:
    return " ".join(str(error).split())
