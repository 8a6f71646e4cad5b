"""A load in chunks loses no row beside writers of every kind, wherever it is killed, under every strategy."""

from __future__ import annotations

import pytest

from aurora_sync_tests.scenarios.chunked_load.trial import KINDS, STREAMS, Trial
from aurora_sync_tests.scenarios.world import World

QUICK = {"xmin": 5, "append": 2, "outbox": 3, "logical": 4}


@pytest.mark.parametrize("kind", QUICK)
def test_load_is_equal_beside_writers_and_kills(world: World, kind: str) -> None:
    trial = Trial(world, kind, QUICK[kind])
    trial.run()
    assert trial.kills
    assert trial.statements > 20


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("passes", [False, True], ids=["", "passes"])
@pytest.mark.parametrize("kind", KINDS)
def test_load_is_equal_in_many_trials(world: World, kind: str, passes: bool, seed: int) -> None:
    Trial(world, kind, 100 + seed, passes=passes).run()


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("append", *STREAMS)])
def test_load_over_older_rows_is_equal_in_many_trials(world: World, kind: str, seed: int) -> None:
    Trial(world, kind, 200 + seed, again=True).run()
