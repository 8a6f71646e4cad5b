"""A server that crashes, and one whose commits wait for a standby: they are in the log, but visible to nobody."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync_tests.fixtures.private_server import PrivateServer
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.logical.naive import NaiveTable
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def mortal(mortal_server: PrivateServer, tmp_path: Path, stage_url: str, store_environment: dict[str, str]) -> Streamed:
    mortal_server.execute("CREATE DATABASE mortal TEMPLATE template0")
    return Streamed(World(mortal_server.dsn("mortal"), stage_url, tmp_path / "warehouse.duckdb"))


def test_a_slot_that_went_back_in_a_crash_sends_again_and_nothing_is_applied_twice(
    mortal: Streamed, mortal_server: PrivateServer
) -> None:
    world, table = mortal.world, mortal.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t VALUES (1, 1)")
    mortal.setup(table)
    mortal.one(table)
    for number in range(2, 5):
        world.execute(
            f"INSERT INTO t VALUES ({number}, 0)",
            f"UPDATE t SET v = {number}, id = id + 100 WHERE id = {number}",
            f"INSERT INTO t VALUES ({number}, 1)",
        )
        assert mortal.one(table).method.startswith("stream")
        applied = mortal.slot()
        with world.session() as writer, writer.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            cursor.execute("INSERT INTO t VALUES (%s, 0)", (1000 + number,))
            writer.commit()
            mortal_server.crash(signal.SIGKILL)
        mortal_server.start()
        returned = mortal.slot()
        assert applied
        assert returned
        assert returned.confirmed <= applied.confirmed
        receipt = mortal.one(table)
        assert receipt.method.startswith("stream")
        world.assert_equal(table)


def test_rows_that_a_scan_saw_and_a_crash_took_leave_the_target(mortal: Streamed, mortal_server: PrivateServer) -> None:
    world, table = mortal.world, mortal.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    mortal.setup(table)
    mortal_server.hold_flushes()
    with world.session() as writer, writer.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("INSERT INTO t VALUES (2)")
        writer.commit()
        assert mortal.one(table).target_rows == 2
        mortal_server.crash(signal.SIGKILL)
    mortal_server.start()
    assert world.execute("SELECT count(*) FROM t") == [(1,)]  # the server flushed only what somebody waited for
    receipt = mortal.one(table, allow_deletes=True)
    assert receipt.method in ("horizon scan", "whole table")  # the latter when the transaction counter went back
    world.assert_equal(table)


def _a_commit_waits(server: PrivateServer) -> bool:
    """Return whether sessions already wait for the standby, which they learn some time after a reload. The query runs
    in a database that no slot reads."""
    with closing(psycopg2.connect(server.dsn())) as probe, probe.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
        cursor.execute("SELECT pg_logical_emit_message(true, 'probe', '')")
        commit = threading.Thread(target=probe.commit)
        commit.start()
        waits = f"FROM pg_stat_activity WHERE pid = {probe.info.backend_pid} AND wait_event = 'SyncRep'"
        while commit.is_alive():
            if server.execute(f"SELECT pg_cancel_backend(pid) {waits}"):  # cancels the wait, not the commit
                commit.join()
                return True
            time.sleep(0.02)
        return False


@contextmanager
def committed_and_unseen(server: PrivateServer, world: World, statement: str) -> Iterator[None]:
    """In the block, the transaction is in the log, and its commit waits for a standby that never comes."""
    waiting = "ALTER SYSTEM SET synchronous_standby_names = 'nobody'", "SELECT pg_reload_conf()"
    server.execute("ALTER SYSTEM SET synchronous_commit = 'local'", *waiting)
    while not _a_commit_waits(server):
        pass
    with closing(psycopg2.connect(world.dsn)) as writer, writer.cursor() as cursor:
        cursor.execute("SET synchronous_commit = on")
        cursor.execute(statement)
        commit = threading.Thread(target=writer.commit)
        commit.start()
        try:
            while world.execute("SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == []:
                time.sleep(0.02)
            yield
        finally:
            server.execute("ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
            commit.join()


def test_a_commit_that_nobody_sees_yet_is_not_confirmed(mortal: Streamed, mortal_server: PrivateServer) -> None:
    """If it were confirmed, the slot would no longer have it, and a scan at that moment would not see it either."""
    world, table, other = mortal.world, mortal.table(), mortal.table("u")
    world.execute("CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE u (id int PRIMARY KEY)")
    mortal.setup(table, other)
    mortal.run(table, other)
    with committed_and_unseen(mortal_server, world, "INSERT INTO t VALUES (1)"):
        world.execute("INSERT INTO u VALUES (1)")
        mortal.run(table, other)
        assert world.execute("SELECT count(*) FROM t") == [(0,)]
        assert len(world.target_rows(table)) == 1  # the stream shows it before sessions do
        assert world.sync(table, reconcile=True, allow_deletes=True).target_rows == 0
    receipts = mortal.run(table, other)
    assert receipts["public.t"].method.startswith("stream")
    for each in (table, other):
        world.assert_equal(each)


def test_naive_confirmation_loses_that_commit(mortal: Streamed, mortal_server: PrivateServer) -> None:
    """The slot is confirmed up to everything that was read, and then the table is copied."""
    world, table = mortal.world, mortal.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)")
    mortal.setup(table)
    mortal.one(table)
    with committed_and_unseen(mortal_server, world, "INSERT INTO t VALUES (1)"):
        assert mortal.one(table).changed
        with connect(world.dsn) as connection:
            mark, _ = slot.mark(connection)
            slot.advance(connection, mortal.name, mark)
        copied = world.execute("SELECT * FROM t")
    with connect(world.dsn) as connection:
        mark, _ = slot.mark(connection)
        ((oid,),) = world.execute("SELECT 't'::regclass::oid")
        streamed = NaiveTable(width=1)
        slot.drain(world.dsn, mortal.name, mortal.name, mark, {oid: streamed})
    assert (copied, streamed.rows) == ([], {})
    assert world.execute("SELECT count(*) FROM t") == [(1,)]
