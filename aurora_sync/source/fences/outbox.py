"""Fence of strategies/outbox.py: what the snapshot sees, and what was removed from the table's outbox."""

from __future__ import annotations

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from aurora_sync.errors import DefectError
from aurora_sync.model.fences import OutboxFence, OutboxRequest
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.model.watermark import Token
from aurora_sync.source.fences.base import FenceReader
from aurora_sync.source.outbox import EMPTIED, XID


class OutboxReader(FenceReader[OutboxRequest]):
    def before(self, cursor: Cursor) -> None:
        """Do nothing: triggers write the keys in the transactions that write the rows."""

    def inside(self, cursor: Cursor, token: Token) -> OutboxFence:
        outbox = self.table.outbox
        if outbox is None:
            raise DefectError("the table has no outbox", where=self.table.qualified_name)
        cursor.execute("SELECT pg_current_snapshot()::text")
        ((snapshot,),) = cursor.fetchall()
        return OutboxFence(snapshot, _emptied(cursor, outbox), forged=_is_forged(cursor, self.table, outbox))


def _emptied(cursor: Cursor, outbox: Outbox) -> str | None:
    """Return the snapshot whose keys may have been removed, as the caller sees it; None if the outbox lacks it."""
    cursor.execute(
        sql.SQL("SELECT {0}::text, {1} IS NULL FROM {2} WHERE {0} IS NOT NULL").format(
            sql.Identifier(EMPTIED), sql.Identifier(XID), sql.Identifier(*outbox.relation)
        )
    )
    found = cursor.fetchall()
    return found[0][0] if len(found) == 1 and found[0][1] else None


def _is_forged(cursor: Cursor, table: SourceTable, outbox: Outbox) -> bool:
    """Return whether the caller's snapshot sees an entry that the triggers cannot have written: its key is not the text
    of a value of the key's type, or this snapshot does not see its transaction. Call in a transaction.

    Such an entry could not be read, or would count as a delete by mistake. An example is 07 in an integer key: row 7
    exists, but its text differs.
    """
    types = {column.name: sql.SQL(column.type_name) for column in table.columns}
    keys = [(sql.Identifier(name), types[name]) for name in outbox.key]
    equal = sql.SQL('concat(o.{0}::{1}) COLLATE pg_catalog."C" = o.{0}')
    query = sql.SQL(
        "SELECT EXISTS (SELECT FROM {outbox} o WHERE {emptied} IS NULL AND NOT coalesce("
        "pg_visible_in_snapshot({xid}, pg_current_snapshot()) AND (({truncated}) OR ({same})), false))"
    ).format(
        outbox=sql.Identifier(*outbox.relation),
        emptied=sql.Identifier(EMPTIED),
        xid=sql.Identifier(XID),
        truncated=sql.SQL(" AND ").join(sql.SQL("o.{} IS NULL").format(key) for key, _ in keys),
        same=sql.SQL(" AND ").join(equal.format(key, type_) for key, type_ in keys),
    )
    cursor.execute("SAVEPOINT entries")
    try:
        cursor.execute(query)
        ((found,),) = cursor.fetchall()
    except (psycopg2.DataError, psycopg2.IntegrityError, psycopg2.ProgrammingError):  # not a value of the key's type
        cursor.execute("ROLLBACK TO SAVEPOINT entries")
        found = True
    cursor.execute("RELEASE SAVEPOINT entries")
    return bool(found)
