"""Estimate what a strategy costs at the observed rates of change: bytes read, bytes moved, and runs per day."""

from __future__ import annotations

from dataclasses import dataclass

from aurora_sync.advisor.evidence import Evidence, TableEvidence
from aurora_sync.advisor.profiles import Access
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.field_types import duration

PAGE = 8192
# Bytes of WAL per byte of a changed row: the row itself, and about as much overhead.
_WAL = 2


@dataclass(frozen=True)
class Cost:
    """Estimated cost of one table. A value is None where it needs rates and the statistics are too young for them."""

    read_per_run: int | None
    moved_per_run: int | None
    runs_per_day: float | None  # runs that find changes, and so start the warehouse

    @property
    def read_per_day(self) -> int | None:
        if self.read_per_run is None or self.runs_per_day is None:
            return None
        return int(self.read_per_run * self.runs_per_day)

    @property
    def text(self) -> str:
        """Summary for people: bytes read and moved by a run, and runs per day."""
        read = "?" if self.read_per_run is None else human_bytes(self.read_per_run)
        moved = "?" if self.moved_per_run is None else human_bytes(self.moved_per_run)
        runs = "?" if self.runs_per_day is None else f"{self.runs_per_day:,.0f}"
        return f"a run reads {read} and moves {moved}; {runs} runs a day"


def estimate(access: Access, table: TableEvidence, evidence: Evidence, limits: Advisor) -> Cost:
    """Estimate the cost of a table that is synced every ``limits.freshness``.

    Changes are assumed to be spread evenly over the day. Without rates, only the size of table or heap is known.
    """
    most = 86_400 / duration(limits.freshness).total_seconds()
    changes = evidence.per_day(table.activity.written)
    whole = table.heap + table.toast
    table_reads = {Access.WHOLE: whole, Access.SCAN: table.heap}
    if changes is None:
        return Cost(table_reads.get(access), whole if access is Access.WHOLE else None, None)
    runs = min(most, changes)
    per_run = changes / runs if runs else 0.0
    changed = int(min(per_run, table.rows or per_run) * table.row_bytes)
    reads = table_reads | {
        Access.LOG: changed * _WAL,
        Access.RANGE: min(whole, changed),
        Access.KEYS: int(min(whole, max(changed, per_run * PAGE))),
    }
    return Cost(reads[access], whole if access is Access.WHOLE else changed, runs)


def human_bytes(count: int | float) -> str:
    """Format a number of bytes with a decimal unit.

    >>> human_bytes(1_234_567), human_bytes(12), human_bytes(25_000_000_000)
    ('1.2 MB', '12 B', '25 GB')
    """
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.1f} {unit}" if value < 10 else f"{value:,.0f} {unit}"
    return f"{count:.0f} B"


def rows_were(count: int) -> str:
    """Begin a sentence about a number of rows.

    >>> rows_were(1), rows_were(12_345)
    ('1 row was', '12,345 rows were')
    """
    return "1 row was" if count == 1 else f"{count:,} rows were"
