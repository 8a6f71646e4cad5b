"""The server of the source restarts or crashes between chunks. With synchronous_commit = off, rows that a chunk has may
be gone, and their older versions are there again, in a chunk that is still to come."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from aurora_sync.model.certificate import Level
from aurora_sync.source import canary
from aurora_sync_tests.fixtures.private_server import PrivateServer
from aurora_sync_tests.scenarios.chunked_load.loads import ROWS, Killed, chunked, killed, loaded_partly, progress, wide
from aurora_sync_tests.scenarios.world import World

# Transactions, so that the counter of the server does not show that it went back.
OTHERS = "DO $$ BEGIN FOR i IN 1..100 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"


@pytest.fixture
def mortal(mortal_server: PrivateServer, tmp_path: Path, stage_url: str, store_environment: dict[str, str]) -> World:
    mortal_server.execute("CREATE DATABASE mortal TEMPLATE template0")
    return World(mortal_server.dsn("mortal"), stage_url, tmp_path / "warehouse.duckdb")


def test_load_goes_on_after_a_restart_and_merges(mortal: World, mortal_server: PrivateServer) -> None:
    wide(mortal)
    table = chunked()
    loaded_partly(mortal, table)
    mortal_server.stop()
    mortal_server.start()
    mortal.execute("UPDATE t SET v = 'new' WHERE id % 5 = 0", "DELETE FROM t WHERE id = 1")
    receipt = mortal.sync(table)
    assert receipt.load
    assert (receipt.load.first_run, receipt.load.merges) == (1, True)
    mortal.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED


@pytest.mark.parametrize("canaries", [True, False], ids=["", "no canary"])
def test_commit_that_a_chunk_saw_is_lost_in_a_crash(
    mortal: World, mortal_server: PrivateServer, canaries: bool
) -> None:
    """Appended, the older versions of five rows would double their keys. ``canaries`` notice the crash as well, and
    begin the load again; after a load of many rows by others they may not."""
    wide(mortal, "DELETE FROM t WHERE id <= 5", "VACUUM t", "CHECKPOINT")
    table = chunked()
    with mock.patch.object(canary, "pick", wraps=canary.pick if canaries else lambda *_, **__: ()):
        lost_in_a_crash(mortal, mortal_server, "UPDATE t SET v = repeat('y', 1000) || id WHERE id > 35")
        loaded_partly(mortal, table)
        assert mortal.target_rows(table)[(38, "y" * 1000 + "38")] == 1
        mortal_server.crash()
        mortal_server.start()
        assert mortal.execute("SELECT count(*)::int FROM t WHERE v LIKE 'y%'") == [(0,)]
        mortal.execute(OTHERS)
        receipt = mortal.sync(table)
    assert receipt.load
    assert receipt.load.merges is not canaries
    mortal.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED
    mortal.assert_verified(table)


def test_chunk_that_was_staged_before_the_crash_is_merged_after_a_later_one(
    mortal: World, mortal_server: PrivateServer
) -> None:
    wide(mortal, "DELETE FROM t WHERE id <= 5", "VACUUM t", "CHECKPOINT")
    table = chunked()
    with mock.patch.object(canary, "pick", return_value=()):
        lost_in_a_crash(mortal, mortal_server, "UPDATE t SET v = repeat('y', 1000) || id WHERE id > 35")
        loaded_partly(mortal, table, chunks=0)  # the first chunk is staged, and not in the target
        assert not progress(table, mortal.places).chunks_done
        mortal_server.crash()
        mortal_server.start()
        mortal.execute(OTHERS)
        receipt = mortal.sync(table)
    mortal.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED


def test_appended_rows_that_a_crash_took_leave_the_target(mortal: World, mortal_server: PrivateServer) -> None:
    wide(mortal, "CHECKPOINT", columns="id int, v text")
    table = chunked(append_only=True)
    lost_in_a_crash(mortal, mortal_server, "INSERT INTO t SELECT i, 'lost' FROM generate_series(41, 45) i")
    with killed("last", after=0), pytest.raises(Killed):
        mortal.sync(table)
    assert mortal.target_rows(table)[(45, "lost")] == 1
    mortal_server.crash()
    mortal_server.start()
    mortal.execute("INSERT INTO t VALUES (46, 'kept')")
    mortal.sync(table)
    mortal.assert_equal(table)
    assert mortal.target_rows(table).total() == ROWS + 1


def lost_in_a_crash(world: World, server: PrivateServer, *statements: str) -> None:
    """Run statements whose commits are visible, and lost in the next crash."""
    server.hold_flushes()
    world.execute("SET synchronous_commit = off", *statements)
