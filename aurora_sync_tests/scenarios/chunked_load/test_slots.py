"""A slot flows while one of its tables, or its only one, is loaded in chunks."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.engine.lease import Lease
from aurora_sync.model.certificate import Level
from aurora_sync_tests.scenarios.chunked_load.loads import CHUNK, Killed, killed, once, wide
from aurora_sync_tests.scenarios.logical.conftest import Streamed, streamed  # noqa: F401
from aurora_sync_tests.scenarios.world import World

NEW = "INSERT INTO t VALUES (100, 'new')", "UPDATE t SET v = 'new' WHERE id % 4 = 0", "DELETE FROM t WHERE id = 1"


def table(streamed: Streamed) -> Any:  # noqa: F811
    return streamed.table("t", load=CHUNK)


def confirmed(streamed: Streamed) -> int:  # noqa: F811
    found = streamed.slot()
    assert found
    return found.confirmed


def position(world: World) -> int:
    ((lsn,),) = world.execute("SELECT (pg_current_wal_lsn() - '0/0')::bigint")
    return int(lsn)


def streams_on(streamed: Streamed, loaded: Any) -> None:  # noqa: F811
    """Assert that the table is equal, and that its changes come by the stream from now on."""
    world = streamed.world
    world.assert_equal(loaded)
    world.execute("UPDATE t SET v = 'streamed' WHERE id = 9", "DELETE FROM t WHERE id = 10")
    assert streamed.one(loaded).method.startswith("stream")
    world.assert_equal(loaded)
    world.assert_verified(loaded)


def test_slot_whose_only_table_loads_is_confirmed(streamed: Streamed) -> None:  # noqa: F811
    world, loaded = streamed.world, table(streamed)
    wide(world)
    streamed.setup(loaded)
    with killed(after=1), pytest.raises(Killed):
        streamed.one(loaded)
    world.execute(*NEW)
    mark = position(world)
    before = confirmed(streamed)
    with killed(after=1), pytest.raises(Killed):
        streamed.one(loaded)
    assert confirmed(streamed) >= mark > before
    assert streamed.one(loaded).certificate.level is Level.CERTIFIED
    streams_on(streamed, loaded)


def test_slot_of_two_tables_is_confirmed_while_one_loads(streamed: Streamed) -> None:  # noqa: F811
    world, loaded, other = streamed.world, table(streamed), streamed.table("u", load={})
    wide(world, "CREATE TABLE u (id int PRIMARY KEY, v text)", "INSERT INTO u VALUES (1, 'a')")
    streamed.setup(loaded, other)
    with killed(after=1), pytest.raises(Killed):
        streamed.run(loaded, other)
    with Lease(world.places.stage.store, loaded, "somebody") as lease:
        for number in range(2, 5):
            world.execute(f"INSERT INTO u VALUES ({number}, 'b')", f"UPDATE t SET v = 'u{number}' WHERE id = {number}")
            mark = position(world)
            receipts = streamed.run(loaded, other)
            assert receipts["public.u"].method.startswith("stream")
            assert receipts["public.t"].certificate.level is Level.UNCERTIFIED
            world.assert_equal(other)
            assert confirmed(streamed) >= mark
    lease.release()
    streamed.run(loaded, other)
    world.assert_equal(other)
    streams_on(streamed, loaded)


def test_slot_is_confirmed_by_another_run_behind_the_snapshot_of_the_last_run(streamed: Streamed) -> None:  # noqa: F811
    """The other run discards changes that this load has not seen: they must come by a scan."""
    world, loaded, other = streamed.world, table(streamed), streamed.table("u", load={})
    wide(world, "CREATE TABLE u (id int PRIMARY KEY, v text)", "INSERT INTO u VALUES (1, 'a')")
    streamed.setup(loaded, other)
    streamed.one(other)

    def another_run() -> None:
        world.execute(*NEW, "INSERT INTO u VALUES (2, 'b')")
        streamed.one(other)
        world.execute(f"SELECT pg_replication_slot_advance('{streamed.name}', pg_current_wal_lsn())")

    with once("last", another_run):
        streamed.one(loaded)
    streamed.run(loaded, other)
    world.assert_equal(other)
    streams_on(streamed, loaded)
