"""Steps that create or drop triggers, and a way to run them that blocks other sessions only briefly."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.relation import SCHEMA, SourceTable
from aurora_sync.provisioning.triggers.installed import SCHEMA_COMMENT, InstalledTriggers

CATALOGUE_ONLY = "none on the table; takes milliseconds"
WRITERS_WAIT = (
    "SHARE ROW EXCLUSIVE on {}: writers wait, readers do not; the lock is held for milliseconds, after the"
    " transactions that write the table have ended"
)
ALL_WAIT = (
    "ACCESS EXCLUSIVE on {}: writers and readers wait; the lock is held for milliseconds, after the transactions that"
    " use the table have ended"
)

_NO_LOCK = (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled, psycopg2.errors.DeadlockDetected)


@dataclass(frozen=True)
class TriggerStep:
    """One step. ``statements`` run in one transaction, and ``undo`` reverts them."""

    what: str
    statements: tuple[sql.Composable, ...]
    lock: str
    undo: tuple[sql.Composable, ...] = ()


@dataclass(frozen=True)
class StepRun:
    step: TriggerStep
    attempts: int
    seconds: float  # of the longest attempt, with its wait for the lock: no other session was blocked longer


def run_steps(
    connection: Connection,
    steps: Sequence[TriggerStep],
    *,
    lock_timeout: str = "2s",
    attempts: int = 30,
    on_wait: Callable[[TriggerStep, int], object] = lambda *_: None,
) -> Iterator[StepRun]:
    """Run the steps one by one, each in its own transaction, and yield each one when it is done.

    A transaction waits at most ``lock_timeout`` for a lock, because other sessions queue behind it. After a failed
    attempt, ``on_wait`` is called, and the step pauses for twice as long as it waited, at most 10 s. Safe to kill at
    any point: finished steps are not planned again. Raises SourceError; transient if no attempt got the lock.
    """
    for step in steps:
        longest = 0.0
        for attempt in range(1, attempts + 1):
            began = time.monotonic()
            try:
                _transact(connection, step, lock_timeout)
                yield StepRun(step, attempt, max(longest, time.monotonic() - began))
                break
            except _NO_LOCK as error:
                with connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
                longest = max(longest, time.monotonic() - began)
                if attempt == attempts:
                    raise SourceError(
                        f"{step.what}: the lock was not granted in {attempts} attempts of {lock_timeout}",
                        hint="finished steps stay: run the command again when the transactions on the table have ended;"
                        " if the table has many partitions, set a larger --lock-timeout",
                        kind=Kind.TRANSIENT,
                    ) from error
                on_wait(step, attempt)
                time.sleep(min(2 * (time.monotonic() - began), 10))
            except psycopg2.errors.InsufficientPrivilege as error:
                raise SourceError(
                    f"{step.what}: {' '.join(str(error).split())}",
                    hint="only the owner of a table may do this: set AURORA_OWNER_DSN to a login of the owner"
                    if "owner" in str(error)
                    else f"the role needs CREATE on the database, or USAGE and CREATE on schema {SCHEMA}",
                    kind=Kind.REFUSED,
                ) from error


def _transact(connection: Connection, step: TriggerStep, lock_timeout: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN READ WRITE")
        # lock_timeout applies to each lock separately, and a partitioned table takes many.
        for timeout in ("lock_timeout", "statement_timeout"):
            cursor.execute("SELECT set_config(%s, %s, true)", (timeout, lock_timeout))
        for statement in step.statements:
            cursor.execute(statement)
        cursor.execute("COMMIT")


def schema_step(installed: InstalledTriggers) -> Iterator[TriggerStep]:
    """Yield the step that creates the schema of both kinds, if it is missing."""
    if not installed.schema:
        schema = sql.Identifier(SCHEMA)
        create = sql.SQL("CREATE SCHEMA {}").format(schema)
        comment = sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(SCHEMA_COMMENT))
        drop = (sql.SQL("DROP SCHEMA {}").format(schema),)
        yield TriggerStep(f"create schema {SCHEMA}", (create, comment), CATALOGUE_ONLY, drop)


def lock_holders(connection: Connection, table: SourceTable) -> Iterator[str]:
    """Describe the three longest transactions that hold a lock on the table: a step has to wait until they end."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK_HOLDERS, (table.oid,))
        for pid, user, application, mode, seconds in cursor.fetchall():
            who = f"{user or 'another role'} ({application})" if application else user or "another role"
            yield f"process {pid} of {who} holds {mode} in a transaction of {seconds:,.0f} s"


_LOCK_HOLDERS = """
WITH RECURSIVE tree(oid) AS (
    SELECT %s::oid UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT l.pid, a.usename, a.application_name, string_agg(DISTINCT l.mode, ', '),
       coalesce(extract(epoch FROM clock_timestamp() - min(a.xact_start)), 0)::float
  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.granted AND l.relation IN (SELECT oid FROM tree)
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
 GROUP BY l.pid, a.usename, a.application_name ORDER BY 5 DESC LIMIT 3
"""
