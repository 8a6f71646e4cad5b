"""One backend is killed: the postmaster restarts all others and recovers, while its own start time stays the same.

The server then assigns transaction ids again whose WAL was not flushed, below a horizon that was already read.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.embedded.stack import DATABASE, Stack
from aurora_sync.strategies import identity
from aurora_sync_tests.fixtures import wal_writer
from aurora_sync_tests.fixtures.local_stack import switch_autovacuum_off
from aurora_sync_tests.scenarios.world import World, config

TABLE = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, updated_at timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO t (v) VALUES ('first');
"""
TABLES = [
    config(target_table="by_xmin"),
    config(watermark_type="integer", watermark_col="id", target_table="by_id"),
    config(watermark_type="timestamp", watermark_col="updated_at", target_table="by_time"),
]


@pytest.fixture
def mortal(tmp_path: Path, stage_url: str, store_environment: dict[str, str]) -> Iterator[World]:
    """Yield a world on its own server, which flushes commits and may crash."""
    stack = Stack(tmp_path / "stack")
    try:
        stack.start()
        switch_autovacuum_off(stack.superuser_dsn())
        yield World(stack.superuser_dsn(DATABASE), stage_url, tmp_path / "warehouse.duckdb")
    finally:
        stack.remove()


def kill_a_backend(world: World, held: int) -> None:
    """Kill a backend and wait until the server has recovered. ``held``: the WAL writer, which is stopped meanwhile."""
    with world.session() as victim, world.session() as witness:
        os.kill(victim.info.backend_pid, signal.SIGKILL)
        wal_writer.kill(held)
        while _answers(witness.cursor().execute):
            time.sleep(0.01)
    while not _answers(world.execute):
        time.sleep(0.01)


def _answers(execute: Callable[[str], object]) -> bool:
    try:
        execute("SELECT 1")
    except psycopg2.OperationalError:
        return False
    return True


@pytest.mark.parametrize("canaries", [0, identity.CANARIES])
def test_row_whose_transaction_id_was_used_before_the_crash_is_exported(
    mortal: World, canaries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without canaries the run steps back by a margin; with them, vanished rows show that history was rewritten."""
    monkeypatch.setattr(identity, "CANARIES", canaries)
    mortal.execute(TABLE, "CHECKPOINT")
    held = wal_writer.hold(mortal.dsn)
    started = mortal.execute("SELECT pg_postmaster_start_time()")
    with closing(psycopg2.connect(mortal.dsn, options="-c synchronous_commit=off")) as hasty:
        hasty.autocommit = True
        for _ in range(5):  # committed and visible, but gone after the crash
            hasty.cursor().execute("INSERT INTO t (v) VALUES ('vanishes')")
        before = [mortal.sync(table).watermark_after.snapshot for table in TABLES]
        kill_a_backend(mortal, held)
    assert mortal.execute("SELECT pg_postmaster_start_time()") == started
    assert mortal.execute("SELECT v FROM t") == [("first",)]
    mortal.execute("INSERT INTO t (v) VALUES ('reused')")
    ((reused,),) = mortal.execute("SELECT xmin::text::bigint FROM t WHERE v = 'reused'")
    assert reused < min(snapshot.xmin for snapshot in before)  # the horizon alone would skip this row
    while mortal.execute("SELECT pg_current_xact_id()::text::bigint")[0][0] <= max(s.xmax for s in before):
        pass  # the counter is past the watermark, so nothing shows that it went back
    for table in TABLES:
        receipt = mortal.sync(table)
        (finding,) = receipt.certificate.findings
        assert finding.event == ("canary changed" if canaries else "restart")
        mortal.assert_equal(table)  # rows that vanished in the crash were exported, and are removed too
