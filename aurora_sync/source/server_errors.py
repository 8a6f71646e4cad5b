"""Translates errors of PostgreSQL into SourceError: whether a retry may succeed, and what to do next."""

from __future__ import annotations

import psycopg2

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.foreign_text import without_quotations
from aurora_sync.source.dsn import describe
from aurora_sync.source.privileges import missing_privilege

# SQLSTATE classes and codes after which a retry may succeed. Not 57P04: the database was dropped. Not 53400: a
# configured limit was exceeded.
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
# PgBouncer's message.
_POOLED_AT_CONNECT = ("unsupported startup parameter",)

_LOST = "the server stopped, failed over or could not be reached; run again"
_CONNECTIONS = "raise the connection limit of the role, the database or the server, or run fewer syncs at a time"
NOT_A_POOLER = "set {} to the address of the server itself, not of a connection pooler"
_GONE = "the table, a column or a partition was dropped or renamed: check table_name and schema in tables.yaml"
_ENCODING = (
    "the database has bytes that cannot be sent as UTF-8: correct the name or the value, in a session whose"
    " client_encoding is the encoding of the bytes"
)
_MADE_TWICE = (
    "if another run created the object at the same time, run again; otherwise drop or rename the existing object"
)
# What to do next, by SQLSTATE or the beginning of one.
_HINTS = {
    "08": _LOST,
    "22021": _ENCODING,
    "22P05": _ENCODING,
    "22": "correct the value or the view that computes it, or exclude the column under columns: in tables.yaml",
    "2BP01": "drop the objects that depend on it, and run again",
    "25P03": "a read may hold its snapshot for max_snapshot_minutes (tables.yaml); raise it, or read less",
    "3F000": _GONE,
    "40": "run again",
    "42P01": _GONE,
    "42703": _GONE,
    "42710": _MADE_TWICE,
    "42723": _MADE_TWICE,
    "42P06": _MADE_TWICE,
    "42P07": _MADE_TWICE,
    "53100": "free space on the disk of the server, then run again",
    "53200": "the server is short of memory; run again, or read fewer tables at a time",
    "53300": _CONNECTIONS,
    "53400": "raise the limit in the message for this role, or read a table instead of a view that sorts",
    "55006": "a session of another run or program uses it: see pg_replication_slots and pg_stat_activity; run again"
    " when the session has ended, or choose another slot in tables.yaml",
    "55P03": "another session has locked the table in ACCESS EXCLUSIVE mode; run again when the session has ended",
    "57014": "the cause is a user (pg_cancel_backend) or a time limit: max_snapshot_minutes (tables.yaml) during a"
    " read, the statement_timeout of this role before a read; raise the limit, or read less",
    "57P04": "the database was dropped: check the name of the database in AURORA_DSN",
    "57": _LOST,
    "58": "the server could not reach its files; see its log, then run again",
}
# A standby reports this (SQLSTATE 40001) when it cancels a statement that its replay cannot wait for. If the session
# is idle in its transaction, the standby closes the connection, and the client may not receive the reason.
_CONFLICT = "conflict with recovery"
_CONFLICT_HINT = (
    "the replay of the standby removed rows that the read needed: set hot_standby_feedback = on on the standby, or"
    " raise its max_standby_streaming_delay above the duration of a read; or set AURORA_DSN to the writer"
)
# SQLSTATE classes whose messages repeat values of rows, in quotation marks: data and constraints.
_REPEAT_VALUES = ("21", "22", "23")
# SQLSTATE classes of errors that the source's functions raise, with any text. Functions may use other classes too.
_RAISED = ("P0", "38", "39")
_SHOW = "show_values: true in tables.yaml shows the value"


def translate(error: psycopg2.Error, *, where: str) -> SourceError:
    """Return the SourceError for a psycopg2 error: its kind, and what to do next. Values of rows in the message of
    the server are shown with show_values only, so raise the result ``from None``."""
    code = error.pgcode or ""
    # A connection that breaks during a COPY raises a plain DatabaseError: libpq has no message for it.
    lost = not code and (
        isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) or type(error) is psycopg2.DatabaseError
    )
    conflict = _CONFLICT in str(error)
    if lost:
        hint = _CONFLICT_HINT if conflict else f"{_LOST}; if the server is a standby: {_CONFLICT_HINT}"
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


def translate_at_connect(error: psycopg2.OperationalError, dsn: str, variable: str) -> SourceError:
    """Return the SourceError for a connection that cannot be opened; ``variable`` is the setting that has ``dsn``."""
    text = _one_line(error)
    hint, kind = f"check host, port, user, password and database in {variable}", Kind.TRANSIENT
    if any(phrase in text for phrase in _POOLED_AT_CONNECT):
        hint, kind = NOT_A_POOLER.format(variable), Kind.REFUSED
    elif any(phrase in text for phrase in _FULL_AT_CONNECT):
        hint = _CONNECTIONS
    elif any(phrase in text for phrase in _REFUSED_AT_CONNECT):
        kind = Kind.REFUSED
        if any(phrase in text for phrase in _NO_TRUST):
            hint = (
                f"in {variable} set host to the name in the certificate, and sslrootcert to the file of the authority"
            )
    return SourceError(f"cannot connect to PostgreSQL: {text}", where=describe(dsn), hint=hint, kind=kind)


def without_values(error: psycopg2.Error) -> str:
    """Return the server's message and its details, without values of rows."""
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


def _hint(error: psycopg2.Error, code: str) -> str:
    if code == "42501":
        return missing_privilege(error.diag.message_primary or "")
    hints = [_HINTS[code[:length]] for length in range(5, 1, -1) if code[:length] in _HINTS]
    hint = hints[0] if hints else "see the log of the server"
    return f"{hint}; {_SHOW}" if code.startswith(_REPEAT_VALUES) or _is_raised(error, code) else hint


def _is_raised(error: psycopg2.Error, code: str) -> bool:
    return code.startswith(_RAISED) or error.diag.source_function == "exec_stmt_raise"


def _labelled(label: str, text: str | None) -> str:
    return f"{label}: {' '.join(text.split())}" if text else ""


def _one_line(error: psycopg2.Error) -> str:
    return " ".join(str(error).split())
