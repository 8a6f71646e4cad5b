"""First run, empty table, no change, every row changed; and a hint that is right, old, ahead, broken or of another
target."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints
from aurora_sync.engine.plan import RunOptions, plan_increment
from aurora_sync.model.state import State
from aurora_sync.stage.writer import Stage
from aurora_sync.strategies import clock
from aurora_sync.warehouse import resume
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.world import World, config

TABLE = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, updated_at timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
"""
INSERT = "INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 5)"
UPDATE = "UPDATE t SET v = v || '!'"
CURSORS = {
    "xmin": config(),
    "append": config(append_only=True),
    "integer": config(watermark_type="integer", watermark_col="id"),
    "timestamp": config(watermark_type="timestamp", watermark_col="updated_at"),
    "composite": config(watermark_type="composite", watermark_cols=["updated_at", "id"]),
}
EVERY = {**CURSORS, "full_snapshot": config(watermark_type="full_snapshot")}


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the margin, so that the clock fence does not read the rows of the last minute again."""
    monkeypatch.setattr(clock, "MARGIN", timedelta(0))


def made_for(strategy: str) -> str:
    """Configure the table; append_only is only for tables without a key."""
    return TABLE.replace(" PRIMARY KEY", "") if strategy == "append" else TABLE


@pytest.mark.parametrize("strategy", EVERY)
def test_first_run_of_an_empty_table_makes_an_empty_target(world: World, strategy: str) -> None:
    table = EVERY[strategy]
    world.execute(made_for(strategy))
    receipt = world.sync(table)
    assert (receipt.run_sequence, receipt.changed, receipt.target_rows) == (1, True, 0)
    assert world.target_rows(table) == {}
    assert not world.sync(table).changed

    world.execute(INSERT)
    assert world.sync(table).inserted == 5
    world.assert_equal(table)


@pytest.mark.parametrize("strategy", CURSORS)
def test_run_without_changes_stages_nothing_and_wakes_no_warehouse(world: World, strategy: str) -> None:
    table = CURSORS[strategy]
    world.execute(made_for(strategy), INSERT)
    world.sync(table)
    objects, sessions = world.objects(), world.warehouse.sessions
    for _ in range(2):
        receipt = world.sync(table)
        assert not receipt.changed
        assert (receipt.run_sequence, receipt.rows_exported, receipt.target_rows) == (1, 0, 5)
    assert world.objects() == objects
    assert world.warehouse.sessions == sessions


@pytest.mark.parametrize("strategy", EVERY)
def test_run_in_which_every_row_changed_changes_every_row(world: World, strategy: str) -> None:
    table = EVERY[strategy]
    world.execute(made_for(strategy), INSERT)
    world.sync(table)
    world.execute(INSERT if strategy in ("append", "integer") else UPDATE)
    receipt = world.sync(table)
    assert receipt.inserted + receipt.updated == 5
    world.assert_equal(table)


def test_log_is_read_again_when_the_hint_is_an_hour_old(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _synced(world)
    sessions = world.warehouse.sessions
    monkeypatch.setattr(hints, "HEARTBEAT", timedelta(0))
    world.sync(table)
    assert world.warehouse.sessions == sessions + 1


def test_hint_older_than_the_log_costs_a_retry_and_no_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    table = _synced(world)
    world.execute(INSERT)
    with monkeypatch.context() as lost:
        lost.setattr(Stage, "confirm", lambda *_, **__: None)
        world.sync(table)
    world.execute(UPDATE)
    assert world.sync(table).run_sequence == 3
    world.assert_equal(table)


def test_hint_older_than_the_log_beside_a_target_of_its_former_size_costs_a_retry(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snowflake stores a small table in whole blocks, so an update may leave the number of bytes as it was."""
    monkeypatch.setattr(DuckDBSession, "size", lambda *_: (5, 1024))
    monkeypatch.setattr(hints, "HEARTBEAT", timedelta(0))
    table = _synced(world)
    world.sync(table)  # notes the size
    world.execute(UPDATE)
    with monkeypatch.context() as lost:
        lost.setattr(Stage, "confirm", lambda *_, **__: None)
        world.sync(table)
    world.execute(UPDATE)
    assert world.sync(table).run_sequence == 3
    world.assert_equal(table)


def test_size_is_never_younger_than_the_counts(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody edits the target while a run looks at it."""
    asked: list[str] = []

    def size(session: DuckDBSession, *_: str) -> tuple[int, int]:
        asked.append("size")
        return 5, 1024

    read = resume.read_state

    def counts(*arguments: Any, **options: Any) -> State:
        asked.append("counts")
        return read(*arguments, **options)

    monkeypatch.setattr(DuckDBSession, "size", size)
    monkeypatch.setattr(resume, "read_state", counts)
    monkeypatch.setattr(hints, "HEARTBEAT", timedelta(0))
    table = _synced(world)
    asked.clear()
    world.sync(table)
    assert asked == ["size", "counts"]


@pytest.mark.parametrize("sequence", [2, 99])
def test_hint_ahead_of_the_log_loses_no_row(world: World, sequence: int) -> None:
    """The target was restored: the hint's watermark is newer than the target."""
    table = _synced(world)
    world.execute(INSERT)
    with world.places.source.reading("public", "t") as reading:
        ahead = plan_increment(table, reading, State(0, None), RunOptions()).watermark
    world.execute(UPDATE.replace("v || '!'", "'later'") + " WHERE id = 1")
    _hint(world, table, State(sequence, ahead, "of another history", 10, datetime.now(UTC)))
    world.sync(table)
    world.assert_equal(table)


def test_hint_with_the_right_sequence_of_another_history_loses_no_row(world: World) -> None:
    table = _synced(world)
    world.execute(INSERT)
    with world.places.source.reading("public", "t") as reading:
        ahead = plan_increment(table, reading, State(0, None), RunOptions()).watermark
    world.execute("UPDATE t SET v = 'later' WHERE id = 1")
    _hint(world, table, State(1, ahead, "of another history", 10, datetime.now(UTC)))
    world.sync(table)
    world.assert_equal(table)


def test_hint_with_another_watermark_than_the_log_loses_no_row(world: World) -> None:
    """Somebody edited the hint: its sequence and its load id are right."""
    table = _synced(world)
    state = hints.read_state(table, world.places, trust_hint=False).state
    world.execute(INSERT)
    with world.places.source.reading("public", "t") as reading:
        ahead = plan_increment(table, reading, State(0, None), RunOptions()).watermark
    world.execute("UPDATE t SET v = 'later' WHERE id = 1")
    _hint(world, table, replace(state, watermark=ahead))
    world.sync(table)
    world.assert_equal(table)


@pytest.mark.parametrize("body", [b"", b"not json", b"{}", b'{"version": 2}'])
def test_broken_hint_is_no_hint(world: World, body: bytes) -> None:
    table = _synced(world)
    (key,) = [key for key in world.objects() if "applied/" in key]
    world.places.stage.store.delete([key])
    world.places.stage.store.put_new(key, body)
    world.execute(INSERT)
    assert world.sync(table).run_sequence == 2
    world.assert_equal(table)


def test_missing_hint_costs_a_look_at_the_log(world: World) -> None:
    table = _synced(world)
    world.places.stage.store.delete([key for key in world.objects() if "applied/" in key])
    sessions = world.warehouse.sessions
    assert not world.sync(table).changed
    assert world.warehouse.sessions == sessions + 1
    assert not world.sync(table).changed  # that read of the log left a hint
    assert world.warehouse.sessions == sessions + 1


def test_hint_of_another_source_database_reads_the_table_in_full(world: World, other_dsn: str) -> None:
    table = _synced(world)
    elsewhere = World(other_dsn, world.stage_url, world.warehouse_path)
    elsewhere.execute(TABLE, INSERT, UPDATE)
    receipt = elsewhere.sync(table)
    assert receipt.method == "whole table"
    assert "the database was recreated" in " ".join(receipt.warnings)
    elsewhere.assert_equal(table)


@pytest.mark.closes_warehouse
def test_hint_against_an_empty_log_reads_the_table_in_full(world: World, tmp_path: Path) -> None:
    """The warehouse was recreated under the same name."""
    table = _synced(world)
    world.warehouse_path.unlink()
    world.execute(INSERT)
    assert world.sync(table).run_sequence == 1
    world.assert_equal(table)


def test_hint_of_another_warehouse_is_not_ours(world: World, tmp_path: Path) -> None:
    table = _synced(world)
    elsewhere = World(world.dsn, world.stage_url, tmp_path / "another.duckdb")
    assert elsewhere.sync(table).rows_exported == 5
    elsewhere.assert_equal(table)


def test_target_that_was_dropped_is_filled_again_and_not_with_the_changes_only(world: World) -> None:
    table = _synced(world)
    world.query('DROP TABLE "PUBLIC"."T"')
    world.execute("UPDATE t SET v = 'changed' WHERE id = 1")
    receipt = world.sync(table)
    assert (receipt.run_sequence, receipt.rows_exported) == (2, 5)
    world.assert_equal(table)


def test_two_targets_of_one_table_go_their_own_ways(world: World) -> None:
    """Neither target uses the other's hint: a newer watermark would hide rows from the target that is behind."""
    one = _synced(world)
    other = config(target_table="other")
    assert world.sync(other).rows_exported == 5
    for _ in range(2):
        world.execute(INSERT)
        world.sync(one)
    world.sync(other)
    world.assert_equal(one)
    world.assert_equal(other)
    sessions = world.warehouse.sessions
    assert not world.sync(one).changed
    assert not world.sync(other).changed
    assert world.warehouse.sessions == sessions


def _synced(world: World) -> TableConfig:
    table = CURSORS["xmin"]
    world.execute(TABLE, INSERT)
    assert world.sync(table).run_sequence == 1
    return table


def _hint(world: World, table: TableConfig, state: State) -> None:
    world.places.stage.confirm(hints._hint_name(table), state, None)


@pytest.mark.closes_warehouse
def test_idle_table_scans_once_where_the_fence_of_its_watermark_is_of_no_use(world: World) -> None:
    """An earlier release wrote the watermark, without the clock of the runner. The next watermark is stored even
    without changes."""
    world.execute(TABLE, INSERT)
    table = CURSORS["timestamp"]
    world.sync(table)
    log = f'"{world.places.log_schema}"."SYNC_LOG"'
    with duckdb.connect(str(world.warehouse_path)) as connection:
        connection.execute(
            f"""UPDATE {log} SET "WATERMARK" = regexp_replace("WATERMARK", '"clock_offset": [^]]*]',"""
            """ '"clock_offset": null')"""
        )
    world.places.stage.store.delete(world.objects())
    assert [world.sync(table).method for _ in range(3)] == ["horizon scan", "clock fence", "clock fence"]
    assert world.run_sequences(table) == [1, 2]
