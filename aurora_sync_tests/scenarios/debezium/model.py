"""A model of Debezium's PostgreSQL connector for one table, fast enough for hundreds of trials.

test_model.py compares its messages with the real engine's. Like the engine, the model learns the columns from
pgoutput's Relation messages, looks up the current primary key in the catalogue at each of them, and sends a TRUNCATE as
an event without a row (``skipped.operations=none``, as `cdc connector` prints it). A table that once had the name keeps
it in the engine's memory: until the connector is restarted, its changes are sent under that name.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Producer

from aurora_sync.config.connector import PLACEHOLDER
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import pgoutput, slot
from aurora_sync.source.logical.pgoutput import NEW, OLD, UNCHANGED, Begin, Relation, Value
from aurora_sync_tests.scenarios.world import World

Row = dict[str, Any]
_QUIET = {"log_level": 0}  # else librdkafka reports on stderr every broker that starts or stops
_NUMBERS = {20, 21, 23, 26}  # oids of types: int8, int2, int4, oid
_TIMESTAMPTZ = 1184
_PRIMARY_KEY = """
SELECT a.attname FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place), pg_attribute a
 WHERE i.indrelid = to_regclass({}) AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.attnum
 ORDER BY k.place
"""


@contextmanager
def cluster() -> Iterator[str]:
    """Return the address of a mock broker of librdkafka, which lives as long as its producer."""
    producer = Producer({"test.mock.num.brokers": 1, **_QUIET})
    (broker,) = producer.list_topics(timeout=60).brokers.values()
    yield f"{broker.host}:{broker.port}"
    producer.flush()


@dataclass(frozen=True)
class Message:
    key: Row | None
    value: Row | None  # None: a tombstone
    headers: dict[str, Row] = field(default_factory=dict)


@dataclass
class ModelConnector:
    """A connector. ``name`` is the name of the slot and the prefix of the topics."""

    world: World
    servers: str
    name: str
    publication: str
    table: str = "t"

    def __post_init__(self) -> None:
        self.sent: list[Message] = []
        self._producer = Producer({"bootstrap.servers": self.servers, "linger.ms": 0, **_QUIET})
        self._committed: int | None = None  # LSN of the last commit, as stored in the offsets
        self.known: dict[bytes, tuple[Relation, list[str]]] = {}  # by oid: columns, and key columns

    def send(self, *, remember: bool = True) -> None:
        """Send every change that is committed now. Without ``remember`` the connector is killed before its offsets are
        stored, so the next call sends the changes again. Sends nothing while there is no slot."""
        with connect(self.world.dsn) as connection:
            if slot.look(connection, self.name) is None:
                return
            target, _ = slot.mark(connection)
            before, sender = self._committed, _Session(self, self._committed)
            reached = sender.read(target)
            for message in sender.messages:
                self._produce(message)
            assert not self._producer.flush(60)
            self._committed = sender.committed if remember else before
            if remember:
                slot.advance(connection, self.name, reached)
            else:
                self.known.clear()

    def start_anew(self) -> None:
        """Start with a new slot, if there is none, and without offsets; no copy is made (``snapshot.mode=no_data``)."""
        with connect(self.world.dsn) as connection:
            there = slot.look(connection, self.name)
        if there is None:
            slot.create(self.world.dsn, self.name, timeout="30s")
        self._committed = None
        self.known.clear()

    def _produce(self, message: Message) -> None:
        self.sent.append(message)
        key, value = (None if part is None else json.dumps(part).encode() for part in (message.key, message.value))
        headers: list[tuple[str, str | bytes | None]] = [
            (name, json.dumps(row).encode()) for name, row in message.headers.items()
        ]
        self._producer.produce(f"{self.name}.public.{self.table}", value, key, partition=0, headers=headers)


class _Session:
    """One read by the connector, from the position that its slot has confirmed."""

    def __init__(self, connector: ModelConnector, committed: int | None) -> None:
        self.messages: list[Message] = []
        self.committed = committed
        self._connector = connector
        self._began = Begin(0, 0, 0)

    def read(self, target: int) -> int:
        """Read every transaction that ended by ``target``. Returns the position that the slot may be advanced to."""
        connector, reached, inside = self._connector, 0, False
        with slot._replication(connector.world.dsn, connector.name, connector.publication) as cursor:
            while True:
                message = cursor.read_message()
                if message is None:
                    if not inside and cursor.wal_end >= target:
                        return max(reached, target)
                    slot._wait(cursor)
                    continue
                data = message.payload
                kind = data[0]
                if kind == pgoutput.BEGIN:
                    self._began, inside = pgoutput.begin(data), True
                elif kind == pgoutput.COMMIT:
                    reached, inside = pgoutput.commit(data).end_lsn, False
                    self.committed = message.data_start
                    if reached >= target:
                        return reached
                elif kind == pgoutput.RELATION:
                    self._relation(data)
                else:
                    self._change(data, message.data_start)

    def _relation(self, data: bytes) -> None:
        schema, name, _ = data[5:].split(b"\0", 2)
        if (schema.decode(), name.decode()) != ("public", self._connector.table):
            return
        relation = pgoutput.relation(data)
        sent = {attribute.name for attribute in relation.attributes}
        found = self._connector.world.execute(_PRIMARY_KEY.format(f"'public.{self._connector.table}'"))
        self._connector.known[data[1:5]] = relation, [column for (column,) in found if column in sent]

    def _change(self, data: bytes, lsn: int) -> None:
        kind = data[0]
        if kind == pgoutput.TRUNCATE:
            self.messages += [
                Message(None, self._event("t", lsn, None, None))
                for oid in pgoutput.truncate(data)
                if oid in self._connector.known
            ]
            return
        known = self._connector.known.get(data[1:5])
        if known is None or kind not in (pgoutput.INSERT, pgoutput.UPDATE, pgoutput.DELETE):
            return
        relation, keys = known
        first, at = pgoutput.row(data, 6)
        if len(first) != len(relation.attributes):
            # The table's columns changed under another name. The real connector fails here until somebody makes it skip
            # the change; the scan that follows a rename reads what it did not send.
            del self._connector.known[data[1:5]]
            return
        if kind == pgoutput.INSERT:
            after = _row(relation, first)
            self.messages.append(Message(_key(after, keys), self._event("c", lsn, None, after)))
        elif kind == pgoutput.DELETE:
            before = _row(relation, first)
            self._delete(_key(before, keys), self._event("d", lsn, before, None))
        elif data[5] == NEW:
            after = _row(relation, first)
            self.messages.append(Message(_key(after, keys), self._event("u", lsn, None, after)))
        else:
            self._update(relation, keys, lsn, (data[5] == OLD, first, pgoutput.row(data, at + 1)[0]))

    def _update(
        self, relation: Relation, keys: list[str], lsn: int, rows: tuple[bool, list[Value], list[Value]]
    ) -> None:
        """Return the events of an update. The old row, ``whole`` under REPLICA IDENTITY FULL, came with the new one."""
        whole, first, second = rows
        before, after = _row(relation, first), _row(relation, second)
        old, new = _key(before, keys), _key(after, keys)
        if old == new:
            event = self._event("u", lsn, before if whole else None, after)
            self.messages.append(Message(new, event))
            return
        assert old
        assert new
        self._delete(old, self._event("d", lsn, before, None), {"__debezium.newkey": new})
        self.messages.append(Message(new, self._event("c", lsn, None, after), {"__debezium.oldkey": old}))

    def _delete(self, key: Row | None, event: Row, headers: dict[str, Row] | None = None) -> None:
        self.messages.append(Message(key, event, headers or {}))
        if key:
            self.messages.append(Message(key, None, headers or {}))

    def _event(self, operation: str, lsn: int, before: Row | None, after: Row | None) -> Row:
        committed = self._began.committed_at
        micros = int(committed.timestamp()) * 1_000_000 + committed.microsecond
        source = {
            "version": "3.6.3.Final",
            "connector": "postgresql",
            "name": self._connector.name,
            "ts_ms": micros // 1000,
            "snapshot": None,
            "sequence": json.dumps([None if self.committed is None else str(self.committed), str(lsn)]),
            "ts_us": micros,
            "schema": "public",
            "table": self._connector.table,
            "txId": self._began.xid,
            "lsn": lsn,
        }
        return {"before": before, "after": after, "source": source, "op": operation, "ts_ms": int(time.time() * 1000)}


def _row(relation: Relation, values: list[Value]) -> Row:
    return {
        attribute.name: _value(attribute.type_oid, value)
        for attribute, value in zip(relation.attributes, values, strict=True)
    }


def _value(type_oid: int, value: Value) -> Any:
    """Return a value as the recommended converters write it. A type that is not listed is a text or an enum."""
    if value is None:
        return None
    if value is UNCHANGED:
        return PLACEHOLDER
    assert isinstance(value, bytes)
    text = value.decode()
    if type_oid in _NUMBERS:
        return int(text)
    if type_oid == _TIMESTAMPTZ:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    if text.startswith("("):  # a composite type, which Debezium does not support
        return base64.b64encode(value).decode()
    return text


def _key(row: Row, columns: list[str]) -> Row | None:
    """Return the key of a message; none for a table without a primary key."""
    return {name: row[name] for name in columns} or None
