"""Estimated bytes that a run reads and moves, for each kind of access."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from aurora_sync.advisor.cost import PAGE, Cost, estimate
from aurora_sync.advisor.evidence import Activity, Evidence, TableEvidence
from aurora_sync.advisor.profiles import Access
from aurora_sync.config.advisor import Advisor
from aurora_sync.source.logical.publication import Server
from aurora_sync_tests.strategies.observations import table

HEAP, TOAST = 50_000_000, 50_000_000
ROW = (HEAP + TOAST) // 1_000_000
TABLE = TableEvidence(table(), Activity(inserted=24_000), rows=1_000_000, heap=HEAP, toast=TOAST)
NOW = datetime(2026, 1, 2, tzinfo=UTC)
SERVER = Server(18, "replica", False, 0, None, None, "-1", False, "reader")
A_DAY = Evidence(
    database="d",
    taken_at=NOW,
    server=SERVER,
    since=NOW - timedelta(days=1),
    xids_per_day=None,
    days_to_wraparound=None,
    sees_sessions=True,
    tables=(TABLE,),
)


@pytest.mark.parametrize(
    ("access", "read", "moved"),
    [
        (Access.WHOLE, HEAP + TOAST, HEAP + TOAST),
        (Access.SCAN, HEAP, 1_000 * ROW),
        (Access.LOG, 2 * 1_000 * ROW, 1_000 * ROW),
        (Access.RANGE, 1_000 * ROW, 1_000 * ROW),
        (Access.KEYS, 1_000 * PAGE, 1_000 * ROW),
    ],
)
def test_thousand_rows_an_hour(access: Access, read: int, moved: int) -> None:
    assert estimate(access, TABLE, A_DAY, Advisor(freshness="1h")) == Cost(read, moved, 24.0)


@pytest.mark.parametrize(
    ("access", "read", "moved"),
    [
        (Access.WHOLE, HEAP + TOAST, HEAP + TOAST),
        (Access.SCAN, HEAP, None),
        (Access.LOG, None, None),
        (Access.RANGE, None, None),
        (Access.KEYS, None, None),
    ],
)
def test_without_rates_only_reads_of_the_table_are_estimated(
    access: Access, read: int | None, moved: int | None
) -> None:
    young = replace(A_DAY, since=NOW - timedelta(minutes=1))
    assert estimate(access, TABLE, young, Advisor()) == Cost(read, moved, None)
