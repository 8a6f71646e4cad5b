"""No strategy loses a row when writers commit out of order; every naive cursor does."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from aurora_sync_tests.scenarios.random_writers import soak
from aurora_sync_tests.scenarios.random_writers.replicas import Difference
from aurora_sync_tests.scenarios.random_writers.trial import IDS, Outcome, Trial, trial
from aurora_sync_tests.scenarios.world import World


@pytest.mark.parametrize("ids", IDS)
def test_no_strategy_loses_a_row_and_every_naive_cursor_does(world: World, other_dsn: str, ids: str) -> None:
    seed = random.SystemRandom().randrange(10**6)
    done = trial(world, other_dsn, ids=ids, seed=seed, seconds=5, enough=lambda so_far: not so_far.tame)
    print(done)
    assert not done.lost(), {name: outcome.examples for name, outcome in done.ours.items()}
    assert not done.unused
    assert not done.tame, f"the writers were too tame: {done}"


@pytest.mark.long
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("ids", IDS)
def test_no_strategy_loses_a_row_in_many_trials(world: World, other_dsn: str, ids: str, number: int) -> None:
    done = trial(world, other_dsn, ids=ids, seed=random.SystemRandom().randrange(10**6), seconds=8)
    print(done)
    assert not done.lost(), {name: outcome.examples for name, outcome in done.ours.items()}
    assert not done.unused


def outcome(*lost: str, certified: bool = True) -> Outcome:
    return Outcome(Difference(list(lost), [], []), list(lost), certified, [])


def verdict(ours: Outcome, naive: Outcome, seconds: float = 60) -> str | None:
    tally = soak.Tally()
    tally.add(Trial("identity", 1, 10, {"xmin": ours}, {"xmin": replace(naive, certified=False)}))
    return tally.verdict(seconds)


def test_soak_fails_when_a_certified_strategy_lost_a_row() -> None:
    assert verdict(outcome(), outcome("7")) is None
    assert verdict(outcome("7"), outcome("7")) == "certified, and lost rows: xmin"
    assert verdict(outcome("7", certified=False), outcome("7")) is None


def test_soak_of_a_minute_fails_when_its_writers_were_too_tame() -> None:
    assert "too tame" in str(verdict(outcome(), outcome()))
    assert verdict(outcome(), outcome(), seconds=10) is None
