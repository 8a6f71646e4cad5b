"""Changes of a table between two runs besides inserts: TRUNCATE, sequences set back, numbers out of order."""

from __future__ import annotations

import threading
import time

import pytest

from aurora_sync_tests.scenarios.world import World, config

TABLE = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, updated_at timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO t (v) SELECT 'old ' || n FROM generate_series(1, 10) n;
"""
STRATEGIES = {
    "xmin": config(),
    "integer": config(watermark_type="integer", watermark_col="id"),
    "timestamp": config(watermark_type="timestamp", watermark_col="updated_at"),
    "composite": config(watermark_type="composite", watermark_cols=["updated_at", "id"]),
}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


@each_strategy
@pytest.mark.parametrize("refilled", [3, 10, 30])
def test_rows_that_come_after_a_truncate_restart_identity_are_exported(
    world: World, strategy: str, refilled: int
) -> None:
    """Rows with numbers below the old maximum are exported even when the sequence has already passed it."""
    table = STRATEGIES[strategy]
    world.execute(TABLE)
    world.sync(table)
    world.execute(
        "TRUNCATE t RESTART IDENTITY",
        f"INSERT INTO t (v) SELECT 'new ' || n FROM generate_series(1, {refilled}) n",
    )
    world.sync(table)
    missing = world.source_rows(table) - world.target_rows(table)
    if strategy == "integer":  # the strategy claims inserts only: an id that now belongs to another row is an update
        ids = {row[0] for row in world.target_rows(table)}
        assert ids >= set(range(1, refilled + 1))
        missing = missing.__class__({row: n for row, n in missing.items() if row[0] > 10})
    assert not missing


def test_rows_reinserted_below_a_fence_after_a_truncate_are_exported(world: World) -> None:
    """The first ten rows are removed from the target too, so a missing row was never read."""
    table = STRATEGIES["integer"]
    world.execute(TABLE, "DELETE FROM t WHERE id < 10")
    world.sync(table)
    world.execute("TRUNCATE t RESTART IDENTITY", "INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 30)")
    receipt = world.sync(table)
    assert receipt.method == "horizon scan"
    world.assert_equal(table)


def test_rows_below_an_explicit_number_are_exported(world: World) -> None:
    """One row with a huge number makes MAX(id) unreachable for the sequence."""
    table = STRATEGIES["integer"]
    world.execute(TABLE)
    world.sync(table)
    world.execute("INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (2999, 'poison')")
    world.sync(table)
    world.execute("INSERT INTO t (v) VALUES ('b')")
    world.sync(table)
    world.assert_equal(table)
    world.execute("INSERT INTO t (v) VALUES ('c')")
    world.sync(table)
    world.assert_equal(table)


@each_strategy
def test_truncate_during_a_read_does_not_take_its_rows(world: World, strategy: str) -> None:
    """TRUNCATE is not transactional for older snapshots, so it must wait for the read's lock."""
    table = STRATEGIES[strategy]
    world.execute(TABLE)
    truncated = threading.Thread(target=world.execute, args=("TRUNCATE t",))
    with world.places.source.reading("public", "t") as reading:
        reading.observe(None, max_minutes=1)
        truncated.start()
        while not world.execute("SELECT 1 FROM pg_locks WHERE relation = 't'::regclass AND NOT granted"):
            assert truncated.is_alive(), "TRUNCATE did not wait for the read"
            time.sleep(0.01)
        assert reading.count(None) == 10
    truncated.join()
    receipt = world.sync(table)
    assert receipt.rows_exported == 0
