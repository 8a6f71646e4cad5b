"""Decoder on events that the real engine sent (debezium_events.json), and on messages that are not events."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.errors import AuroraSyncError, ConfigError, SourceError
from aurora_sync.model.column import Column
from aurora_sync.source.debezium.events import Decoder, Event, Operation
from aurora_sync.source.debezium.feed import TopicFeed
from aurora_sync.source.debezium.modes import Modes
from aurora_sync.source.debezium.topic import Message
from aurora_sync.source.logical.pgoutput import UNCHANGED

SAMPLES = json.loads(Path(__file__).with_name("debezium_events.json").read_text(encoding="utf-8"))["samples"]
MODES = Modes(time="adaptive", pinned_session=True, plain_arrays=True, conversion_fails=True, infinite_intervals=False)


def column(name: str, type_: str, modifier: int = -1, category: str = "S") -> Column:
    return Column(name, 1, type_, type_, modifier, "A" if type_.startswith("_") else category)


# The columns of the sample's table shop.orders, without those that are refused: tmtz, tzs.
TEXTS = {
    "id": ("int8", "2"),
    "name": ("text", "ins"),
    "vc": ("varchar", "vc"),
    "amt": ("numeric", "1234.5678"),
    "anynum": ("numeric", "100000000000000000000"),
    "si": ("int2", "7"),
    "i": ("int4", "8"),
    "f4": ("float4", "1.5"),
    "f8": ("float8", "2.5"),
    "b": ("bool", "t"),
    "u": ("uuid", "11111111-2222-3333-4444-555555555555"),
    "j": ("json", '{"a":1}'),
    "jb": ("jsonb", '{"b": [1, 2]}'),
    "by": ("bytea", "\\xdeadbeef"),
    "d": ("date", "2024-02-29"),
    "tm": ("time", "12:34:56.123456"),
    "ts": ("timestamp", "2024-02-29 12:34:56.123456"),
    "ts3": ("timestamp", "2024-02-29 12:34:56.123"),
    "tz": ("timestamptz", "2024-02-29 10:34:56.123456+00"),
    "iv": ("interval", "P1DT2H"),
    "ints": ("_int4", "{1,2,NULL}"),
    "texts": ("_text", '{a,"b c"}'),
    "nums": ("_numeric", "{1.5,2.5}"),
    "ip": ("inet", "10.0.0.1"),
    "hs": ("bit", "101"),
    "m": ("mood", "ok"),
    "big": ("text", "x" * 40 + "...(5000 chars)"),
}
MODIFIERS = {"ts3": 3, "hs": 3}
ORDERS = [column(n, t, MODIFIERS.get(n, -1), "E" if t == "mood" else "S") for n, (t, _) in TEXTS.items()]


def decoded(
    sample: str,
    columns: Sequence[Column] = ORDERS,
    modes: Modes = MODES,
    table: str = "orders",
    key: Sequence[str] = ("id",),
    headers: dict[int, tuple[str, bytes]] | None = None,
) -> list[Event]:
    decoder = Decoder("shop", table, columns, key, modes)
    messages = [m for m in SAMPLES[sample] if m["destination"] in (f"pg.shop.{table}", "pg.transaction", "pg.message")]
    return [
        decoder.decode(_json(m["key"]), _json(m["value"]), [headers[n]] if headers and n in headers else ())
        for n, m in enumerate(messages)
    ]


def _json(document: Any) -> bytes | None:
    return None if document is None else json.dumps(document).encode()


def envelope(op: str, **more: Any) -> bytes:
    source = {"connector": "postgresql", "schema": "s", "table": "t", "lsn": 9, "txId": 5, "ts_ms": 0}
    return json.dumps({"op": op, "source": source, "before": None, "after": None, **more}).encode()


PLAIN = Decoder("s", "t", [column("id", "int4"), column("v", "text")], ["id"], Modes())
OLD_KEY = {10: ("__debezium.oldkey", b'{"id":2}')}


def test_every_event_of_a_real_stream_is_read() -> None:
    events = [e for e in decoded("plain", headers=OLD_KEY) if e.operation is not Operation.IGNORED]
    assert [e.operation.value for e in events] == ["r", "c", "u", "d", "c", "d", "c", "t"]
    read, inserted, updated, deleted, moved, _, late, truncated = events
    assert read.snapshot
    assert read.after == (b"1", b"snapshot row", *[None] * 25)
    assert inserted == Event(
        Operation.INSERT,
        "shop",
        "orders",
        after=tuple(text.encode() for _, text in TEXTS.values()),
        lsn=inserted.lsn,
        xid=727,
        sequence=(None, inserted.lsn),
        committed_at=inserted.committed_at,
    )
    assert inserted.committed_at
    assert abs(inserted.committed_at - datetime(2026, 11, 22, tzinfo=UTC)).days < 60
    assert updated.after
    assert updated.after[-1] is UNCHANGED
    assert updated.before is None
    assert deleted.before == (b"2", *[UNCHANGED] * 26)
    assert moved.former == (b"2",)
    assert moved.after
    assert moved.after[-1] is UNCHANGED
    assert late.after
    assert late.after[18] == b"infinity"
    assert (truncated.before, truncated.after) == (None, None)


def test_the_second_half_of_a_change_of_the_key_needs_its_header() -> None:
    with pytest.raises(ConfigError, match=r"shop.orders.big: .*__debezium\.oldkey"):
        decoded("plain")


def test_a_table_without_a_key_needs_the_complete_old_row() -> None:
    columns = [column("a", "int4"), column("b", "text")]
    with pytest.raises(ConfigError, match="REPLICA IDENTITY FULL"):
        decoded("plain", columns, MODES, "nokey", ())
    full = replace(MODES, full_before=True)
    events = [e for e in decoded("plain", columns, full, "nokey", ()) if e.table]
    assert [(e.operation.value, e.before, e.after) for e in events] == [
        ("c", None, (b"1", b"x")),
        ("u", (b"1", b"x"), (b"1", b"y")),
        ("d", (b"1", b"y"), None),
    ]


def test_decimals_of_the_default_mode_are_refused() -> None:
    for sample, modes in (("precise", replace(MODES, decimal="precise")), ("with_schema", MODES)):
        with pytest.raises(ConfigError, match=r"shop\.orders\.amt: .*set decimal\.handling\.mode=string"):
            decoded(sample, modes=modes)


def test_the_schema_of_a_message_overrides_the_modes() -> None:
    columns = [c for c in ORDERS if c.name not in ("amt", "anynum", "nums", "by")]
    wrong = replace(MODES, time="isostring", decimal="double")
    inserted, updated = decoded("with_schema", columns, wrong)
    assert inserted.after == tuple(TEXTS[c.name][1].encode() for c in columns)
    assert updated.after
    assert updated.after[-1] is UNCHANGED


def test_flattened_events_are_read_only_where_nothing_is_truncated() -> None:
    columns = [column("id", "int8"), column("name", "text"), column("tz", "timestamptz")]
    with pytest.raises(ConfigError, match="drops every TRUNCATE"):
        decoded("flattened", columns)
    events = [e for e in decoded("flattened", columns, replace(MODES, flattened=True)) if e.table]
    assert [(e.operation.value, (e.after or e.before or ())[0]) for e in events] == [
        *(("r", b"1"), ("c", b"2"), ("u", b"2"), ("d", b"2"), ("c", b"3"), ("d", b"3"), ("c", b"4")),
    ]
    assert all(e.lsn and e.xid and e.committed_at for e in events)


def test_flattened_events_show_whether_a_null_is_sent_as_the_default() -> None:
    columns = [column("id", "int4"), replace(column("v", "text"), default="'x'::text")]
    decoder = Decoder("s", "t", columns, ["id"], Modes(flattened=True))
    event = {"id": 1, "v": None, "__op": "c", "__deleted": "false", "__table": "t", "__lsn": 5, "__schema": "s"}
    shown = decoder.decode(None, json.dumps(event | {"__source_snapshot": None}).encode())
    assert shown.after == (b"1", None)
    for unknown in (event, event | {"v": "x", "__source_snapshot": "false"}):
        with pytest.raises(ConfigError, match=r"s\.t\.v: .*source\.snapshot to add\.fields"):
            decoder.decode(None, json.dumps(unknown).encode())


def test_flattened_events_that_lost_what_is_needed_are_refused() -> None:
    decoder = Decoder("s", "t", [column("id", "int4")], ["id"], Modes(flattened=True))
    with pytest.raises(ConfigError, match=r"add\.fields=op"):
        decoder.decode(None, b'{"id": 1, "__op": "c", "__deleted": "false", "__table": "t"}')
    with pytest.raises(SourceError, match="is not a change event, with the fields id"):
        decoder.decode(None, b'{"id": 1}')


def test_a_key_change_names_both_keys() -> None:
    new = ("__debezium.newkey", b'{"schema": {"type": "struct", "fields": []}, "payload": {"id": 8}}')
    left = PLAIN.decode(None, envelope("d", before={"id": 7, "v": ""}), [new, ("other", None)])
    assert (left.before, left.successor) == ((b"7", UNCHANGED), (b"8",))
    with pytest.raises(ConfigError, match=r"header\.converter"):
        PLAIN.decode(None, envelope("d", before={"id": 7, "v": ""}), [("__debezium.newkey", b"Struct{id=8}")])


def test_a_delete_without_a_row_takes_its_key_from_the_message() -> None:
    assert PLAIN.decode(b'{"id": 7}', envelope("d")).before == (b"7", UNCHANGED)
    with pytest.raises(AuroraSyncError, match=r"s\.t\.id: the event does not have this column"):
        PLAIN.decode(None, envelope("d"))


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"null",
        b'{"schema": null, "payload": null}',
        b'{"ts_ms": 1}',
        b'{"status": "END", "id": "5:1", "event_count": 1, "data_collections": [], "ts_ms": 1}',
        envelope("m", message={"prefix": "p", "content": ""}),
    ],
)
def test_a_message_without_a_change_is_ignored(value: bytes | None) -> None:
    assert PLAIN.decode(b"{}", value) == Event(Operation.IGNORED)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"\x00\x00\x00\x00\x01avro", "not JSON.*JsonConverter"),
        (b"[1]", r"not a record.*\[1\]"),
        (envelope("x"), "unknown operation.*'x'"),
        (envelope("c"), "INSERT without a row"),
        (envelope("c", after={"id": 1}), r"s\.t\.v: the event does not have this column"),
        (envelope("c", after={"id": "1", "v": "x"}), "does not have the type int4.*'1': expected an integer"),
        (envelope("c", after={"id": 1, "v": 5}), "does not have the type text.*5: expected a string"),
        (envelope("c", after={"id": 1, "v": "__debezium_unavailable_value"}), "placeholder"),
        (envelope("c", source={"schema": "s", "table": "other", "lsn": 1}), r"event of table s\.other"),
        (envelope("c", source={"connector": "mysql", "table": "t"}), "connector for mysql"),
        (envelope("c", source={"schema": "s", "table": "t"}, after={"id": 1, "v": ""}), "without source.lsn"),
        (b'{"status": "END", "id": "5:1", "ts_ms": 1}', "not a change event"),
    ],
)
def test_a_message_that_is_not_an_event_of_the_table_is_refused(value: bytes, said: str) -> None:
    with pytest.raises(AuroraSyncError) as raised:
        PLAIN.decode(None, value)
    raised.value.show_values()
    assert re.search(said, str(raised.value))


@pytest.mark.parametrize(
    "value",
    [
        b"SECRET-7f3a",
        b'["SECRET-7f3a"]',
        envelope("SECRET-7f3a"),
        envelope("c", after={"id": "SECRET-7f3a", "v": "x"}),
        envelope("c", after={"id": 1, "v": ["SECRET-7f3a"]}),
    ],
)
def test_a_message_that_cannot_be_read_is_named_by_its_place_and_not_repeated(value: bytes) -> None:
    feed = TopicFeed("s", "t", [column("id", "int4"), column("v", "text")], ["id"], MODES, lambda *_: False)
    with pytest.raises(AuroraSyncError, match=r"^s\.t.*, partition 3, offset 41: ") as raised:
        feed.take(Message(3, 41, None, value, (), None))
    error: BaseException | None = raised.value
    while error is not None:
        assert "SECRET" not in f"{error} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    raised.value.show_values()
    assert "SECRET-7f3a" in str(raised.value)
