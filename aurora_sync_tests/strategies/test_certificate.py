from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from psycopg2 import sql

from aurora_sync.model.certificate import Certificate, Level, Reconciled
from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies import strategy_for
from aurora_sync.strategies.base import ReadPlan
from aurora_sync.strategies.certificate import certify
from aurora_sync_tests.strategies.observations import NOON, at, config

WHERE = sql.SQL("TRUE")


def certificate(
    strategy: str = "xmin", *, method: str = "horizon scan", seen: Any = None, now: bool = False, **keys: Any
) -> Certificate:
    plan = ReadPlan(WHERE, Disposition.UPSERT, method, **keys.pop("plan", {}))
    reconciled = Reconciled(4, NOON - timedelta(hours=1)) if keys.pop("reconciled", now) else None
    table = config(strategy, **keys)
    return certify(table, strategy_for(strategy), plan, seen or at(), {}, reconciled=reconciled, now=now)


def test_provable_read_is_certified_for_the_changes_that_its_strategy_sees() -> None:
    assert certificate().level is Level.CERTIFIED
    assert certificate().changes == ("inserts", "updates")
    assert certificate("integer", watermark_col="id").changes == ("inserts",)
    assert certificate("full_snapshot").changes == ("inserts", "updates", "deletes")


def test_reconcile_certifies_all_changes_whatever_the_read_rests_on() -> None:
    found = certificate("integer", watermark_col="id", plan={"doubts": ("who knows",)}, now=True)
    assert (found.level, found.changes) == (Level.CERTIFIED, ("inserts", "updates", "deletes"))


@pytest.mark.parametrize("reconciled", [True, False])
def test_read_that_rests_on_a_declaration_is_not_certified_and_says_what_would_do(reconciled: bool) -> None:
    found = certificate(plan={"doubts": ("nothing checks it; a trigger would certify it",)}, reconciled=reconciled)
    assert found.level is Level.UNCERTIFIED
    assert "a trigger would certify it" in found.text


def test_read_that_rests_on_a_declaration_is_bounded_by_the_last_of_regular_reconciles() -> None:
    found = certificate(plan={"doubts": ("nothing checks it",)}, reconcile={"every": 5}, reconciled=True)
    assert found.level is Level.BOUNDED
    assert "complete as of run 4, 3,600 s before" in found.text
    never = certificate(plan={"doubts": ("nothing checks it",)}, reconcile={"every": 5})
    assert never.level is Level.UNCERTIFIED


def test_window_that_waits_for_an_open_transaction_is_bounded_by_its_age() -> None:
    seen = at(oldest_writer=NOON - timedelta(seconds=90), oldest_writer_name="session 7 of bob")
    found = certificate(plan={"scope": WHERE}, seen=seen)
    assert found.level is Level.BOUNDED
    assert "session 7 of bob began, 90 s before" in found.text
    assert certificate(plan={"scope": WHERE}).level is Level.CERTIFIED


def test_reader_is_bounded_by_its_replay() -> None:
    assert certificate(seen=at(token={"in_recovery": True})).level is Level.BOUNDED


def test_certificate_names_what_it_rests_on() -> None:
    rests_on = certificate().rests_on
    assert rests_on["horizon"] == "1000"
    assert rests_on["snapshot"].startswith("1000:1000 at 2026-06-01 12:00:00")
    assert "system 7000, timeline 1, table oid 16400" in rests_on["token"]


def test_read_by_the_clock_fence_rests_on_the_clocks() -> None:
    by_clock = certificate("timestamp", watermark_col="at", method="clock fence").rests_on
    assert "the clocks of source and runner: the source's is +0.010 s from the runner's" in by_clock["clocks"]
    assert "clocks" not in certificate("timestamp", watermark_col="at").rests_on
