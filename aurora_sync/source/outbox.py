"""The outbox of a table: its columns, the rows that it names, and how it is emptied.

Each synced table has an outbox of its own, a table in the schema ``aurora_sync`` without an index. Its columns:

========================= ============================================================================================
one per column of the     the key of a row that was written, as the text that COPY prints. All NULL: TRUNCATE
key, with its name
``aurora_sync_xid``       the transaction that wrote the key
``aurora_sync_emptied``   set in one row, without a key or transaction: keys that this snapshot saw may have been
                          removed. In a row with a transaction it is :data:`TAMPERED`: that transaction removed or
                          changed other keys
========================= ============================================================================================

Triggers of the outbox itself write the rows with :data:`TAMPERED`. So the outbox shows which keys may be missing,
whoever deletes from it.

Keys are text, so that no change of a column by the application can make the trigger fail: an integer key may become a
bigint, for example (correctness.md, section 4).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.model.column import Column
from aurora_sync.model.fences import Visible
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.model.reload import RowRange
from aurora_sync.source import blockers
from aurora_sync.source.copy_out import value
from aurora_sync.source.row_range import predicate

XID = "aurora_sync_xid"
EMPTIED = "aurora_sync_emptied"
# A snapshot that saw nothing.
NOTHING = "1:1:"
# A snapshot that no target's snapshot includes.
TAMPERED = "4611686018427387903:4611686018427387903:"
# Types whose text depends on no setting of the session. For other types the trigger function pins the settings.
PLAIN = {"int2", "int4", "int8", "text", "varchar", "bpchar", "uuid", "numeric", "bool"}
# Keys removed in one transaction: it holds its locks briefly, and vacuum can run between two transactions.
BATCH = 100_000
# PostgreSQL truncates longer names.
_LONGEST_NAME = 63


def name_of(schema: str, table: str) -> str:
    """Return the name of a table's outbox and of its trigger function. A long name is cut and ends with a digest.

    >>> name_of("public", "orders")
    'public.orders'
    >>> name_of("s" * 40, "t" * 40)
    'ssssssssssssssssssssssssssssssssssssssss.ttttttttttttt.dad2f97f'
    """
    name = f"{schema}.{table}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()[:8]
    return f"{name.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}.{digest}"


def needs_settings(columns: Sequence[Column], key: Collection[str]) -> bool:
    """Return whether the text of a key of these columns depends on settings of the session that writes it."""
    return any(column.base_type not in PLAIN for column in columns if column.name in key)


def changes_statement(
    table: SourceTable,
    outbox: Outbox,
    columns: Sequence[Column],
    longest: int | None = None,
    again: RowRange | None = None,
) -> sql.Composed:
    """Build the SELECT that returns every key of the outbox once, with its row as the open snapshot sees it, or as a
    delete if there is no row, in the form of warehouse/dispositions/changes.py. Keys of rows that are read ``again``
    count as if the outbox had them.

    A row matches if its key has the value and also the text of the outbox's key. Otherwise an update from 'a' to 'A',
    which are equal as citext or by their collation, would not delete 'a'.
    """
    types = {column.name: sql.SQL(column.type_name) for column in table.columns}
    keys = {name: sql.Identifier(name) for name in outbox.key}
    read = [
        sql.SQL("coalesce(b.{0}, k.{0}::{1}) AS {0}").format(keys[c.name], types[c.name])
        if c.name in keys
        else sql.SQL("b.{}").format(sql.Identifier(c.name))
        for c in columns
    ]
    equal = sql.SQL('b.{0} = k.{0}::{1} AND concat(b.{0}) COLLATE pg_catalog."C" = k.{0}')
    same = [equal.format(key, types[name]) for name, key in keys.items()]
    # No column can be called xmin or tableoid.
    return sql.SQL(
        "SELECT {values}, xmin, CASE WHEN tableoid IS NULL THEN 'D' ELSE 'U' END, NULL, 0, {origin}"
        " FROM (SELECT {read}, coalesce(b.xmin::text::bigint, 0) AS xmin, b.tableoid"
        " FROM (SELECT DISTINCT {keys} FROM {outbox} WHERE {first} IS NOT NULL{again}) k"
        " LEFT JOIN {table} b ON {same}) changed"
    ).format(
        values=sql.SQL(", ").join(value(column, longest) for column in columns),
        origin=sql.SQL(", ").join([sql.NULL] * len(keys)),
        read=sql.SQL(", ").join(read),
        keys=sql.SQL(", ").join(keys.values()),
        outbox=sql.Identifier(*outbox.relation),
        first=keys[outbox.key[0]],
        again=sql.SQL(" UNION SELECT {} FROM {} WHERE {}").format(
            sql.SQL(", ").join(sql.SQL('concat({}) COLLATE pg_catalog."default"').format(key) for key in keys.values()),
            sql.Identifier(table.schema, table.name),
            predicate(again),
        )
        if again
        else sql.SQL(""),
        table=sql.Identifier(table.schema, table.name),
        same=sql.SQL(" AND ").join(same),
    )


def live_row_ending(outbox: Outbox) -> bytes:
    """Return the end, behind the xmin, of a line of :func:`changes_statement` for a row that exists."""
    return b",U,,0" + b"," * len(outbox.key)


def acknowledge(connection: Connection, outbox: Outbox, snapshot: str) -> int:
    """Remove the keys that the snapshot saw, which are in the warehouse, and entries that no trigger can have written
    (fences/outbox.py). Returns the number of removed keys.

    First the outbox records the snapshot, unless it has a later one of this server. By this record a target detects
    that it has not seen the removed keys. The call may be killed at any point, and repeated.
    """
    names = {
        "outbox": sql.Identifier(*outbox.relation),
        "xid": sql.Identifier(XID),
        "emptied": sql.Identifier(EMPTIED),
        "snapshot": sql.Literal(snapshot),  # not a parameter: a name may have a percent sign
        "batch": sql.Literal(BATCH),
    }
    try:
        _remember(connection, names, snapshot)
        return _take_out(connection, names)
    except psycopg2.errors.LockNotAvailable as error:
        with connection.cursor() as cursor:
            cursor.execute("ROLLBACK")
            cursor.execute("SELECT to_regclass(%s)::oid", (sql.Identifier(*outbox.relation).as_string(connection),))
            ((oid,),) = cursor.fetchall()
        held = blockers.of_relation(connection, oid, blockers.AGAINST_WRITERS)
        held = held or blockers.of_row(connection, outbox.relation, EMPTIED)
        raise blockers.blocked(error, f"outbox {'.'.join(outbox.relation)}", held) from error


_BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE"


def _remember(connection: Connection, names: dict[str, sql.Composable], snapshot: str) -> None:
    # A row with a transaction records tampering; it is removed with the keys that this snapshot saw.
    remembered = sql.SQL("{emptied} IS NOT NULL AND {xid} IS NULL").format(**names)
    names = names | {"remembered": remembered}
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN)
        # If two sessions run at once, the second waits for the row and reads what the first recorded. Only roles that
        # may write to the outbox can lock its rows. Without a row both insert one; the next run replaces both by one.
        cursor.execute(sql.SQL("SELECT {emptied}::text FROM {outbox} WHERE {remembered} FOR UPDATE").format(**names))
        found = [Visible.parse(text) for (text,) in cursor.fetchall()]
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        ((newest,),) = cursor.fetchall()
        if len(found) != 1:
            cursor.execute(sql.SQL("DELETE FROM {outbox} WHERE {remembered}").format(**names))
            cursor.execute(sql.SQL("INSERT INTO {outbox} ({emptied}) VALUES ({snapshot})").format(**names))
        # A snapshot ahead of this server's counter was recorded by another server, of which this one is a copy.
        elif found[0].xmax > newest or Visible.parse(snapshot).includes(found[0]):
            cursor.execute(sql.SQL("UPDATE {outbox} SET {emptied} = {snapshot} WHERE {remembered}").format(**names))
        cursor.execute("COMMIT")


def _take_out(connection: Connection, names: dict[str, sql.Composable]) -> int:
    taken = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(_BEGIN)
            cursor.execute(
                sql.SQL(
                    "DELETE FROM {outbox} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {outbox}"
                    " WHERE (pg_visible_in_snapshot({xid}, {snapshot}::pg_snapshot)"
                    " OR {emptied} IS NULL AND pg_visible_in_snapshot({xid}, pg_current_snapshot()) IS NOT TRUE)"
                    " LIMIT {batch}))"
                ).format(**names)
            )
            deleted = cursor.rowcount
            cursor.execute("COMMIT")
            taken += deleted
            if deleted < BATCH:
                return taken
