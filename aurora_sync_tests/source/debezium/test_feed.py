"""Messages as net changes: the halves of a change of the key, repeated changes, and messages that require a scan."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_sync.config.connector import PLACEHOLDER, Connector
from aurora_sync.errors import ConfigError
from aurora_sync.model.column import Column
from aurora_sync.source.debezium.feed import TopicFeed
from aurora_sync.source.debezium.modes import Modes
from aurora_sync.source.debezium.partitions import Order, murmur2
from aurora_sync.source.debezium.topic import Message
from aurora_sync_tests.source.test_net_changes import apply, rows_of

COLUMNS = (Column("id", 1, "integer", "int4"), Column("name", 2, "text", "text"), Column("doc", 3, "text", "text"))
MODES = Modes.of(Connector(), pinned_session=True, infinite_intervals=True)
UNCHANGED = PLACEHOLDER
Table = dict[bytes, tuple[bytes | None, ...]]


def feed(**kwargs: Any) -> TopicFeed:
    has = kwargs.get("has", lambda partition, offset, lsn, xid: False)
    return TopicFeed("public", "t", COLUMNS, ["id"], MODES, has)


def message(op: str, lsn: int, *, before: Any = None, after: Any = None, xid: int = 7, **more: Any) -> Message:
    source = {"connector": "postgresql", "schema": "public", "table": "t", "lsn": lsn, "txId": xid, "ts_us": lsn}
    source |= {"snapshot": more.get("snapshot", "false")}
    if "commit" in more:  # LSN of the previous commit
        source["sequence"] = json.dumps([str(more["commit"]), str(lsn)])
    names = [column.name for column in COLUMNS]
    rows = {n: row and dict(zip(names, row, strict=False)) for n, row in (("before", before), ("after", after))}
    value = json.dumps({"op": op, "source": source, **rows}).encode()
    key = json.dumps({"id": (after or before or [None])[0]}).encode() if op != "t" else None
    headers = [(name, json.dumps({"id": id_}).encode()) for name, id_ in more.get("headers", {}).items()]
    return Message(0, more.get("offset", lsn), key, value, tuple(headers), None)


def create(id_: int, name: str, lsn: int, doc: str | None = None) -> list[Message]:
    return [message("c", lsn, after=(id_, name, doc))]


def update(id_: int, name: str, lsn: int, doc: str = UNCHANGED, **more: Any) -> list[Message]:
    return [message("u", lsn, after=(id_, name, doc), **more)]


def delete(id_: int, lsn: int) -> list[Message]:
    return [message("d", lsn, before=(id_,)), tombstone(id_, lsn)]


def move(id_: int, to: int, name: str, lsn: int) -> list[Message]:
    """Build the messages that Debezium sends for an update of the key."""
    return [
        message("d", lsn, before=(id_,), headers={"__debezium.newkey": to}),
        tombstone(id_, lsn),
        message("c", lsn, after=(to, name, UNCHANGED), headers={"__debezium.oldkey": id_}),
    ]


def tombstone(id_: int, lsn: int) -> Message:
    return Message(0, lsn, json.dumps({"id": id_}).encode(), None, (), None)


def applied(table: Table, taken: TopicFeed) -> Table:
    return apply(table, *rows_of(taken.changes))


START: Table = {b"1": (b"1", b"one", b"long"), b"2": (b"2", b"two", b"longer")}


def test_a_change_of_the_key_may_be_cut_between_its_halves() -> None:
    messages = move(1, 9, "nine", 10)
    for cut in range(4):
        first, second = feed(), feed()
        for each in messages[:cut]:
            first.take(each)
        if cut:
            second.saw(messages[cut - 1])
        for each in messages[cut:]:
            second.take(each)
        assert not second.rescan
        table = applied(applied(START, first), second)
        assert table == {b"2": START[b"2"], b"9": (b"9", b"nine", b"long")}


def test_the_old_row_fills_in_unchanged_values() -> None:
    """Under REPLICA IDENTITY FULL, an update of a key that is not Debezium's message key is sent as one event."""
    modes = replace(MODES, full_before=True)
    taken = TopicFeed("public", "t", COLUMNS, ["id"], modes, lambda *_: False)
    taken.take(message("u", 5, before=(1, "one", "long"), after=(5, "five", UNCHANGED)))
    rows, part = rows_of(taken.changes)
    assert part.partial == 0
    assert apply(START, rows, part) == {b"2": START[b"2"], b"5": (b"5", b"five", b"long")}
    with pytest.raises(ConfigError, match="no old row"):
        taken.take(message("u", 6, after=(5, "six", UNCHANGED)))


def test_changes_that_the_target_has_are_skipped() -> None:
    taken = feed(has=lambda partition, offset, lsn, xid: xid == 7)
    taken.take(message("c", 5, after=(5, "seen", None)))
    assert not taken.changes
    assert taken.oldest is None
    taken.take(message("c", 6, after=(6, "new", None), xid=8))
    assert taken.changes
    assert taken.oldest is not None


def test_repeated_changes_require_a_scan_until_the_connector_has_caught_up() -> None:
    """Without the scan the rows would go back to older versions, until the next run."""
    again, last, more = (update(1, name, lsn, commit=lsn - 1)[0] for name, lsn in (("a", 10), ("b", 20), ("c", 30)))
    for messages, behind in (([again], True), ([again, last], False), ([again, last, more], False), ([more], False)):
        taken = feed()
        taken.begin(Order(newest={0: (19, 20)}))
        for each in messages:
            taken.take(each)
        assert bool(taken.behind) is behind
        assert not taken.rescan


def test_a_snapshot_of_the_connector_requires_a_scan() -> None:
    taken = feed()
    taken.take(message("r", 5, after=(5, "copied", None), snapshot="true"))
    assert not taken.changes
    assert "snapshot of its own" in taken.rescan


def test_a_value_that_cannot_be_certain_is_refused() -> None:
    taken = TopicFeed("public", "t", (*COLUMNS, Column("m", 4, "money", "money")), ["id"], MODES, lambda *_: False)
    with pytest.raises(ConfigError, match=r"public\.t"):
        taken.take(message("c", 5, after=(5, "x", None, 1)))


@st.composite
def histories(draw: st.DrawFn) -> list[list[Message]]:
    """Draw the messages of some transactions of one change each, as the connector of a live table sends them."""
    rows, found = {1: "one", 2: "two"}, list[list[Message]]()
    for lsn in range(10, 10 + draw(st.integers(1, 12))):
        id_, name = draw(st.integers(1, 4)), draw(st.sampled_from("abc"))
        if id_ not in rows:
            rows[id_] = name
            found.append(create(id_, name, lsn, "doc"))
            continue
        kind = draw(st.sampled_from(["update", "whole", "delete", "move", "truncate"]))
        free = [other for other in range(1, 5) if other not in rows]
        if kind == "truncate":
            rows.clear()
            found.append([message("t", lsn)])
        elif kind == "delete":
            del rows[id_]
            found.append(delete(id_, lsn))
        elif kind == "move" and free:
            del rows[id_]
            rows[free[0]] = name
            found.append(move(id_, free[0], name, lsn))
        else:
            rows[id_] = name
            found.append(update(id_, name, lsn, UNCHANGED if kind == "update" else "doc again"))
    return found


@settings(max_examples=300)
@given(histories(), st.data())
def test_repeated_changes_end_in_the_same_rows(history: list[list[Message]], data: st.DataObject) -> None:
    """The connector crashes any number of times within one run, and each time repeats some transactions."""
    once = feed()
    for each in [each for change in history for each in change]:
        once.take(each)
    sent: list[list[Message]] = []
    at = 0
    while at < len(history):
        upto = data.draw(st.integers(at + 1, len(history)))
        sent += history[at:upto]
        if upto == len(history):
            break
        at = data.draw(st.integers(max(0, upto - 4), upto))
    again = feed()
    for each in [each for change in sent for each in change]:
        again.take(each)
    assert applied(START, again) == applied(START, once)


def test_a_change_between_equal_keys_is_one_row_and_a_stray() -> None:
    """Kafka hashes the texts of the keys 0 and -0, so the two messages may be in two partitions."""
    columns = (Column("id", 1, "double precision", "float8"), *COLUMNS[1:])
    taken = TopicFeed("public", "t", columns, ["id"], MODES, lambda *_: False)
    inserted = message("c", 10, after=(-0.0, "zero", UNCHANGED), headers={"__debezium.oldkey": 0.0})
    assert inserted.key
    partition = murmur2(inserted.key) % 2
    taken.begin(Order(partitions=2, used=2))
    taken.take(replace(inserted, partition=partition))
    rows, _ = rows_of(taken.changes)
    assert [(id_, operation, origin) for id_, *_, operation, _, _, origin in rows] == [("-0", "U", "0")]
    assert taken.order.strays.keys() == {partition}
