"""A verification applies the messages of the topic, finds what the topic lacks, and repairs nothing."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.engine.runners import topic
from aurora_sync.errors import NotComparedError
from aurora_sync_tests.scenarios.debezium.conftest import Connected

CREATE = ("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT g, 'a' FROM generate_series(1, 9) g")


def test_connector_that_skips_updates_is_found_each_time(connected: Connected) -> None:
    world, table = connected.world, connected.table()
    world.execute(*CREATE)
    connected.setup(table)
    with pytest.raises(NotComparedError, match="the table was never synced"):
        world.verify(table)
    connected.start(table, **{"skipped.operations": "u"})
    connected.run(table)
    world.execute("UPDATE t SET v = 'skipped' WHERE id < 4", "DELETE FROM t WHERE id = 9")
    for number in (10, 11):
        world.execute(f"INSERT INTO t VALUES ({number}, 'new')")
        connected.catch_up()
        receipt = world.verify(table)
        found = receipt.verification
        assert found
        assert (receipt.inserted, receipt.updated) == (1, 0)
        assert (found.missing, found.different, found.ghosts, found.repair) == (0, 3, 0, "reconcile")
        assert "every change that the connector had written to topic" in found.caveat
    world.sync(table, reconcile=True)
    world.assert_verified(table)


def test_what_the_snapshot_does_not_see_is_left_to_the_next_run(
    connected: Connected, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, table = connected.world, connected.table()
    world.execute(*CREATE)
    connected.setup(table)
    connected.start(table)
    connected.run(table)
    world.execute("UPDATE t SET v = 'b' WHERE id = 1")
    connected.catch_up()
    read = topic._read

    def later(*arguments: Any) -> object:
        world.execute("UPDATE t SET v = 'late' WHERE id < 3", "DELETE FROM t WHERE id = 9")
        connected.catch_up()
        return read(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(topic, "_read", later)
        receipt = world.verify(table)
    assert receipt.verification
    assert receipt.verification.equal
    assert (receipt.updated, receipt.deleted) == (1, 0)
    receipt = connected.run(table)
    assert (receipt.method[:5], receipt.updated, receipt.deleted) == ("topic", 2, 1)
    world.assert_verified(table)
