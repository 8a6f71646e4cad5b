"""Looks up a logical replication slot, drains it, and confirms what the target has applied.

Reading does not consume changes. Only :func:`advance` lets the server discard them, and it is called last
(correctness.md, section 8.1: changes that get_changes consumes are lost if the run fails).
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import DefectError, SourceError
from aurora_sync.model.receipt import Slot
from aurora_sync.source.connection import connect, connect_for_replication, write
from aurora_sync.source.decoding import UNDECODABLE, said
from aurora_sync.source.logical import pgoutput

# Long enough for a run that does not read while it uploads to a slow bucket; short enough to free a dead run's slot.
_SENDER_TIMEOUT = "10min"
# Time without a message after which the server is asked for its position.
_PATIENCE_SECONDS = 1.0
_RELEASE_SECONDS = 5.0
# Bytes of the stream between two calls of on_bytes.
_EVERY_BYTES = 4_000_000

_SLOT = """
SELECT plugin, active_pid, coalesce(confirmed_flush_lsn, '0/0') - '0/0'::pg_lsn, coalesce(wal_status, 'lost'),
       coalesce(pg_current_wal_lsn() - restart_lsn, 0), pg_current_wal_lsn() - confirmed_flush_lsn, safe_wal_size,
       database = current_database()
  FROM pg_replication_slots WHERE slot_name = %s
"""
_MARK = "SELECT pg_logical_emit_message(true, 'aurora_sync', '') - '0/0'::pg_lsn"
_IN_PROGRESS = "SELECT pg_snapshot_xip(pg_current_snapshot())::text::bigint % 4294967296"


def look(connection: Connection, name: str) -> Slot | None:
    """Return the slot, or None if there is none. Raises SourceError if it is of another plugin or database."""
    with connection.cursor() as cursor:
        cursor.execute(_SLOT, (name,))
        found = cursor.fetchone()
    if found is None:
        return None
    plugin, pid, confirmed, wal_status, retained, lag, safe, ours = found
    if plugin != "pgoutput" or not ours:
        raise SourceError(
            f"replication slot {name} belongs to " + (f"plugin {plugin}" if ours else "another database"),
            where=name,
            hint="choose another name for slot: in tables.yaml",
        )
    return Slot(name, pid, int(confirmed), wal_status, int(retained), int(lag or 0), safe and int(safe))


def mark(connection: Connection) -> tuple[int, frozenset[int]]:
    """Write a message to the log. Return its LSN, and the transactions (32-bit ids) that are in progress afterwards.

    The LSN is flushed, and comes after every commit that any session sees by now. Some of the transactions may be
    committed in the log already, without being visible to any session.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL synchronous_commit TO local; {_MARK}")
        (target,) = cursor.fetchall()[0]
    return int(target), in_progress(connection)


def in_progress(connection: Connection) -> frozenset[int]:
    with connection.cursor() as cursor:
        cursor.execute(_IN_PROGRESS)
        return frozenset(int(xid) for (xid,) in cursor.fetchall())


def create(dsn: str, name: str, *, timeout: str) -> None:
    """Create a slot. The server waits for all transactions that run now, up to ``timeout``, such as ``60s``."""
    with connect(dsn) as connection, connection.cursor() as cursor:
        create = sql.SQL("SELECT pg_create_logical_replication_slot({}, 'pgoutput')").format(sql.Literal(name))
        write(cursor, create, statement_timeout=timeout)


def drop(connection: Connection, name: str) -> None:
    with connection.cursor() as cursor:
        _once_free(lambda: cursor.execute("SELECT pg_drop_replication_slot(%s)", (name,)))


def advance(connection: Connection, name: str, lsn: int) -> None:
    """Confirm that everything that ended at ``lsn`` or before is durable at the target. After a crash the server may
    have lost the confirmation. It then sends changes again, which the reader has to skip."""
    with connection.cursor() as cursor:
        # Servers before PostgreSQL 14 cannot add a number to a pg_lsn.
        position = f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
        _once_free(lambda: cursor.execute("SELECT pg_replication_slot_advance(%s, %s)", (name, position)))


class Feed(Protocol):
    """Receiver of one table's changes."""

    def begins(self, began: pgoutput.Begin) -> bool:
        """Return whether a transaction's changes are needed: the target does not have them yet."""
        ...

    def needs_new_session(self, began: pgoutput.Begin) -> bool:
        """Return whether the server must decode a transaction without what its session knows of partitions. Called
        before :meth:`begins`."""
        ...

    def relation(self, relation: pgoutput.Relation) -> None: ...

    def insert(self, data: bytes) -> None: ...

    def update(self, data: bytes) -> None: ...

    def delete(self, data: bytes) -> None: ...

    def truncate(self) -> None: ...


@dataclass(frozen=True)
class Drained:
    """Result of :func:`drain`.

    ``reached``: LSN up to which every transaction that ended has been read. ``commits``: LSN of the start of the commit
    record, for each transaction in ``among`` that was read. ``oldest``: time of the first commit that a feed needed.
    """

    reached: int
    commits: dict[int, int]
    oldest: datetime | None
    transactions: int
    messages: int


def drain(  # noqa: C901 -- a hot loop: it runs once for each message
    dsn: str,
    slot: str,
    publication: str,
    target: int,
    feeds: Mapping[int, Feed],
    *,
    among: frozenset[int] = frozenset(),
    on_bytes: Callable[[], object] = lambda: None,
) -> Drained:
    """Pass every change that is committed by ``target`` to the feed of its table, in whole transactions.

    ``feeds`` are by the table's oid. ``among`` are transactions whose commits are to be reported. ``on_bytes`` is
    called after every few megabytes of the stream. Raises SourceError; transient while another reader has the slot.
    """
    by_oid = {oid.to_bytes(4, "big"): feed for oid, feed in feeds.items()}
    wanted: dict[bytes, Feed] = {}
    reached, inside, transactions, number, size = 0, False, 0, 0, 0
    commits: dict[int, int] = {}
    oldest: datetime | None = None
    begin, insert, update, delete = pgoutput.BEGIN, pgoutput.INSERT, pgoutput.UPDATE, pgoutput.DELETE
    with ExitStack() as session:
        cursor, is_new = session.enter_context(_replication(dsn, slot, publication)), True
        while True:
            try:
                message = cursor.read_message()
            except UNDECODABLE as error:
                raise SourceError(
                    f"a change in the log that the slot reads cannot be sent as UTF-8: {said(error)}",
                    where=slot,
                    hint="correct the value, or exclude its column; then drop and create the slot, because the log has"
                    " the old value (`aurora-sync cdc teardown`, `cdc setup`); the next sync scans the tables",
                ) from error
            if message is None:
                if not inside and cursor.wal_end >= target:  # everything up to target was sent
                    break
                _wait(cursor)
                continue
            data = message.payload
            number += 1
            kind = data[0]
            if kind == insert:
                if feed := wanted.get(data[1:5]):
                    feed.insert(data)
            elif kind == update:
                if feed := wanted.get(data[1:5]):
                    feed.update(data)
            elif kind == delete:
                if feed := wanted.get(data[1:5]):
                    feed.delete(data)
            elif kind == begin:
                started = pgoutput.begin(data)
                if [feed for feed in feeds.values() if feed.needs_new_session(started)] and not is_new:
                    session.close()
                    again = _replication(dsn, slot, publication, started.commit_lsn)
                    cursor, is_new = session.enter_context(again), True
                    continue
                is_new = False
                wanted = {oid: feed for oid, feed in by_oid.items() if feed.begins(started)}
                inside = True
                if wanted and oldest is None:
                    oldest = started.committed_at
                if started.xid in among:
                    commits[started.xid] = started.commit_lsn
            elif kind == pgoutput.COMMIT:
                reached, inside = pgoutput.commit(data).end_lsn, False
                transactions += 1
                if reached >= target:
                    break
            elif kind == pgoutput.RELATION:
                relation = pgoutput.relation(data)
                if feed := by_oid.get(relation.oid.to_bytes(4, "big")):
                    feed.relation(relation)
            elif kind == pgoutput.TRUNCATE:
                for oid in pgoutput.truncate(data):
                    if feed := wanted.get(oid):
                        feed.truncate()
            elif kind not in pgoutput.IGNORED:
                raise DefectError(f"a message of kind {chr(kind)!r} in a stream of protocol version 1", where=slot)
            size += len(data)
            if size > _EVERY_BYTES:
                size = 0
                on_bytes()
    return Drained(max(reached, target), commits, oldest, transactions, number)


@contextmanager
def _replication(dsn: str, slot: str, publication: str, start: int = 0) -> Iterator[Any]:
    """Open a cursor that streams the slot from its confirmed position, or from a commit at or after LSN ``start`` if
    that is later."""
    with connect_for_replication(dsn, application_name=f"aurora_sync {slot}") as connection:
        cursor: Any = connection.cursor()
        cursor.execute(f"SET wal_sender_timeout TO '{_SENDER_TIMEOUT}'")
        if connection.info.parameter_status("server_encoding") == "SQL_ASCII":
            # Otherwise a value of any table that is not UTF-8 ends the stream (engine/runners/member.py reports it).
            cursor.execute("SET client_encoding TO SQL_ASCII")
        options = {"proto_version": "1", "publication_names": _quoted(publication)}
        _once_free(lambda: cursor.start_replication(slot_name=slot, start_lsn=start, options=options, decode=False))
        yield cursor


def _once_free(use: Callable[[], object]) -> None:
    """Call ``use``, and retry while the slot is in use: the server notices a closed connection a moment later."""
    deadline = time.monotonic() + _RELEASE_SECONDS
    while True:
        try:
            use()
            return
        except psycopg2.errors.ObjectInUse:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _wait(cursor: Any) -> None:
    if not select.select([cursor], [], [], _PATIENCE_SECONDS)[0]:
        cursor.send_feedback(reply=True, force=True)  # asks for a reply, and confirms nothing


def _quoted(publication: str) -> str:
    return '"' + publication.replace('"', '""') + '"'
