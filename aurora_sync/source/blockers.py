"""Names the sessions that hold the lock that a statement did not get in time."""

from __future__ import annotations

from typing import Any

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import Kind, SourceError

# Lock modes that block readers of a table, and lock modes that block writers.
AGAINST_READERS = ("AccessExclusiveLock",)
AGAINST_WRITERS = ("ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock")
# Largest number of sessions that are named.
_MOST = 3

# A prepared transaction holds its locks without a process. A leaf may be locked instead of its table.
_OF_RELATION = """
WITH RECURSIVE tree(oid) AS (
    SELECT %s::oid UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT DISTINCT l.pid, a.usename, a.application_name, l.mode
  FROM pg_locks l JOIN tree t ON t.oid = l.relation LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.granted AND l.mode = ANY(%s) AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY 1 LIMIT %s
"""

# The xmax of a row is the transaction that locked only the row.
_OF_ROW = """
SELECT DISTINCT l.pid, a.usename, a.application_name, 'the row'
  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'transactionid' AND l.granted AND l.mode = 'ExclusiveLock'
   AND l.pid IS DISTINCT FROM pg_backend_pid()
   AND l.transactionid IN (SELECT xmax FROM {relation} WHERE {column} IS NOT NULL)
 ORDER BY 1 LIMIT %s
"""


def of_relation(connection: Connection, oid: int, modes: tuple[str, ...]) -> list[str]:
    """Name the sessions that hold a lock of one of the modes on the relation or a leaf of it. First rolls back the
    connection's transaction, which has failed."""
    return _named(connection, sql.SQL(_OF_RELATION), (oid, list(modes), _MOST))


def of_row(connection: Connection, relation: tuple[str, str], column: str) -> list[str]:
    """Name the sessions that have locked a row of the relation in which the column is not NULL."""
    names = {"relation": sql.Identifier(*relation), "column": sql.Identifier(column)}
    return _named(connection, sql.SQL(_OF_ROW).format(**names), (_MOST,))


def blocked(error: Exception, what: str, held_by: list[str]) -> SourceError:
    """The error of a statement that did not get its lock on ``what`` in time."""
    by = " and ".join(held_by) if held_by else "a transaction that has ended since then"
    return SourceError(
        f"{' '.join(str(error).split())}: {by} held the lock",
        where=what,
        hint="wait until the other transaction ends, or end it with pg_terminate_backend; run again",
        kind=Kind.TRANSIENT,
    )


def _named(connection: Connection, query: sql.Composable, parameters: tuple[Any, ...]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("ROLLBACK")
        cursor.execute(query, parameters)
        return [
            (f"session {pid} of {user}" if pid else "a prepared transaction")
            + (f" ({application})" if application else "")
            + f", with {_mode(mode)},"
            for pid, user, application, mode in cursor.fetchall()
        ]


def _mode(name: str) -> str:
    """Format the mode of a lock for a message.

    >>> _mode("AccessExclusiveLock"), _mode("the row")
    ('ACCESS EXCLUSIVE mode', 'a lock of the row')
    """
    if not name.endswith("Lock"):
        return f"a lock of {name}"
    words = "".join(f" {letter}" if letter.isupper() else letter for letter in name.removesuffix("Lock"))
    return f"{words.strip().upper()} mode"
