"""Test whether the triggers fire, on the table itself, in a transaction that is rolled back.

In every leaf, one row is updated, deleted, inserted again and copied in again: first as the application writes, then as
replication writes (``session_replication_role = replica``). At the end, the table is truncated. A statement waits two
seconds at most for a lock, and the rollback releases all locks. Only TRUNCATE takes a lock that blocks readers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from aurora_sync.model.relation import SourceTable
from aurora_sync.provisioning.triggers.audit_columns import UPDATED
from aurora_sync.provisioning.triggers.installed import COLUMNS_TRIGGER, ROW_TRIGGER, TriggerKind
from aurora_sync.source.outbox import EMPTIED, XID
from aurora_sync.source.server_errors import without_values

_LEAVES = """
WITH RECURSIVE tree(oid) AS (
    SELECT %s::oid UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT n.nspname, c.relname,
       EXISTS (SELECT FROM pg_trigger g WHERE g.tgrelid = c.oid AND g.tgname = %s AND g.tgenabled = 'A')
  FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind <> 'p' ORDER BY 1, 2
"""

# Foreign keys by which a DELETE also deletes or changes rows of other tables: no DELETE is tried then.
_CASCADES = "SELECT EXISTS (SELECT FROM pg_constraint WHERE confrelid = %s AND confdeltype IN ('c', 'n', 'd'))"

_TAKE_COPY = "CREATE TEMP TABLE aurora_sync_trial ON COMMIT DROP AS SELECT {} FROM ONLY {} WHERE {}"
_INSERT_COPY = "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT * FROM pg_temp.aurora_sync_trial"
_HAS_TIME = "SELECT coalesce(bool_or({0} >= now()) AND NOT bool_or({0} = {1}), false) FROM ONLY {2} {3}"

# A time that no row is expected to have.
_OLD = "1957-10-04 19:28:34.271828+00"
# Classes of SQLSTATE that no row causes: wrong names, missing privileges, lost connections, internal errors.
_OURS = ("42", "57", "08", "XX")
_ROLES = {"origin": "the application", "replica": "replication"}


@dataclass(frozen=True)
class Trial:
    """Result of one kind of write. ``fired`` is None if it could not be tried; ``why`` is the reason."""

    what: str
    by: str
    fired: bool | None
    why: str = ""


def trials(connection: Connection, table: SourceTable, kind: TriggerKind) -> list[Trial]:
    """Try every kind of write, roll it back, and return the results in order.

    ``connection`` is in autocommit, and its role may write to the table.
    """
    if kind is TriggerKind.outbox and table.outbox is None:
        why = "no trigger of the table writes to its outbox"
        return [Trial("INSERT, UPDATE, DELETE and COPY", by, False, why) for by in _ROLES.values()]
    with connection.cursor() as cursor:
        cursor.execute("BEGIN READ WRITE")
        try:
            cursor.execute("SET LOCAL lock_timeout TO '2s'")
            return list(_all(cursor, table, kind))
        finally:
            cursor.execute("ROLLBACK")


def _all(cursor: Cursor, table: SourceTable, kind: TriggerKind) -> Iterator[Trial]:
    cursor.execute(_LEAVES, (table.oid, ROW_TRIGGER if kind is TriggerKind.outbox else COLUMNS_TRIGGER))
    leaves = cursor.fetchall()
    cursor.execute(_CASCADES, (table.oid,))
    ((cascades,),) = cursor.fetchall()
    for role, by in _ROLES.items():
        if why := _become(cursor, role):
            always = all(always for _, _, always in leaves)
            state = "all triggers are" if always else "a trigger is missing or not"
            why = f"{why}; in the catalogue, {state} ENABLE ALWAYS"
            yield Trial("INSERT, UPDATE, DELETE and COPY", by, None if always else False, why)
            continue
        for schema, name, always in leaves:
            leaf = _Leaf(cursor, table, kind, schema, name)
            with _undone(cursor):
                found = list(leaf.trials(by, may_delete=role == "replica" or not cascades, always=always))
            yield from found
        if kind is TriggerKind.outbox:
            yield _truncated(cursor, table, by)


def _become(cursor: Cursor, role: str) -> str:
    """Set session_replication_role. Return an empty string, or why the role may not be set."""
    cursor.execute("SHOW session_replication_role")
    if cursor.fetchall() == [(role,)]:
        return ""
    try:
        with _undone(cursor, keep=True):
            cursor.execute(sql.SQL("SET LOCAL session_replication_role TO {}").format(sql.Identifier(role)))
    except psycopg2.errors.InsufficientPrivilege:
        return f"this role may not set session_replication_role to {role}"
    return ""


@dataclass(frozen=True)
class _Leaf:
    cursor: Cursor
    table: SourceTable
    kind: TriggerKind
    schema: str
    name: str

    def trials(self, by: str, *, may_delete: bool, always: bool) -> Iterator[Trial]:
        """Write one row, locked against other sessions. If no row is free, report the trigger's state in the catalogue.

        ``always``: the trigger exists and is ENABLE ALWAYS.
        """
        row = self._locked_row()
        if row is None:
            state = "is ENABLE ALWAYS" if always else "is missing or not ENABLE ALWAYS"
            why = f"the table has no unlocked row for a trial; in the catalogue, the trigger {state}"
            yield Trial(f"rows of {self._shown}", by, None if always else False, why)
            return
        touch = sql.SQL("UPDATE ONLY {} SET {} WHERE {}").format(self._relation, self._assignment, row)
        delete = sql.SQL("DELETE FROM ONLY {} WHERE {}").format(self._relation, row)
        insert, copy = self._writes_of_a_copy(row)

        def again(write: Callable[[], object]) -> Callable[[], object]:
            def delete_and_write() -> None:
                self.cursor.execute(delete)
                self._forget()
                write()

            return delete_and_write

        yield self._trial("UPDATE", by, lambda: self.cursor.execute(touch))
        if not may_delete:
            why = "a foreign key would change or delete rows of other tables as well"
            yield Trial(f"DELETE, INSERT and COPY of {self._shown}", by, None, why)
            return
        if self.kind is TriggerKind.outbox:
            yield self._trial("DELETE", by, lambda: self.cursor.execute(delete))
        yield self._trial("INSERT", by, again(insert))
        yield self._trial("COPY", by, again(copy))

    def _locked_row(self) -> sql.Composable | None:
        """Lock one row and return the condition that selects it; None if no row is free."""
        lock = "SELECT ctid::text FROM ONLY {} LIMIT 1 FOR UPDATE SKIP LOCKED"
        self.cursor.execute(sql.SQL(lock).format(self._relation))
        rows = self.cursor.fetchall()
        return sql.SQL("ctid = {}::tid").format(sql.Literal(rows[0][0])) if rows else None

    def _writes_of_a_copy(self, row: sql.Composable) -> tuple[Callable[[], None], Callable[[], None]]:
        """Copy the row to a temporary table. Return functions that write the copy back by INSERT and by COPY."""
        names = [c.name for c in self.table.columns if not c.generated]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        self.cursor.execute(sql.SQL(_TAKE_COPY).format(columns, self._relation, row))
        if self.kind is TriggerKind.audit_columns:
            old = sql.SQL("UPDATE pg_temp.aurora_sync_trial SET {}").format(self._assignment)
            self.cursor.execute(old)
        csv = io.StringIO()
        self.cursor.copy_expert("COPY pg_temp.aurora_sync_trial TO STDOUT (FORMAT csv)", csv)

        def insert() -> None:
            self.cursor.execute(sql.SQL(_INSERT_COPY).format(self._relation, columns))

        def copy() -> None:
            csv.seek(0)
            self.cursor.copy_expert(
                sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(self._relation, columns), csv
            )

        return insert, copy

    @property
    def _relation(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def _shown(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def _assignment(self) -> sql.Composable:
        if self.kind is TriggerKind.audit_columns:
            return sql.SQL("{} = {}").format(sql.Identifier(UPDATED), sql.Literal(_OLD))
        written = [c for c in self.table.columns if not c.generated]
        for column in written:
            if column.identity != "a":
                return sql.SQL("{0} = {0}").format(sql.Identifier(column.name))
        return sql.SQL("{} = DEFAULT").format(sql.Identifier(written[0].name))

    def _trial(self, operation: str, by: str, write: Callable[[], object]) -> Trial:
        what = f"{operation} of {self._shown}"
        try:
            with _undone(self.cursor):
                self._forget()
                write()
                return Trial(what, by, self._fired())
        except psycopg2.DatabaseError as error:  # from a constraint, or from a trigger of the application
            code = error.pgcode or ""
            if code.startswith(_OURS) or not code:
                raise
            # The message of a trigger explains the failure. The message of a constraint repeats values of the row.
            why = error.diag.message_primary or "" if code.startswith("P0") else without_values(error)
            return Trial(what, by, None, " ".join(why.split()))

    def _forget(self) -> None:
        if self.kind is TriggerKind.outbox:
            _forget(self.cursor, self.table)

    def _fired(self) -> bool:
        if self.kind is TriggerKind.outbox:
            return _written(self.cursor, self.table) > 0
        if self.cursor.rowcount != 1:
            return False
        key = self.table.primary_key
        names = sql.SQL(", ").join(map(sql.Identifier, key))
        that = sql.SQL("WHERE ({0}) IN (SELECT {0} FROM pg_temp.aurora_sync_trial)").format(names)
        rows = that if key else sql.SQL("")
        self.cursor.execute(sql.SQL(_HAS_TIME).format(sql.Identifier(UPDATED), sql.Literal(_OLD), self._relation, rows))
        ((fired,),) = self.cursor.fetchall()
        return bool(fired)


def _truncated(cursor: Cursor, table: SourceTable, by: str) -> Trial:
    what = f"TRUNCATE of {table.qualified_name}"
    try:
        with _undone(cursor):
            _forget(cursor, table)
            cursor.execute(sql.SQL("TRUNCATE {}").format(sql.Identifier(table.schema, table.name)))
            return Trial(what, by, _written(cursor, table) > 0)
    except (psycopg2.errors.FeatureNotSupported, psycopg2.errors.LockNotAvailable) as error:
        return Trial(what, by, None, without_values(error))


def _forget(cursor: Cursor, table: SourceTable) -> None:
    """Delete the rows that this transaction has written to the outbox so far."""
    assert table.outbox is not None
    cursor.execute(
        sql.SQL("DELETE FROM {} WHERE {} = pg_current_xact_id()").format(
            sql.Identifier(*table.outbox.relation), sql.Identifier(XID)
        )
    )


def _written(cursor: Cursor, table: SourceTable) -> int:
    assert table.outbox is not None
    cursor.execute(
        sql.SQL("SELECT count(*) FROM {} WHERE {} = pg_current_xact_id() AND {} IS NULL").format(
            sql.Identifier(*table.outbox.relation), sql.Identifier(XID), sql.Identifier(EMPTIED)
        )
    )
    ((rows,),) = cursor.fetchall()
    return int(rows)


@contextmanager
def _undone(cursor: Cursor, *, keep: bool = False) -> Iterator[None]:
    """Roll back to a savepoint at the end; with ``keep``, only after an exception."""
    cursor.execute("SAVEPOINT trial")
    try:
        yield
    except BaseException:
        cursor.execute("ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial")
        raise
    if not keep:
        cursor.execute("ROLLBACK TO SAVEPOINT trial")
    cursor.execute("RELEASE SAVEPOINT trial")
