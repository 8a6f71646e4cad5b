"""PostgreSQL crashes during writes and syncs, recovers from its WAL, and continues.

Transaction ids that are in no flushed WAL record are assigned again. With synchronous_commit=off, rows that were
committed, visible and exported are gone.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from aurora_sync.errors import Kind, SourceError
from aurora_sync.strategies import clock
from aurora_sync_tests.fixtures.private_server import PrivateServer
from aurora_sync_tests.scenarios.crash_of_the_server.writers import CRASHES, StubbornWriters
from aurora_sync_tests.scenarios.random_writers.replicas import Difference, Naive, compare, naive_replicas
from aurora_sync_tests.scenarios.random_writers.writers import TABLE
from aurora_sync_tests.scenarios.world import World, config

# The table of each strategy, and the changes that it claims to find.
TABLES = {
    "xmin": (config(target_table="by_xmin"), ("inserts", "updates")),
    "integer": (config(watermark_type="integer", watermark_col="id", target_table="by_id"), ("inserts",)),
    "timestamp": (
        config(watermark_type="timestamp", watermark_col="updated_at", target_table="by_time"),
        ("inserts", "updates"),
    ),
    "full_snapshot": (
        config(watermark_type="full_snapshot", target_table="whole"),
        ("inserts", "updates", "deletes"),
    ),
}
CRASHED = 3


@pytest.fixture
def mortal(mortal_server: PrivateServer, tmp_path: Path, stage_url: str, store_environment: dict[str, str]) -> World:
    """Return a world whose source may crash; stage and warehouse do not."""
    mortal_server.execute("CREATE DATABASE mortal TEMPLATE template0")
    return World(mortal_server.dsn("mortal"), stage_url, tmp_path / "warehouse.duckdb")


def crash_again_and_again(
    server: PrivateServer, dice: random.Random, journal: set[tuple[int, int]], done: threading.Event, *, loses: bool
) -> None:
    """Crash the server several times. Each crash follows a commit that is flushed only if it waits for the flush.
    ``loses``: repeat until one such commit is lost; a writer that waits for its own commit may flush it."""
    lost = 0
    try:
        for number in range(CRASHED) if not loses else itertools.count():
            time.sleep(0.7 + dice.random())
            server.hold_flushes()
            server.execute(f"INSERT INTO history VALUES (-1, {number})", database="mortal")
            journal.add((-1, number))
            server.crash(dice.choice([signal.SIGQUIT, signal.SIGKILL]))
            time.sleep(dice.random() / 4)
            server.start()
            found = server.execute(f"SELECT 1 FROM history WHERE (writer, n) = (-1, {number})", database="mortal")
            lost += not found
            if number + 1 >= CRASHED and lost:
                break
        time.sleep(0.5)
    finally:
        done.set()


def write_sync_and_crash(
    world: World, server: PrivateServer, *, loses: bool = False
) -> tuple[dict[str, Difference], int]:
    """Return how each target, and that of the naive xmin, finally differs from the recovered source; and how many
    acknowledged statements are missing there."""
    seed = random.SystemRandom().randrange(10**6)
    dice = random.Random(seed)
    world.execute(TABLE.format(id="GENERATED ALWAYS AS IDENTITY", cache=1), "CHECKPOINT")
    naive = naive_replicas(world.dsn)["xmin"]
    writers = StubbornWriters(world.dsn, seed, threads=4)
    done = threading.Event()
    crasher = threading.Thread(
        target=crash_again_and_again, args=(server, dice, writers.journal, done), kwargs={"loses": loses}
    )
    interrupted: Counter[str] = Counter()
    writers.start()
    crasher.start()
    try:
        while not done.is_set():
            for name, (table, _) in TABLES.items():
                try:
                    world.sync(table)
                except SourceError as error:
                    if error.kind is not Kind.TRANSIENT:
                        raise
                    interrupted[name] += 1
            _sync_if_up(naive)
    finally:
        crasher.join()
        writers.stop()
    for table, _ in TABLES.values():
        world.sync(table)
    naive.sync()
    truth = {str(id_): (v, 1) for id_, v in world.execute("SELECT id, v FROM t")}
    history = set(world.execute("SELECT writer, n FROM history"))
    found = {"naive xmin": compare(naive.held(), truth)}
    for name, (table, _) in TABLES.items():
        rows = world.target_rows(table)
        held = {str(id_): (v, times) for (id_, v, _), times in rows.items()}
        assert len(held) == len(rows)
        found[name] = compare(held, truth)
    counts = {name: tuple(map(len, (d.missing, d.stale, d.ghosts))) for name, d in found.items()}
    print(
        f"seed {seed}: {len(writers.journal)} statements acknowledged, {len(writers.journal - history)} of them gone,"
        f" {sum(interrupted.values())} syncs interrupted; (missing, stale, ghosts): {counts}"
    )
    return found, len(writers.journal - history)


def _sync_if_up(naive: Naive) -> None:
    try:
        naive.sync()
    except CRASHES:
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def _narrow_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Narrow the margin of the clock fence, which would cover a whole test."""
    monkeypatch.setattr(clock, "MARGIN", timedelta(milliseconds=50))


def test_nothing_acknowledged_is_missing_after_crashes(mortal: World, mortal_server: PrivateServer) -> None:
    found, gone = write_sync_and_crash(mortal, mortal_server)
    assert gone == 0
    for name, (_, changes) in TABLES.items():
        assert not found[name].of(*changes), (name, found[name])


def test_nothing_that_survived_is_missing_though_exported_rows_vanished(
    mortal: World, mortal_server: PrivateServer
) -> None:
    mortal_server.execute(
        "ALTER SYSTEM SET synchronous_commit = off",
        "SELECT pg_reload_conf()",
    )
    found, gone = write_sync_and_crash(mortal, mortal_server, loses=True)
    assert gone > 0
    for name, (table, changes) in TABLES.items():
        assert not found[name].of(*changes), (name, found[name])
        mortal.sync(table, reconcile=True)
        mortal.assert_equal(table)


def test_row_with_an_id_that_was_used_before_the_crash_is_exported_and_the_naive_cursor_loses_it(
    mortal: World, mortal_server: PrivateServer
) -> None:
    mortal.execute(TABLE.format(id="GENERATED ALWAYS AS IDENTITY", cache=1), "INSERT INTO t (v) VALUES ('first')")
    mortal_server.execute("CHECKPOINT")
    mortal_server.hold_flushes()
    naive = naive_replicas(mortal.dsn)["xmin"]
    # Transactions that write nothing still write an end record, which nobody waits for.
    mortal.execute("DO $$ BEGIN FOR i IN 1..1000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
    before = [mortal.sync(table).watermark_after.snapshot for table, _ in TABLES.values()]
    naive.sync()
    mortal_server.crash()
    mortal_server.start()

    mortal.execute("INSERT INTO t (v) VALUES ('used again')")
    ((reused,),) = mortal.execute("SELECT xmin::text::bigint FROM t WHERE v = 'used again'")
    assert reused < min(snapshot.xmin for snapshot in before)
    # The counter is past the watermarks at the next runs, so nothing shows that it went back.
    mortal.execute("DO $$ BEGIN FOR i IN 1..2000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")
    naive.sync()
    assert set(naive.rows.values()) == {"first"}
    for table, _ in TABLES.values():
        mortal.sync(table)
        mortal.assert_equal(table)
