"""Two runs of one table at the same time: one wins, the other fails or starts again, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import RivalRunError
from aurora_sync.model.export import Exported
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.receipt import Receipt
from aurora_sync.source.reading import Reading
from aurora_sync.warehouse import apply, sync_log
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import Layout
from aurora_sync_tests.scenarios.world import World, config

INSERT = "INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 5)"
TABLES = {
    "upsert": config(),
    "append": config(append_only=True),
    "replace": config(watermark_type="full_snapshot"),
}


@pytest.fixture
def during_copy(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Run an event once, after the snapshot of the next read."""

    def arrange(event: Callable[[], object]) -> None:
        original = Reading.export
        pending = [event]

        def export(self: Reading, *arguments: object, **keywords: object) -> Exported:
            if pending:
                pending.pop()()
            return original(self, *arguments, **keywords)  # type: ignore[arg-type]

        monkeypatch.setattr(Reading, "export", export)

    return arrange


@pytest.mark.parametrize("kind", TABLES)
def test_older_snapshot_never_overwrites_the_newer_one(
    world: World, kind: str, during_copy: Callable[[Callable[[], object]], None]
) -> None:
    """A run is overtaken between its snapshot and its merge."""
    table = _synced(world, kind)
    world.execute(INSERT)

    def overtake() -> None:
        world.execute(*([INSERT] if kind == "append" else [INSERT, "UPDATE t SET v = 'newest'"]))
        assert world.sync(table).run_sequence == 2

    during_copy(overtake)
    world.sync(table)  # it starts from the hint, and again from the log
    world.assert_equal(table)
    assert world.run_sequences(table) in ([1, 2], [1, 2, 3])


@pytest.mark.parametrize("kind", TABLES)
def test_overtaken_run_that_started_from_the_log_says_so(
    world: World, kind: str, during_copy: Callable[[Callable[[], object]], None]
) -> None:
    table = _synced(world, kind)
    world.execute(INSERT)
    world.places.stage.store.delete([key for key in world.objects() if "applied/" in key])
    during_copy(lambda: world.sync(table))
    with pytest.raises(RivalRunError) as raised:
        world.sync(table)
    assert raised.value.kind.retry
    world.assert_equal(table)
    assert world.run_sequences(table) == [1, 2]
    assert world.staging_tables() == []


def _without_fence(session: Session, layout: Layout, manifest: Manifest, log_schema: str) -> Any:
    return sync_log.newest_of(session, layout.target, log_schema, marks=layout.marks)


@pytest.mark.parametrize("kind", TABLES)
def test_without_the_fence_the_older_snapshot_overwrites_the_newer_one(
    world: World, kind: str, during_copy: Callable[[Callable[[], object]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the fence, the two cases above would set updates back, and duplicate or delete rows."""
    table = _synced(world, kind)
    world.execute(INSERT)

    def overtake() -> None:
        world.execute(*([INSERT] if kind == "append" else [INSERT, "UPDATE t SET v = 'newest'"]))
        world.sync(table)
        monkeypatch.setattr(sync_log, "advance", _without_fence)
        monkeypatch.setattr(apply, "_assert_as_it_was_left", lambda *_: None)

    during_copy(overtake)
    world.sync(table, allow_deletes=True)
    assert world.target_rows(table) != world.source_rows(table)


@pytest.mark.parametrize("kind", TABLES)
def test_runs_that_race_each_other_lose_nothing(world: World, kind: str) -> None:
    table = _synced(world, kind)
    start = threading.Barrier(3)

    def run() -> Receipt | RivalRunError:
        start.wait()
        try:
            return World(world.dsn, world.stage_url, world.warehouse_path).sync(table)
        except RivalRunError as error:
            return error

    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            world.execute(INSERT)
            outcomes = [future.result() for future in [pool.submit(run) for _ in range(3)]]
            assert any(isinstance(outcome, Receipt) for outcome in outcomes)
            world.assert_equal(table)
    sequences = world.run_sequences(table)
    assert sequences == list(range(1, len(sequences) + 1))


def _synced(world: World, kind: str) -> TableConfig:
    table = TABLES[kind]
    world.execute(f"CREATE TABLE t (id serial {'' if kind == 'append' else 'PRIMARY KEY'}, v text)", INSERT)
    world.sync(table)
    return table
