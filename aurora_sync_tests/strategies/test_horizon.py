"""Tests of the horizon predicate: it selects every row written since, however far the counter has advanced."""

from __future__ import annotations

import random
from contextlib import closing
from itertools import pairwise

import psycopg2
from hypothesis import given
from hypothesis import strategies as st
from psycopg2 import sql

from aurora_sync.model.watermark import Snapshot
from aurora_sync.strategies import horizon
from aurora_sync.strategies.base import Since
from aurora_sync_tests.strategies.observations import NOON, at, rendered, since

CYCLE = 2**32
# Faults show near multiples of 2^32, and near half of 2^32, where age() changes its sign.
near_a_cycle = st.builds(
    lambda cycles, offset: max(3, cycles * (CYCLE // 2) + offset), st.integers(0, 12), st.integers(-2000, 2000)
)
xids = near_a_cycle | st.integers(3, 6 * CYCLE)


def selected(xid: int, h: int, newest: int) -> bool:
    """Return whether written_since(h) selects a row with this 64-bit transaction id."""
    return horizon.age(raw=xid % CYCLE, newest=newest) <= newest - h


@given(xids, xids, xids)
def test_row_written_at_or_after_the_horizon_is_always_selected(one: int, two: int, three: int) -> None:
    h, xid, newest = sorted((one, two, three))
    assert selected(xid, h, newest)


@given(xids, xids, xids)
def test_older_row_is_selected_only_when_it_is_2_32_transactions_old(one: int, two: int, three: int) -> None:
    xid, h, newest = sorted((one, two, three))
    if xid < h and selected(xid, h, newest):
        assert newest - xid >= CYCLE


@given(xids, st.lists(xids, min_size=2, max_size=6))
def test_disjoint_windows_select_a_row_of_less_than_2_32_transactions_exactly_once(xid: int, runs: list[int]) -> None:
    """The windows are [h1, h2), [h2, h3), ..., and the snapshots are taken at the horizons."""
    runs = sorted({max(run, xid + 1) for run in runs} | {xid})
    newest = runs[-1]
    if newest - xid >= CYCLE:
        return
    times = 0
    for low, high in pairwise(runs):
        age = horizon.age(raw=xid % CYCLE, newest=high)
        times += age <= high - low and age > high - high
    assert times == (1 if len(runs) > 1 else 0)


def test_postgresql_computes_the_same(dsn: str) -> None:
    seed = random.SystemRandom().randrange(10**6)
    dice = random.Random(seed)
    print(f"seed {seed}")
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        for _ in range(50):
            newest = dice.randrange(1, 8) * CYCLE // 2 + dice.randrange(-1000, 1000)
            h = max(3, newest - dice.choice([-1, 0, 5, 1000, CYCLE // 2, CYCLE - 1, CYCLE, CYCLE + 7]))
            rows = [max(3, newest - dice.choice([dice.randrange(2000), dice.randrange(3 * CYCLE)])) for _ in range(20)]
            moment = Snapshot(h, newest + 1, NOON)
            values = sql.SQL(", ").join(
                sql.SQL("({}::text::xid, {})").format(sql.Literal(str(x % CYCLE)), sql.Literal(x)) for x in rows
            )
            for where, expected in (
                (horizon.written_since(h, moment), {x for x in rows if selected(x, h, newest)}),
                (horizon.decided_before(moment), {x for x in rows if not selected(x, h, newest)}),
            ):
                cursor.execute(sql.SQL("SELECT x FROM (VALUES {}) AS t (xmin, x) WHERE {}").format(values, where))
                assert {x for (x,) in cursor.fetchall()} == expected


def first_read(standing: Since) -> int:
    """Return the first transaction id that a scan reads, when the newest one is 5,000,099."""
    where = rendered(standing.horizon_scan(at(xmin=5_000_100)))
    begin, end = "xidsend(xmin) BETWEEN xidsend('", "') AND xidsend('5000099')"
    assert (where[: len(begin)], where[-len(end) :]) == (begin, end)
    return int(where[len(begin) : -len(end)])


def test_restart_steps_back_by_the_margin() -> None:
    seen = at(xmin=5_000_000)
    assert first_read(since("xmin", {}, seen, restarted=True)) == 5_000_000 - horizon.RESTART_MARGIN
    assert first_read(Since(since("xmin", {}, seen).watermark)) == 5_000_000


def test_ids_that_a_crash_gives_out_again_are_read_after_a_restart() -> None:
    """A crash takes back ids whose WAL was not flushed, a few thousand: far fewer than the margin."""
    assert first_read(since("xmin", {}, at(xmin=5_000_000), restarted=True)) <= 5_000_000 - 100_000


def test_members_that_came_are_read_whole_and_members_that_went_are_not_looked_for() -> None:
    now = at(token={"members": {"16400": 1, "16500": 2}})
    assert horizon.new_members({"16400": 1, "16300": 9}, now) == [16500]
    assert rendered(horizon.or_new_members(sql.SQL("x"), [16500])) == "((x) OR tableoid IN (16500))"
    assert rendered(horizon.or_new_members(sql.SQL("x"), [])) == "x"
