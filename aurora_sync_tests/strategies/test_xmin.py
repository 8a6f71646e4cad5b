"""Tests of the xmin strategy: the horizon scan, and the cases in which an append is unsafe."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies.base import Since
from aurora_sync.strategies.xmin import Xmin
from aurora_sync_tests.strategies.observations import at, column, config, rendered, since, table

STRATEGY = Xmin()
TABLE = table(column("id", "int8"))
APPEND = config("xmin", append_only=True)
WRITTEN = "xidsend(xmin) BETWEEN xidsend('{}') AND xidsend('{}')"


def after(xmin: int = 1000, xmax: int = 1100, *, restarted: bool = False, **token: Any) -> Since:
    seen = at(xmin=xmin, xmax=xmax, token=token)
    return since("xmin", STRATEGY.advance(APPEND, TABLE, None, seen), seen, restarted=restarted)


def test_increment_is_what_was_written_since_the_horizon() -> None:
    found = STRATEGY.plan(config("xmin"), TABLE, after(), at(xmin=1200, xmax=1300))
    assert found.disposition is Disposition.UPSERT
    assert rendered(found.where) == WRITTEN.format(1000, 1299)


def test_append_is_the_window_between_two_horizons() -> None:
    found = STRATEGY.plan(APPEND, TABLE, after(), at(xmin=1200, xmax=1300))
    assert found.disposition is Disposition.APPEND
    undecided = WRITTEN.format(1200, 1299)
    assert rendered(found.where) == f"{WRITTEN.format(1000, 1299)} AND NOT ({undecided})"
    assert rendered(found.scope) == f"NOT ({undecided})"


def test_first_append_reads_what_is_decided() -> None:
    found = STRATEGY.plan(APPEND, TABLE, None, at(xmin=1200, xmax=1300))
    assert found.disposition is Disposition.REPLACE
    assert rendered(found.where) == f"NOT ({WRITTEN.format(1200, 1299)})"


@pytest.mark.parametrize(
    ("standing", "now", "doubt"),
    [
        (after(restarted=True), {}, "restarted"),
        (after(), {"token": {"members": {"16400": 16400, "17000": 1}}}, "attached or detached"),
        (after(members={"16400": 16400, "17000": 1}), {}, "attached or detached"),
        (after(), {"token": {"members": {"16400": 99}}}, "rewritten or truncated"),
        (since("full_snapshot", {}, at()), {}, "strategy full_snapshot"),
        (after(2**32 - 50, 2**32 - 40), {"xmin": 2**32 + 50, "xmax": 2**32 + 60}, "2^32"),
        (after(2**33, 2**33), {"xmin": 2**33 + 50, "xmax": 2**33 + 60}, "2^32"),
    ],
)
def test_append_that_could_repeat_a_row_reads_the_table_whole(standing: Since, now: dict[str, Any], doubt: str) -> None:
    found = STRATEGY.plan(APPEND, TABLE, standing, at(1, **({"xmin": 1200, "xmax": 1300} | now)))
    assert found.disposition is Disposition.REPLACE
    assert doubt in found.reasons[0]


def test_first_append_of_a_long_used_server_takes_every_row() -> None:
    """On such a server an old row looks undecided, and no later window would select it: each run reads the whole
    table."""
    found = STRATEGY.plan(APPEND, TABLE, None, at(xmin=2**33, xmax=2**33 + 50))
    assert (found.where, found.scope, found.disposition) == (None, None, Disposition.REPLACE)
    found = STRATEGY.plan(APPEND, TABLE, after(2**33 - 90, 2**33 - 80), at(xmin=2**33, xmax=2**33 + 50))
    assert (found.where, found.scope, found.disposition) == (None, None, Disposition.REPLACE)


def test_old_row_of_a_long_used_server_would_be_appended_twice() -> None:
    """The limit of 2^32 transactions for appends exists because a row's age is exact only up to there."""
    from aurora_sync.strategies.horizon import age

    ancient, newest, h = 5_000, 2**32 + 6_000, 2**32 + 4_000
    assert age(raw=ancient, newest=newest) <= newest - h


def test_table_that_is_no_heap_is_refused() -> None:
    assert "is a view" in STRATEGY.problems(config("xmin"), table(column("id", "int8"), kind="v"))[0]
