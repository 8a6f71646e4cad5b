"""The topic reader on librdkafka's mock cluster, which uses the real protocol."""

from __future__ import annotations

import builtins
from collections.abc import Iterator
from typing import Any

import confluent_kafka as kafka
import pytest

from aurora_sync.errors import ConfigError, GuardError, Kind, SourceError
from aurora_sync.source.debezium import topic as module
from aurora_sync.source.debezium.topic import Extent, open_topic


@pytest.fixture(scope="module")
def producer() -> Iterator[Any]:
    """A producer with a cluster of its own, whose topics have four partitions."""
    made = kafka.Producer({"test.mock.num.brokers": 1, "linger.ms": 0, "message.max.bytes": 2_000_000})
    yield made
    made.flush()


@pytest.fixture(scope="module")
def settings(producer: Any) -> dict[str, str]:
    (broker,) = producer.list_topics(timeout=60).brokers.values()
    return {"bootstrap.servers": f"{broker.host}:{broker.port}"}


def write(producer: Any, name: str, partition: int, *values: bytes | None, **more: Any) -> None:
    for value in values:
        producer.produce(name, value, b"k", partition, **more)
    producer.flush()


def test_all_messages_up_to_the_end_come_in_the_order_of_their_partition(
    producer: Any, settings: dict[str, str]
) -> None:
    write(producer, "order", 0, b"a", b"b", None, headers=[("h", b"1"), ("none", None)])
    write(producer, "order", 2, b"c")
    with open_topic(settings, "order") as topic:
        messages = list(topic.read({}))
        assert topic.reached == {0: 3, 1: 0, 2: 1, 3: 0}
        assert topic.extents[0] == Extent(0, 3)
        assert topic.behind({0: 1}) == 3
    assert [(m.partition, m.offset, m.value) for m in messages] == [
        *((0, 0, b"a"), (0, 1, b"b"), (0, 2, None)),
        (2, 0, b"c"),
    ]
    assert messages[0].key == b"k"
    assert messages[0].headers == (("h", b"1"), ("none", None))
    assert messages[0].timestamp


def test_a_read_continues_where_it_ended_and_stops_at_the_end_as_of_opening(
    producer: Any, settings: dict[str, str]
) -> None:
    write(producer, "on", 1, b"a", b"b")
    with open_topic(settings, "on") as topic:
        write(producer, "on", 1, b"c")  # after the opening
        assert [m.value for m in topic.read({1: 1})] == [b"b"]
        stored = topic.reached
    with open_topic(settings, "on") as topic:
        assert [m.value for m in topic.read(stored)] == [b"c"]
    with open_topic(settings, "on") as topic:
        assert list(topic.read(topic.reached | {1: 3})) == []
        assert topic.reached == {0: 0, 1: 3, 2: 0, 3: 0}


def test_the_same_offsets_give_the_same_messages_again(producer: Any, settings: dict[str, str]) -> None:
    write(producer, "again", 0, *[b"%d" % n for n in range(500)])
    for _ in range(2):
        with open_topic(settings, "again") as topic:
            assert [m.offset for m in topic.read({0: 100})] == list(range(100, 500))


def test_an_abandoned_read_has_not_reached_the_end(producer: Any, settings: dict[str, str]) -> None:
    write(producer, "left", 0, b"a", b"b")
    with open_topic(settings, "left") as topic:
        next(iter(topic.read({})))
        assert topic.reached == {}


def test_messages_that_retention_deleted_are_not_passed_over(producer: Any, settings: dict[str, str]) -> None:
    # the mock cluster keeps the last 5 MB of a partition
    for _ in range(9):
        write(producer, "short", 0, b"x" * 900_000)
    with open_topic(settings, "short") as topic:
        low = topic.extents[0].low
        assert low > 0
        assert len(list(topic.read({0: low}))) == 9 - low
        with pytest.raises(GuardError, match=r"deleted by retention.*aurora-sync sync --full"):
            list(topic.read({0: low - 1}))
        with pytest.raises(GuardError, match="deleted by retention"):  # no stored offset: a new partition
            topic.start({})


def test_a_recreated_topic_is_refused(producer: Any, settings: dict[str, str]) -> None:
    write(producer, "anew", 0, b"a")
    with open_topic(settings, "anew") as topic:
        with pytest.raises(GuardError, match=r"read up to offset 7, but now ends at 1.*recreated"):
            list(topic.read({0: 7}))
        with pytest.raises(GuardError, match="partition 9 does not exist any more"):
            list(topic.read({9: 0}))


def test_a_broker_that_is_not_there_may_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.5)
    with pytest.raises(SourceError) as raised, open_topic({"bootstrap.servers": "127.0.0.1:1"}, "none"):
        pass
    assert raised.value.kind is Kind.TRANSIENT
    assert "bootstrap.servers" in raised.value.hint


def test_a_setting_that_librdkafka_does_not_know_is_refused() -> None:
    with pytest.raises(SourceError, match=r"no\.such\.setting") as raised, open_topic({"no.such.setting": "1"}, "none"):
        pass
    assert raised.value.kind is Kind.REFUSED


def test_silence_ends_the_run(producer: Any, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    write(producer, "silent", 0, b"a")
    monkeypatch.setattr(module, "_SILENCE", 0.0)
    with open_topic(settings, "silent") as topic:
        topic._consumer = _Deaf()
        with pytest.raises(SourceError, match="no message of partition 0 arrived") as raised:
            list(topic.read({}))
    assert raised.value.kind is Kind.TRANSIENT


class _Deaf:
    def assign(self, places: object) -> None: ...

    def unassign(self) -> None: ...

    def poll(self, timeout: float) -> None: ...


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    really = builtins.__import__

    def missing(name: str, *more: Any) -> Any:
        if name == "confluent_kafka":
            raise ImportError(name)
        return really(name, *more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"aurora-sync\[debezium\]"), open_topic({}, "none"):
        pass


def test_a_topic_that_nobody_has_written_yet_is_empty(settings: dict[str, str]) -> None:
    with open_topic(settings, "not_written_yet") as topic:
        assert topic.extents == {}
        assert list(topic.read({})) == []
        assert topic.reached == {}
        assert topic.behind({}) == 0
        with pytest.raises(GuardError, match="partition 0 does not exist any more"):
            topic.start({0: 3})
