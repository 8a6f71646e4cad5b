"""Decodes change events of Debezium's PostgreSQL connector (2.x and 3.x) from Kafka messages in JSON.

============================ ============ ==========================================================================
message                      operation    fields of the event
============================ ============ ==========================================================================
op c                         INSERT       after; ``former``, if it is the second half of a change of the key
op u                         UPDATE       after, where values may be UNCHANGED; before, under REPLICA IDENTITY FULL
op d                         DELETE       before, at least its key; ``successor``, if the key changed
op r                         READ         after: a row of Debezium's own scan. A change with a larger lsn replaces it
op t                         TRUNCATE     none. Sent only with ``skipped.operations=none``
tombstone, op m, heartbeat,  IGNORED      none
BEGIN and END
============================ ============ ==========================================================================

An UPDATE that changes the key is sent as DELETE (header ``__debezium.newkey``), tombstone, and INSERT (header
``__debezium.oldkey``), possibly in two partitions. The INSERT lacks values that are stored out of line (TOAST) and did
not change.

A message may have a schema (``schemas.enable``). Events that ExtractNewRecordState flattened are accepted only with
``Modes.flattened``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.model.column import Column
from aurora_sync.source.debezium.modes import Modes
from aurora_sync.source.debezium.sent_column import Field
from aurora_sync.source.debezium.values import Values
from aurora_sync.source.logical import pgoutput
from aurora_sync.source.logical.pgoutput import UNCHANGED, Value

Row = pgoutput.Values
Headers = Iterable[tuple[str, bytes | None]]

_OLD_KEY, _NEW_KEY = "__debezium.oldkey", "__debezium.newkey"
_PREFIX = "__"  # add.fields.prefix of ExtractNewRecordState
_OPERATIONS = {"c", "u", "d", "r", "t"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Operation(Enum):
    INSERT = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"
    IGNORED = ""


@dataclass(frozen=True)
class Event:
    """A decoded message. Rows have the order of the decoder's columns, keys the order of its key."""

    operation: Operation
    schema: str = ""
    table: str = ""
    before: Row | None = None  # UNCHANGED for columns that the event lacks
    after: Row | None = None
    former: Row | None = None  # the key that the row had before
    successor: Row | None = None  # the key that the row has from now on
    lsn: int | None = None  # LSN of the change; it orders the changes of one key. None: a row of a scan
    xid: int | None = None
    sequence: tuple[int | None, int | None] = (None, None)  # LSN of the previous commit, LSN of the change
    committed_at: datetime | None = None
    snapshot: bool = False  # a row of Debezium's own scan

    @property
    def place(self) -> tuple[int, int]:
        """Position of the change, which grows in the order in which the connector sends the changes of the database.
        Flattened events may lack the sequence; their LSN grows for each key only."""
        commit, change = self.sequence
        return commit or 0, change or self.lsn or 0


class Decoder:
    """Decodes the messages of one table."""

    def __init__(self, schema: str, table: str, columns: Sequence[Column], key: Sequence[str], modes: Modes) -> None:
        """``columns`` are the columns to read; ``key`` names the columns that identify a row."""
        self._schema, self._table = schema, table
        self._where = f"{schema}.{table}"
        self._modes = modes
        self._names = [column.name for column in columns]
        self._values = [Values(self._where, column, modes) for column in columns]
        self._key = [self._names.index(name) for name in key]
        self._defaulted = [column.name for column in columns if column.default is not None and not column.not_null]

    def decode(self, key: bytes | None, value: bytes | None, headers: Headers = ()) -> Event:
        """Decode one message.

        Raises ConfigError if an option of the connector must change for the event to be exact, and SourceError if the
        message is not one of Debezium's for this table.
        """
        payload, schema = self._unpacked(value)
        if payload is None or _is_ignored(payload):
            return Event(Operation.IGNORED)
        if isinstance(payload.get("source"), dict) and "op" in payload:
            source, before, after = payload["source"], payload.get("before"), payload.get("after")
            op, flat = payload["op"], False
        else:
            source, op = self._flattened(payload)
            flat = True
            before, after = (payload, None) if op == "d" else (None, payload)
        if op == "m":
            return Event(Operation.IGNORED)
        operation = self._operation(op)
        if source.get("connector", "postgresql") != "postgresql":
            raise self._foreign(f"an event of Debezium's connector for {source['connector']}")
        of = (source.get("schema", self._schema), source.get("table"))
        if of != (self._schema, self._table):
            raise self._foreign(f"an event of table {of[0]}.{of[1]}")
        if operation in (Operation.INSERT, Operation.UPDATE):
            self._check_nulls(source)
        names = dict(headers)
        row_schemas = {name: schema if flat else _by_name(schema).get(name, {}) for name in ("before", "after")}
        former = self._header_key(names, _OLD_KEY) if op == "c" else None
        successor = self._header_key(names, _NEW_KEY) if op == "d" else None
        return Event(
            operation,
            *of,
            before=self._before(before, key, row_schemas["before"], operation),
            after=self._after(after, row_schemas["after"], operation, moved=former is not None),
            former=former,
            successor=successor,
            lsn=self._lsn(source, operation),
            xid=source.get("txId"),
            sequence=_sequence(source.get("sequence")),
            committed_at=_time(source),
            snapshot=operation is Operation.READ or str(source.get("snapshot", "false")) not in ("false", "None"),
        )

    def deletes(self, value: bytes | None) -> bool:
        """Return whether a message is a DELETE, without reading its values."""
        payload, _ = self._unpacked(value)
        return payload is not None and payload.get("op", payload.get(f"{_PREFIX}op")) == Operation.DELETE.value

    def _unpacked(self, document: bytes | None) -> tuple[dict[str, Any] | None, Field]:
        """Return the payload of a message, and its schema, empty if it has none."""
        if document is None:
            return None, {}
        try:
            parsed = json.loads(document)
        except ValueError:
            raise SourceError(
                f"a message of {len(document):,} bytes is not JSON",
                where=self._where,
                hint="set key.converter and value.converter to org.apache.kafka.connect.json.JsonConverter",
                values=repr(document[:60]),
            ) from None
        schema: Field = {}
        if isinstance(parsed, dict) and parsed.keys() == {"schema", "payload"}:
            parsed, schema = parsed["payload"], parsed["schema"] or {}
        if parsed is not None and not isinstance(parsed, dict):
            raise self._foreign("a message that is not a record", repr(document[:60]))
        return parsed, schema

    def _operation(self, op: object) -> Operation:
        if op not in _OPERATIONS:
            raise self._foreign("an event with an unknown operation", repr(op))
        return Operation(op)

    def _flattened(self, payload: Mapping[str, Any]) -> tuple[dict[str, Any], object]:
        """Return the metadata of a flattened event, by the names of an envelope's source, and its operation."""
        if f"{_PREFIX}op" not in payload:
            raise SourceError(
                f"found a message that is not a change event, with the fields {', '.join(list(payload)[:20])}",
                where=self._where,
                hint="remove the transforms from the connector (ExtractNewRecordState, or with"
                " add.fields=op,source.schema,source.table,source.lsn,source.txId,source.sequence,source.ts_us)",
            )
        if not self._modes.flattened:
            raise ConfigError(
                "events are flattened by ExtractNewRecordState, which drops every TRUNCATE",
                where=self._where,
                hint="remove the transform from the connector, or set flattened: true if the table is never truncated",
            )
        names = ("schema", "table", "lsn", "txId", "sequence", "snapshot", "ts_us", "ts_ms")
        found = {name: payload.get(f"{_PREFIX}source_{name}", payload.get(f"{_PREFIX}{name}")) for name in names}
        # ts_ms and ts_us without source are the connector's own clock
        found |= {name: payload.get(f"{_PREFIX}source_{name}") for name in ("ts_us", "ts_ms")}
        if f"{_PREFIX}deleted" not in payload or found["table"] is None or found["lsn"] is None:
            raise ConfigError(
                "flattened events lack __deleted, __op, __table or __lsn",
                where=self._where,
                hint="set delete.tombstone.handling.mode=rewrite and add.fields=op,source.schema,source.table,"
                "source.lsn,source.txId,source.sequence,source.ts_us on the transform, or remove the transform",
            )
        known = {name: value for name, value in found.items() if value is not None}
        if any(payload.get(name, "") is None for name in (f"{_PREFIX}source_snapshot", f"{_PREFIX}snapshot")):
            known["snapshot"] = None
        return known, payload[f"{_PREFIX}op"]

    def _check_nulls(self, source: Mapping[str, Any]) -> None:
        """Raise ConfigError if a NULL may be sent as the default of its column. ``source.snapshot`` shows this: its
        default is ``false``, and a change leaves it NULL."""
        if not self._defaulted or source.get("snapshot", "false") is None:
            return
        raise ConfigError(
            "the event may have the default value of this column in place of NULL",
            where=f"{self._where}.{self._defaulted[0]}",
            hint="set value.converter.replace.null.with.default=false on the connector"
            + (", and add source.snapshot to add.fields" if self._modes.flattened else "")
            + "; then read the whole table with `aurora-sync sync --full`",
        )

    def _after(self, row: Mapping[str, Any] | None, schema: Field, operation: Operation, *, moved: bool) -> Row | None:
        if operation in (Operation.DELETE, Operation.TRUNCATE):
            return None
        if row is None:
            raise self._foreign(f"an event of operation {operation.name} without a row")
        updated = operation is Operation.UPDATE or moved
        return self._read(row, range(len(self._names)), schema, updated=updated)

    def _before(
        self, row: Mapping[str, Any] | None, key: bytes | None, schema: Field, operation: Operation
    ) -> Row | None:
        """Read the old row. Without REPLICA IDENTITY FULL only its key counts: other columns have 0 or NULL instead."""
        if operation not in (Operation.UPDATE, Operation.DELETE):
            return None
        if self._modes.full_before:
            if row is None:
                raise ConfigError(
                    "the event has no old row, although the table has REPLICA IDENTITY FULL",
                    where=self._where,
                    hint="the event is older than REPLICA IDENTITY FULL; scan the table with `aurora-sync reconcile`",
                )
            return self._read(row, range(len(self._names)), schema)
        if row is None and operation is Operation.UPDATE:
            return None
        if not self._key:
            raise ConfigError(
                "the table has no key, and its events need not contain whole rows: an event does not identify its row",
                where=self._where,
                hint="ALTER TABLE ... REPLICA IDENTITY FULL",
            )
        if row is None:
            row, schema = self._unpacked(key)
        known = self._key_of(row or {}, schema)
        before: list[Value] = [UNCHANGED] * len(self._names)
        for place, value in zip(self._key, known, strict=True):
            before[place] = value
        return tuple(before)

    def _header_key(self, headers: Mapping[str, bytes | None], name: str) -> Row | None:
        if name not in headers:
            return None
        try:
            row, schema = self._unpacked(headers[name])
        except SourceError as error:
            raise ConfigError(
                f"the header {name} is not JSON",
                where=self._where,
                hint="set header.converter=org.apache.kafka.connect.json.JsonConverter",
            ) from error
        return self._key_of(row or {}, schema)

    def _key_of(self, row: Mapping[str, Any], schema: Field) -> Row:
        key = self._read(row, self._key, schema)
        if None in key:
            names = ", ".join([self._names[place] for place in self._key])
            raise ConfigError(
                f"an event lacks the key of the row that it changes: {names}",
                where=self._where,
                hint="ALTER TABLE ... REPLICA IDENTITY FULL, or set primary_key in tables.yaml to the replica identity;"
                " then `aurora-sync reconcile` scans the table and skips the event",
            )
        return key

    def _read(self, row: Mapping[str, Any], places: Iterable[int], schema: Field, *, updated: bool = False) -> Row:
        fields, values = _by_name(schema), list[Value]()
        for place in places:
            name = self._names[place]
            if name not in row:
                raise ConfigError(
                    "the event does not have this column",
                    where=f"{self._where}.{name}",
                    hint="set include.unknown.datatypes=true; see column.include.list and field.name.adjustment.mode;"
                    " if the event is older than the column, `aurora-sync reconcile` scans the table",
                )
            values.append(self._values[place].read(row[name], fields.get(name, {}), updated=updated))
        return tuple(values)

    def _lsn(self, source: Mapping[str, Any], operation: Operation) -> int | None:
        lsn = source.get("lsn")
        if lsn is None and operation is not Operation.READ:
            raise self._foreign("a change without source.lsn")
        return None if lsn is None else int(lsn)

    def _foreign(self, what: str, values: str = "") -> SourceError:
        return SourceError(
            f"found {what}",
            where=self._where,
            hint="use a topic for this table alone, without transforms; for a partitioned table the publication needs"
            " publish_via_partition_root = true",
            kind=Kind.REFUSED,
            values=values,
        )


def _by_name(schema: Field) -> dict[str, Field]:
    """Return the fields of a struct's schema by name; none if there is no schema."""
    return {field["field"]: field for field in schema.get("fields", ())}


def _is_ignored(payload: Mapping[str, Any]) -> bool:
    """Return whether a payload is a heartbeat, or a BEGIN or END of provide.transaction.metadata."""
    keys = payload.keys()
    transaction = {"status", "id", "event_count", "data_collections", "ts_ms"}
    return "ts_ms" in keys and (keys <= {"ts_ms", "ts_us", "ts_ns"} or (keys == transaction and _ends(payload)))


def _ends(payload: Mapping[str, Any]) -> bool:
    return payload["status"] in ("BEGIN", "END")


def _sequence(text: object) -> tuple[int | None, int | None]:
    if not isinstance(text, str):
        return None, None
    commit, change = json.loads(text)
    return (None if commit is None else int(commit)), (None if change is None else int(change))


def _time(source: Mapping[str, Any]) -> datetime | None:
    for name, micros in (("ts_us", 1), ("ts_ms", 1000)):
        if (found := source.get(name)) is not None:
            return _EPOCH + timedelta(microseconds=int(found) * micros)
    return None
