"""The outbox of a table: its form, the rows that it names, and how it is emptied.

One table of the schema ``aurora_sync`` for each table that is synced, without an index. Its columns:

========================= ============================================================================================
a column for each of the  the key of a row that was written, as text: what COPY prints. All NULL: TRUNCATE
key, of the same name
``aurora_sync_xid``       the transaction that wrote it
``aurora_sync_emptied``   of one row, which has nothing else: what this snapshot saw may have been taken out. With a
                          transaction, :data:`TAMPERED`: it took out, or changed, keys that are not among those
========================= ============================================================================================

Triggers of the outbox itself see to the last: whoever deletes from it, what was taken out is what it remembers.

Keys are text so that nothing which the application does to a column can make the trigger fail: an integer key that
becomes a bigint, say (correctness.md, section 4).
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
from aurora_sync.source import blockers
from aurora_sync.source.copy_out import value

XID = "aurora_sync_xid"
EMPTIED = "aurora_sync_emptied"
# What a snapshot that saw nothing looks like.
NOTHING = "1:1:"
# One that no target's snapshot includes.
TAMPERED = "4611686018427387903:4611686018427387903:"
# The output of these depends on no setting of the session; the trigger function pins the settings for others.
PLAIN = {"int2", "int4", "int8", "text", "varchar", "bpchar", "uuid", "numeric", "bool"}
# Keys taken out in one transaction: what its locks hold up is short, and vacuum may come in between.
BATCH = 100_000
# PostgreSQL cuts longer names off.
_LONGEST_NAME = 63


def name_of(schema: str, table: str) -> str:
    """Of the outbox, and of its trigger function: what it belongs to, within the length of a name.

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
    """Whether the text of a key of these columns depends on settings of the session that writes it."""
    return any(column.base_type not in PLAIN for column in columns if column.name in key)


def changes_statement(
    table: SourceTable, outbox: Outbox, columns: Sequence[Column], longest: int | None = None
) -> sql.Composed:
    """Every key of the outbox once, with its row as the open snapshot sees it, or without, in the form of
    warehouse/changes.py.

    A row is found by its key's value, and has to have its text as well: of an update from 'a' to 'A', which are one
    citext or equal by their collation, 'a' is gone.
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
        " FROM (SELECT DISTINCT {keys} FROM {outbox} WHERE {first} IS NOT NULL) k"
        " LEFT JOIN {table} b ON {same}) changed"
    ).format(
        values=sql.SQL(", ").join(value(column, longest) for column in columns),
        origin=sql.SQL(", ").join([sql.NULL] * len(keys)),
        read=sql.SQL(", ").join(read),
        keys=sql.SQL(", ").join(keys.values()),
        outbox=sql.Identifier(*outbox.relation),
        first=keys[outbox.key[0]],
        table=sql.Identifier(table.schema, table.name),
        same=sql.SQL(" AND ").join(same),
    )


def live_row_ending(outbox: Outbox) -> bytes:
    """How :func:`changes_statement`'s line of a row that is there ends, behind its xmin."""
    return b",U,,0" + b"," * len(outbox.key)


def acknowledge(connection: Connection, outbox: Outbox, snapshot: str) -> int:
    """Take out what the snapshot saw, which is in the warehouse, and what no trigger can have written
    (fences/outbox.py). Returns how many keys that were.

    First the outbox remembers the snapshot, unless it remembers a later one of this server: a target that has not seen
    what is about to be taken out will know. Safe to kill anywhere, and to call again.
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
    # What has a transaction was left by one that tampered: it goes with the keys that this snapshot saw.
    remembered = sql.SQL("{emptied} IS NOT NULL AND {xid} IS NULL").format(**names)
    names = names | {"remembered": remembered}
    with connection.cursor() as cursor:
        cursor.execute(_BEGIN)
        # Of two at once, the second waits for the row, and finds what the first remembered. Only who may write to the
        # outbox can lock a row of it. Where none is there both add one, which the next run finds and makes one of.
        cursor.execute(sql.SQL("SELECT {emptied}::text FROM {outbox} WHERE {remembered} FOR UPDATE").format(**names))
        found = [Visible.parse(text) for (text,) in cursor.fetchall()]
        cursor.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        ((newest,),) = cursor.fetchall()
        if len(found) != 1:
            cursor.execute(sql.SQL("DELETE FROM {outbox} WHERE {remembered}").format(**names))
            cursor.execute(sql.SQL("INSERT INTO {outbox} ({emptied}) VALUES ({snapshot})").format(**names))
        # One that is ahead of this server was remembered by another, of which this one is a copy.
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
