"""The order of the statements of a read: what a fence reads before the snapshot, and what it reads in it."""

from __future__ import annotations

import threading
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from aurora_sync.errors import DefectError
from aurora_sync.model.fences import (
    ClockFence,
    ClockRequest,
    Fence,
    FenceRequest,
    LockFence,
    LockRequest,
    OutboxFence,
    OutboxRequest,
    SlotFence,
    SlotRequest,
)
from aurora_sync.objects.store import Store
from aurora_sync.source.connection import PinnedCursor
from aurora_sync.source.fences import _READERS
from aurora_sync_tests.scenarios.world import World, config

# A text that only this statement contains, and the purpose of the statement.
STATEMENTS = {
    "FROM pg_stat_activity WHERE datname": "clock",
    'max("id")': "maximum",
    "virtualtransaction FROM pg_locks": "holders",
    "pg_sequence_last_value": "last value",
    "pg_replication_slots": "slot",
    "x.transactionid": "writers",
    "relfilenode, string_agg(t.attached": "members",
    "WITH RECURSIVE used(oid)": "names",
    "pg_prepared_xacts WHERE": "open",
    "pg_control_system": "server",
    "LOCK TABLE": "lock",
    "pg_snapshot_xmin": "snapshot",
    "pg_current_wal_insert_lsn": "position",
    "SELECT pg_current_snapshot()": "snapshot as text",
    '"aurora_sync_emptied"::text': "emptied",
    "SELECT EXISTS (SELECT FROM": "forged",
}
IN_THE_SNAPSHOT = ["lock", "snapshot", "members", "names"]


@pytest.mark.parametrize(
    ("request_", "kind", "before", "inside"),
    [
        (None, None, [], []),
        (ClockRequest(), ClockFence, ["clock"], []),
        (LockRequest("id"), LockFence, ["maximum", "members", "holders", "last value"], []),
        (SlotRequest("tables"), SlotFence, ["names", "slot", "members", "writers"], ["position"]),
        (OutboxRequest(), OutboxFence, [], ["snapshot as text", "emptied", "forged"]),
    ],
)
def test_a_fence_is_looked_at_before_the_snapshot_and_in_it(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    request_: FenceRequest | None,
    kind: type[Fence] | None,
    before: list[str],
    inside: list[str],
) -> None:
    world.execute("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY)")
    world.make(config("t", "outbox"))
    world.execute(
        "CREATE PUBLICATION tables FOR TABLE t", "SELECT pg_create_logical_replication_slot('tables', 'pgoutput')"
    )
    alone: list[str] = []
    together: list[str] = []

    def execute(self: Any, query: str | sql.Composable, vars: Any = None) -> None:
        text = query if isinstance(query, str) else query.as_string(self)
        idle = self.connection.get_transaction_status() == TRANSACTION_STATUS_IDLE
        (alone if idle else together).extend(name for part, name in STATEMENTS.items() if part in text)
        psycopg2.extensions.cursor.execute(self, self._pinned(query), vars)

    try:
        with world.places.source.reading("public", "t") as reading, monkeypatch.context() as patch:
            patch.setattr(PinnedCursor, "execute", execute)
            at = reading.observe(request_, max_minutes=1)
    finally:
        world.execute("SELECT pg_drop_replication_slot('tables')")
    assert alone == [*before, "open", "server"]
    assert together == [*IN_THE_SNAPSHOT, *inside]
    if kind:
        assert isinstance(at.seen(kind), kind)
    other = LockFence if kind is not LockFence else ClockFence
    with pytest.raises(DefectError, match=f"{other.__name__} was not observed"):
        at.seen(other)


def test_rows_are_counted_while_they_are_uploaded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1), (2)")
    counted = threading.Event()
    execute, put_new = PinnedCursor.execute, Store.put_new

    def counts(self: PinnedCursor, query: str | sql.Composable, *arguments: Any) -> None:
        execute(self, query, *arguments)
        if isinstance(query, sql.Composable) and "count(*)" in query.as_string(self):
            counted.set()

    def waits(self: Store, key: str, body: bytes) -> None:
        assert "/part-" not in key or counted.wait(20)
        put_new(self, key, body)

    monkeypatch.setattr(PinnedCursor, "execute", counts)
    monkeypatch.setattr(Store, "put_new", waits)
    receipt = world.sync(config())
    assert (receipt.rows_exported, receipt.source_rows) == (2, 2)


def test_every_request_has_an_answer() -> None:
    assert _READERS.keys() == set(FenceRequest.__subclasses__())
