"""A topic with several partitions, as producers write it: late changes lead to a scan, and no row is lost or set
back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from aurora_sync.config.tables import TableConfig
from aurora_sync.source.debezium.partitions import murmur2
from aurora_sync.source.debezium.topic import Message
from aurora_sync_tests.scenarios.debezium.conftest import Connected
from aurora_sync_tests.source.debezium.test_feed import create, delete, message, move, update

FAR = 10**12  # an LSN beyond every scan
PARTITIONS = 4  # the number in every topic of the mock cluster
Write = Callable[..., None]


@pytest.fixture
def table(connected: Connected) -> TableConfig:
    made = connected.table()
    connected.world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, name text, doc text)",
        "INSERT INTO t SELECT g, 'old', 'doc' FROM generate_series(1, 20) g",
    )
    connected.setup(made)
    connected.run(made)
    return made


@pytest.fixture
def write(connected: Connected) -> Write:
    producer = Producer({"bootstrap.servers": connected.servers, "linger.ms": 0})

    def to(partition: int | None, *messages: list[Message]) -> None:
        """Write messages to a partition; None: each to the partition of its key's hash."""
        for each in [each for change in messages for each in change]:
            at = murmur2(each.key or b"") % PARTITIONS if partition is None else partition
            producer.produce(f"{connected.name}.public.t", each.value, each.key, at, headers=list(each.headers))
        assert not producer.flush(60)

    return to


def test_a_key_that_moved_and_is_used_again_is_not_lost(connected: Connected, table: TableConfig, write: Write) -> None:
    world = connected.world
    world.execute("UPDATE t SET id = 90, name = 'moved' WHERE id = 1", "INSERT INTO t VALUES (1, 'again', 'new')")
    left, tombstone, arrived = move(1, 90, "moved", FAR + 10)
    write(0, [left, tombstone], create(1, "again", FAR + 30, "new"))
    write(1, [arrived])
    receipt = connected.run(table)
    world.assert_equal(table)
    assert "read after a newer change" in receipt.warnings[0]
    world.execute("UPDATE t SET name = 'on' WHERE id = 1")
    write(0, update(1, "on", FAR + 40))
    assert connected.run(table).method.startswith("topic")
    world.assert_equal(table)


def test_an_older_change_of_another_partition_sets_no_row_back(
    connected: Connected, table: TableConfig, write: Write
) -> None:
    """The partitioner has changed: within a run, and between two runs."""
    world = connected.world
    world.execute("UPDATE t SET name = 'new', doc = 'newer' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    write(0, update(1, "new", FAR + 30), delete(2, FAR + 31))
    write(1, update(1, "stale", FAR + 20, "newer"), update(2, "stale", FAR + 21, "x"))
    assert "read after a newer change" in connected.run(table).warnings[0]
    world.assert_equal(table)
    world.execute("UPDATE t SET name = 'newest' WHERE id = 3", "DELETE FROM t WHERE id = 4")
    write(0, update(3, "newest", FAR + 50), delete(4, FAR + 51))
    assert connected.run(table).method.startswith("topic")
    world.assert_equal(table)
    write(1, update(3, "stale", FAR + 40), update(4, "stale", FAR + 41, "x"))
    assert "read after a newer change" in connected.run(table).warnings[0]
    world.assert_equal(table)
    assert not connected.run(table).changed


def test_a_truncate_that_is_read_late_removes_nothing(connected: Connected, table: TableConfig, write: Write) -> None:
    world = connected.world
    world.execute("TRUNCATE t", "INSERT INTO t VALUES (1, 'after', 'd')")
    write(0, create(1, "after", FAR + 30, "d"))
    write(1, [message("t", FAR + 20)])
    assert "read after a newer change" in connected.run(table).warnings[0]
    world.assert_equal(table)


def test_the_halves_of_a_change_of_the_key_may_come_with_two_runs(
    connected: Connected, table: TableConfig, write: Write
) -> None:
    """The row was changed before its key changed, and its former key is used again afterwards. In each case the
    partition of one half of the key change is late."""
    world = connected.world
    left, tombstone, arrived = move(5, 95, "moved", FAR + 20)
    world.execute("UPDATE t SET id = 95, name = 'moved' WHERE id = 5")
    write(1, [arrived])
    assert connected.run(table).method.startswith("topic")
    write(0, update(5, "before", FAR + 10), [left, tombstone])
    assert "read after a newer change" in connected.run(table).warnings[0]
    world.assert_equal(table)
    left, tombstone, arrived = move(6, 96, "moved", FAR + 40)
    world.execute("UPDATE t SET id = 96, name = 'moved' WHERE id = 6", "INSERT INTO t VALUES (6, 'again', 'd')")
    write(0, [left, tombstone], create(6, "again", FAR + 50, "d"))
    connected.run(table)
    write(1, [arrived])
    assert "read after a newer change" in connected.run(table).warnings[0]
    world.assert_equal(table)


def test_row_is_not_set_back_by_changes_that_come_again(connected: Connected, table: TableConfig, write: Write) -> None:
    """A connector that died sends changes again, and the topic ends before it has caught up."""
    world = connected.world
    first, second = (update(1, name, FAR + lsn, commit=FAR + lsn) for name, lsn in (("first", 10), ("second", 20)))
    world.execute("UPDATE t SET name = 'second' WHERE id = 1")
    write(None, first, second)
    assert connected.run(table).method.startswith("topic")
    write(None, first)
    receipt = connected.run(table)
    world.assert_equal(table)
    assert "sends changes again" in receipt.warnings[0]
    write(None, second)
    connected.run(table)
    world.assert_equal(table)


def test_keys_that_stay_in_their_partition_cost_no_scan(
    connected: Connected, table: TableConfig, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No scan follows although partitions are read to different positions, and changes are staged in parts."""
    monkeypatch.setattr("aurora_sync.engine.runners.topic._EVERY_MESSAGES", 3)
    monkeypatch.setattr("aurora_sync.engine.runners.member.PENDING_BYTES", 1)
    world = connected.world
    homes = {id_: murmur2(json.dumps({"id": id_}).encode()) % PARTITIONS for id_ in range(1, 21)}
    assert len(set(homes.values())) == PARTITIONS
    write(None, *[update(id_, "a", FAR + id_) for id_ in homes if homes[id_] > 1])
    world.execute("UPDATE t SET name = 'a'")
    connected.run(table)
    write(None, *[update(id_, "a", FAR + id_) for id_ in homes if homes[id_] < 2])
    for round_ in range(2, 4):
        receipt = connected.run(table)
        assert receipt.method.startswith("topic")
        assert not receipt.warnings
        world.assert_equal(table)
        # Transactions end in another order than they began.
        far = FAR + 100 * round_
        write(None, *[update(id_, "b", far - id_, commit=far + id_) for id_ in homes])
        world.execute("UPDATE t SET name = 'b'")
    assert connected.run(table).method.startswith("topic")
    world.assert_equal(table)
