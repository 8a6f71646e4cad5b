"""Chunks that are simply read one after the other lose rows, also with a catch-up by a horizon from the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aurora_sync.model.certificate import Level
from aurora_sync_tests.scenarios.chunked_load.loads import CHUNK, chunked, once, wide
from aurora_sync_tests.scenarios.chunked_load.naive import naive_losses
from aurora_sync_tests.scenarios.chunked_load.trial import Trial
from aurora_sync_tests.scenarios.world import World

BLOCKS = 8
# Rows of the last block move to the first block, which has room for them and was read before.
ROOM = "DELETE FROM t WHERE id <= 5", "VACUUM t"
MOVE = "UPDATE t SET v = repeat('y', 1500) || id WHERE id > 37"
MOVED = {38, 39, 40}


def naive(world: World) -> tuple[dict[int, str], dict[int, str]]:
    """Read the blocks one after the other, each in a snapshot of its own. Return the rows by their key; and the rows
    after a catch-up by the horizon of a snapshot that was taken after the last chunk."""
    held: dict[int, str] = {}
    for block in range(BLOCKS + 2):
        read = f"SELECT id, v FROM t WHERE ctid >= '({block},0)' AND ctid < '({block + 1},0)'"
        held |= dict(world.execute(read))
        if block == 0:
            world.execute(MOVE)
    ((horizon,),) = world.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    later = dict(world.execute(f"SELECT id, v FROM t WHERE xmin::text::bigint >= {horizon}"))
    return held, held | later


def test_naive_chunks_lose_rows_that_move_to_a_block_that_was_read(world: World) -> None:
    wide(world, *ROOM)
    without, late = naive(world)
    there = dict(world.execute("SELECT id, v FROM t"))
    assert there.keys() - without.keys() == MOVED
    assert there.keys() - late.keys() == MOVED


def test_load_keeps_rows_that_move_to_a_block_that_was_read(world: World) -> None:
    wide(world, *ROOM)
    table = chunked(load=CHUNK)
    with once("applied", lambda: world.execute(MOVE)):
        receipt = world.sync(table)
    assert world.execute(f"SELECT count(*)::int FROM t WHERE ctid < '(1,0)' AND id IN {tuple(MOVED)}") == [(3,)]
    world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED


def losses(world: World, kind: str, seed: int, folder: Path) -> dict[str, set[int]]:
    """Return what the naive loaders lose in a trial, after our load of the same seed was equal."""
    ours = replace(world, stage_url=f"{world.stage_url}/{seed}", warehouse_path=folder / f"{seed}.duckdb")
    Trial(ours, kind, seed).run()
    world.execute("DROP TABLE t", "DROP FUNCTION touch")
    lost = naive_losses(Trial(ours, kind, seed))
    world.execute("DROP TABLE t", "DROP FUNCTION touch")
    return lost


def test_naive_loaders_lose_rows_beside_random_writers_and_our_load_none(world: World, tmp_path: Path) -> None:
    lost = losses(world, "xmin", 2, tmp_path)
    assert lost["horizon"]
    assert lost["times"]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["xmin", "timestamp"])
def test_each_naive_loader_loses_rows_in_some_trials_and_our_load_in_none(
    world: World, kind: str, tmp_path: Path
) -> None:
    trials = [losses(world, kind, seed, tmp_path) for seed in range(12)]
    losing = {loader: sum(bool(lost[loader]) for lost in trials) for loader in trials[0]}
    assert all(losing.values()), losing
