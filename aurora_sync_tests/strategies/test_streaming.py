"""Tests of streams: where a stream continues after a scan, and when it cannot."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.model.fences import SlotFence
from aurora_sync.strategies.base import Since
from aurora_sync.strategies.debezium import Debezium, TopicPosition, topic
from aurora_sync.strategies.logical import Logical, SlotPosition
from aurora_sync.strategies.streaming import Seen
from aurora_sync_tests.strategies.observations import at, config, table, watermark

TABLE = table()
LOGICAL, DEBEZIUM = config("logical"), config("debezium", topic_prefix="x")
FENCE = SlotFence(confirmed=500, member="1", writers=(), in_progress=(), position=900, extents={0: (3, 40)})


def fence(**values: Any) -> SlotFence:
    return replace(FENCE, **values)


def test_a_slot_goes_on_behind_what_the_scan_saw() -> None:
    position = SlotPosition(slot="s", member="1", lsn=500, until=900, seen=Seen(1000, (990,)))
    assert position.has(400, 1200)  # before the slot begins
    assert position.has(600, 980)
    assert not position.has(600, 990)  # was in progress
    assert not position.has(600, 1000)  # had not begun
    assert not position.has(900, 980)  # committed after the scan: the id was reused after 2^32 transactions
    assert position.at(899).seen
    assert position.at(900) == SlotPosition(slot="s", member="1", lsn=900)


def test_a_topic_goes_on_behind_what_the_scan_saw() -> None:
    position = TopicPosition(slot="s", member="1", topic="x", until=900, seen=Seen(1000, (990,)), ends={0: 40})
    assert position.has(0, 39, 600, 980)
    assert not position.has(0, 39, 600, 990)
    assert position.has(0, 39, 5000, 1200)  # in the topic before the scan: from another history of the database
    assert position.has(0, 40, 600, 980)
    assert not position.has(0, 40, 600, 1000)
    assert not position.has(0, 40, 900, 980)
    assert TopicPosition.from_value(position.to_value()) == position
    moved = position.at({0: 50, 1: 2}, {0: (7, 8), 1: (7, 9)}, {1: (7, 9)})
    assert TopicPosition.from_value(json.loads(json.dumps(moved.to_value()))) == moved
    of_earlier_release = {k: v for k, v in position.to_value().items() if k not in ("newest", "strays")}
    assert TopicPosition.from_value(of_earlier_release) == position


@pytest.mark.parametrize(
    ("fence_values", "position", "why"),
    [
        ({}, {}, ""),
        (
            {"confirmed": 501},
            {},
            "or the publication, has changed since the last run",
        ),  # another reader has advanced the slot
        ({"member": "2"}, {}, "or the publication, has changed since the last run"),
        ({}, {"slot": "other"}, "or the publication, has changed since the last run"),
        ({}, {"blind": (990,)}, "were open when the table was published or a type was altered: 990"),
    ],
)
def test_a_slot_that_lacks_something_leads_to_a_scan(
    fence_values: dict[str, Any], position: dict[str, Any], why: str
) -> None:
    values: dict[str, Any] = {"slot": "aurora_sync", "member": "1", "lsn": 500}
    found = SlotPosition(**values | position)
    seen = at(fence=fence(**fence_values))
    text = Logical().why_scan(LOGICAL, TABLE, watermark("logical", found.to_value(), seen), (), seen)
    assert (why in text) if why else text == ""


@pytest.mark.parametrize(
    ("fence_values", "position", "why"),
    [
        ({}, {}, ""),
        ({"extents": {0: (3, 41), 1: (0, 7)}}, {}, ""),  # a new partition begins at 0
        (
            {"extents": {0: (31, 40)}},
            {},
            "or the publication, has changed since the last run",
        ),  # retention deleted unread messages
        (
            {"extents": {0: (0, 29)}},
            {},
            "or the publication, has changed since the last run",
        ),  # the topic was recreated
        ({"extents": {}}, {}, "or the publication, has changed since the last run"),
        ({"extents": {0: (3, 40), 1: (2, 7)}}, {}, "or the publication, has changed since the last run"),
        ({"lost": True}, {}, "or the publication, has changed since the last run"),
        ({"member": "2"}, {}, "or the publication, has changed since the last run"),
        ({}, {"topic": "other"}, "or the publication, has changed since the last run"),
        ({}, {"rescan": "a gap"}, "a gap"),
        ({"confirmed": 10**9}, {}, ""),  # the connector has advanced the slot, and the topic has the messages
    ],
)
def test_a_topic_that_lacks_something_leads_to_a_scan(
    fence_values: dict[str, Any], position: dict[str, Any], why: str
) -> None:
    values: dict[str, Any] = {"slot": "aurora_sync_debezium", "member": "1", "topic": "x.public.t", "offsets": {0: 30}}
    found = TopicPosition(**values | position)
    seen = at(fence=fence(**fence_values))
    text = Debezium().why_scan(DEBEZIUM, TABLE, watermark("debezium", found.to_value(), seen), (), seen)
    assert (why in text) if why else text == ""


@pytest.mark.parametrize(("major", "kind", "scans"), [(14, "p", True), (14, "r", False), (15, "p", False)])
def test_partitions_are_not_read_from_a_topic_of_a_server_that_may_miss_them(
    major: int, kind: str, scans: bool
) -> None:
    found = TopicPosition(slot="aurora_sync_debezium", member="1", topic="x.public.t", offsets={0: 30})
    seen = at(fence=FENCE, token={"major": major})
    before = watermark("debezium", found.to_value(), seen)
    text = Debezium().why_scan(DEBEZIUM, table(kind=kind), before, (), seen)
    assert ("a connector may miss changes of partitions" in text) == scans


def test_a_scan_passes_over_the_topic_unless_a_transaction_was_open() -> None:
    nobody, somebody = (at(fence=fence(in_progress=open_)) for open_ in ((), (990,)))
    assert Debezium().advance(DEBEZIUM, TABLE, None, nobody)["offsets"] == {"0": 40}
    assert Debezium().advance(DEBEZIUM, TABLE, None, somebody)["offsets"] == {"0": 3}
    before = TopicPosition(
        slot="aurora_sync_debezium", member="1", topic="x.public.t", offsets={0: 30}, rescan="found a gap"
    )
    since = Since(watermark("debezium", before.to_value(), somebody))
    after = Debezium().advance(DEBEZIUM, TABLE, since, somebody)
    assert (after["offsets"], after["ends"], after["rescan"]) == ({"0": 30}, {"0": 40}, "")
    assert "is lost" in str(Debezium().advance(DEBEZIUM, TABLE, since, at(fence=fence(lost=True)))["rescan"])


def test_transactions_from_before_the_publication_stay_named_until_they_end() -> None:
    first = Logical().advance(LOGICAL, TABLE, None, at(fence=fence(writers=(990, 991), in_progress=(991, 995))))
    assert first["blind"] == [991]
    since = Since(watermark("logical", first, at()))
    assert Logical().advance(LOGICAL, TABLE, since, at(fence=fence(in_progress=(991, 999))))["blind"] == [991]
    assert Logical().advance(LOGICAL, TABLE, since, at(fence=fence(in_progress=(999,))))["blind"] == []


def test_a_topic_is_named_as_debezium_names_it() -> None:
    assert topic(config("debezium", topic_prefix="x", table_name="a b$")) == "x.public.a_b_"
