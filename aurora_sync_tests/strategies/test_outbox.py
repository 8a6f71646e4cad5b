"""Tests of the outbox strategy: when a run reads by the outbox, and when it scans the table instead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.model.fences import OutboxFence, Visible
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.relation import Outbox
from aurora_sync.strategies.base import Since
from aurora_sync.strategies.outbox import ByOutbox
from aurora_sync_tests.strategies.observations import at, column, config, rendered, since, table

STRATEGY = ByOutbox()
CONFIG = config("outbox")
OUTBOX = Outbox("public.t", ("id",), complete=True, usable=True, version="v1")
TABLE = table(column("id", "int8"), outbox=OUTBOX)


def seen(snapshot: str = "1000:1000:", emptied: str | None = "900:900:", **token: Any) -> Any:
    return at(fence=OutboxFence(snapshot, emptied), token=token)


def after(snapshot: str = "950:960:955", *, strategy: str = "outbox", **more: Any) -> Since:
    moment = seen(snapshot)
    return replace(since(strategy, STRATEGY.advance(CONFIG, TABLE, None, moment), moment), **more)


def test_rows_are_those_that_the_outbox_names() -> None:
    found = STRATEGY.plan(CONFIG, TABLE, after(), seen())
    assert (found.disposition, found.method, found.outbox) == (Disposition.CHANGES, "outbox", OUTBOX)
    assert rendered(found.where) == '("id") IN (SELECT o."id"::int8 FROM "aurora_sync"."public.t" o)'


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        (after(), seen(in_recovery=True), "connects to a reader"),
        (after(strategy="xmin"), seen(), "the last run did not read the outbox"),
        (after(), seen(emptied=None), "emptied by hand"),
        (after(), seen(emptied="1000:1000:"), "entries that the target does not have were removed"),
        (
            after(),
            seen(emptied="955:956:"),
            "entries that the target does not have were removed",
        ),  # 955 was in progress
        (after(only_scan="a reconcile is due"), seen(), "a reconcile is due"),
    ],
)
def test_scan_where_the_outbox_does_not_tell_all(before: Since, now: Any, why: str) -> None:
    found = STRATEGY.plan(CONFIG, TABLE, before, now)
    assert found.disposition is Disposition.UPSERT
    assert why in found.reasons[0]


def test_scan_where_triggers_were_made_anew() -> None:
    anew = replace(TABLE, outbox=replace(OUTBOX, version="v2"))
    assert "recreated" in STRATEGY.plan(CONFIG, anew, after(), seen()).reasons[0]


def test_nothing_is_remembered_of_a_reader() -> None:
    """Snapshots of a reader do not show which transactions were in progress, so the next run scans."""
    assert STRATEGY.advance(CONFIG, TABLE, None, seen(in_recovery=True)) == {}


@pytest.mark.parametrize(
    ("greater", "smaller", "includes"),
    [
        ("10:10:", "10:10:", True),
        ("10:12:11", "10:12:10,11", True),
        ("10:12:10,11", "10:12:11", False),
        ("10:20:15", "12:14:", True),
        ("10:20:13", "12:14:", False),
        ("10:20:", "20:20:", True),
        ("10:20:", "20:21:", False),
        ("1:1:", "1:1:", True),
    ],
)
def test_snapshot_includes_another_that_saw_no_more(greater: str, smaller: str, includes: bool) -> None:
    assert Visible.parse(greater).includes(Visible.parse(smaller)) is includes
