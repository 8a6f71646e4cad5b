"""A topic with missing messages: deletes are not missed, and offsets without a message cause no scan."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer

from aurora_sync.config.tables import TableConfig
from aurora_sync.source.debezium import kafka
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync_tests.scenarios.debezium.conftest import Connected
from aurora_sync_tests.scenarios.debezium.test_partitions import FAR, Write, table, write
from aurora_sync_tests.source.debezium.test_feed import delete, update

__all__ = ["table", "write"]
GONE: set[int] = set()  # offsets of partition 0


class Compacted(Consumer):  # type: ignore[misc,unused-ignore]
    """A consumer of a broker that has removed messages, or has transaction markers in their place."""

    def poll(self, timeout: float = -1) -> Any:
        found = super().poll(timeout)
        while found is not None and not found.error() and found.offset() in GONE:
            found = super().poll(timeout)
        return found


@pytest.fixture(autouse=True)
def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    GONE.clear()
    monkeypatch.setattr("confluent_kafka.Consumer", Compacted)
    monkeypatch.setattr(kafka, "POLICY_SECONDS", 0.3, raising=False)  # the mock broker never answers


def policy(monkeypatch: pytest.MonkeyPatch, found: str | None) -> None:
    if found:
        monkeypatch.setattr(Kafka, "cleanup_policies", lambda self, names: dict.fromkeys(names, found), raising=False)


@pytest.mark.parametrize("of_topic", [None, "compact", "delete"])
def test_a_tombstone_without_its_delete_is_not_passed_over(
    connected: Connected, table: TableConfig, write: Write, monkeypatch: pytest.MonkeyPatch, of_topic: str | None
) -> None:
    policy(monkeypatch, of_topic)
    connected.world.execute("DELETE FROM t WHERE id = 1", "UPDATE t SET name = 'on' WHERE id = 2")
    write(0, delete(1, FAR + 1), update(2, "on", FAR + 2))
    GONE.add(0)
    receipt = connected.run(table)
    connected.world.assert_equal(table)
    assert receipt.warnings[0].startswith("scanned, not streamed: ")
    connected.world.execute("UPDATE t SET name = 'later' WHERE id = 2")
    write(0, update(2, "later", FAR + 3))
    assert connected.run(table).method.startswith("topic")
    connected.world.assert_equal(table)


@pytest.mark.parametrize("of_topic", [None, "compact", "compact,delete"])
@pytest.mark.parametrize("at", ["first", "between", "last"])
def test_messages_that_compaction_removed_lead_to_one_scan(
    connected: Connected,
    table: TableConfig,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    of_topic: str | None,
    at: str,
) -> None:
    """After delete.retention.ms, not even the tombstone of a delete remains."""
    policy(monkeypatch, of_topic)
    world, change = connected.world, [update(2, "on", FAR + 1), update(3, "on", FAR + 4)]
    world.execute("DELETE FROM t WHERE id = 1", "UPDATE t SET name = 'on' WHERE id IN (2, 3)")
    place = {"first": 0, "between": 1, "last": 2}[at]
    change.insert(place, delete(1, FAR + place + 1))
    write(0, *change)
    GONE.update({place, place + 1})
    with world.open_transaction("INSERT INTO t VALUES (90, 'open', 'd')"):
        receipt = connected.run(table)
        world.assert_equal(table)
        assert "messages of partition 0 were deleted" in receipt.warnings[0]
        assert not connected.run(table).warnings
    world.execute("UPDATE t SET name = 'later' WHERE id = 2")
    write(0, update(2, "later", FAR + 9))
    receipt = connected.run(table)
    assert receipt.method.startswith("topic")
    assert not receipt.warnings
    world.assert_equal(table)


@pytest.mark.parametrize("of_topic", [None, "compact"])
def test_an_update_that_relies_on_a_message_that_compaction_removed_leads_to_a_scan(
    connected: Connected, table: TableConfig, write: Write, monkeypatch: pytest.MonkeyPatch, of_topic: str | None
) -> None:
    """A single message is missing, which could be a transaction marker; no other message has the long value."""
    policy(monkeypatch, of_topic)
    connected.world.execute("UPDATE t SET doc = 'new' WHERE id = 2", "UPDATE t SET name = 'on' WHERE id = 2")
    write(0, update(3, "old", FAR + 1, "doc"), update(2, "old", FAR + 2, "new"), update(2, "on", FAR + 3))
    GONE.add(1)
    receipt = connected.run(table)
    connected.world.assert_equal(table)
    assert "messages of partition 0 were deleted" in receipt.warnings[0]


@pytest.mark.parametrize(("of_topic", "width"), [(None, 1), ("delete", 1), ("delete", 3)])
def test_marks_of_transactions_cost_no_scan(
    connected: Connected,
    table: TableConfig,
    write: Write,
    monkeypatch: pytest.MonkeyPatch,
    of_topic: str | None,
    width: int,
) -> None:
    """A producer's commit is an offset without a message, and so is every message that it aborted."""
    policy(monkeypatch, of_topic)
    connected.world.execute("UPDATE t SET name = 'on' WHERE id IN (2, 3)")
    no_message = [update(9, "aborted", FAR + 2)] * width
    write(0, update(2, "on", FAR + 1, "doc"), *no_message, update(3, "on", FAR + 3, "doc"), *no_message)
    GONE.update({*range(1, 1 + width), *range(2 + width, 2 + 2 * width)})
    receipt = connected.run(table)
    assert receipt.method.startswith("topic")
    assert not receipt.warnings
    connected.world.assert_equal(table)
    assert not connected.run(table).changed


def test_a_tombstone_that_comes_with_the_next_run_belongs_to_its_delete(
    connected: Connected, table: TableConfig, write: Write
) -> None:
    event, tombstone = delete(1, FAR + 1)
    connected.world.execute("DELETE FROM t WHERE id = 1")
    write(0, [event])
    assert connected.run(table).deleted == 1
    write(0, [tombstone])
    receipt = connected.run(table)
    assert receipt.method.startswith("topic")
    assert not receipt.warnings
    connected.world.assert_equal(table)
