"""Whether a load in chunks may go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.certificate import Action, Certificate, Finding, Level
from aurora_sync.model.load import Load
from aurora_sync.strategies.base import Since
from aurora_sync.strategies.identity import Verdict
from aurora_sync.strategies.loading import after_pass, before_last_run, judged
from aurora_sync_tests.strategies.observations import at, watermark

LOAD = Load(id="a", first_run=1, began="2026-06-01T12:00:00+00:00", bounds=(0, 10, 20), newest=1200)
OPEN = watermark("xmin", {}, at(xmin=1000, xmax=1100), "c").loading(LOAD)


def verdict(now: Any, *findings: Finding, load: Load = LOAD, only_scan: str = "") -> tuple[Verdict, Load | None]:
    return judged(Verdict(Since(OPEN, only_scan=only_scan), findings), load, now)


def finding(event: str, action: Action = Action.WIDEN) -> Finding:
    return Finding(event, action, f"this happened: {event}")


def test_load_goes_on_in_the_same_source() -> None:
    found, load = verdict(at(1, xmin=1150, xmax=1300), finding("restart"))
    assert found.since is not None
    assert [each.event for each in found.findings] == ["restart"]
    assert load is LOAD


def test_load_ends_with_the_watermark() -> None:
    assert judged(Verdict(None), LOAD, at(1, xmin=1150, xmax=1300)) == (Verdict(None), None)


def test_reader_that_lags_behind_a_chunk_is_refused() -> None:
    with pytest.raises(
        SourceError, match=r"replayed transactions up to 1199, but a chunk .* was read up to 1200"
    ) as raised:
        verdict(at(1, xmin=1150, xmax=1199, token={"in_recovery": True}))
    assert raised.value.kind is Kind.TRANSIENT
    assert verdict(at(1, xmin=1150, xmax=1200, token={"in_recovery": True}))[1] is LOAD


@pytest.mark.parametrize(
    "change", [finding("files replaced"), finding("upgrade"), finding("column dropped", Action.ADAPT)]
)
def test_load_begins_again_when_rows_have_other_places_or_columns(change: Finding) -> None:
    found, load = verdict(at(1, xmin=1150, xmax=1300), finding("restart"), change)
    assert (found.since, load) == (None, None)
    assert [each.event for each in found.findings] == ["load begins again", "restart"]
    assert change.text in found.findings[0].text


def test_load_begins_again_before_transaction_ids_are_used_twice() -> None:
    assert verdict(at(1, xmin=1000 + 2**31, xmax=1000 + 2**31))[1] is LOAD
    found, load = verdict(at(1, xmin=1000 + 2**31, xmax=1001 + 2**31))
    assert (found.since, load) == (None, None)
    assert "2^31 transactions" in found.findings[0].text


def test_last_run_of_a_load_over_older_rows_or_after_a_pass_does_not_rely_on_an_outbox() -> None:
    now = at(1, xmin=1150, xmax=1300)
    over, _ = verdict(now, load=replace(LOAD, replaces=True))
    assert over.since
    assert over.since.only_scan == "the target had rows when the load in chunks began"
    due, _ = verdict(now, load=replace(LOAD, replaces=True), only_scan="a comparison is due")
    assert due.since
    assert due.since.only_scan == "a comparison is due"
    passed, _ = verdict(now, load=replace(LOAD, passes=1))
    assert passed.since
    assert passed.since.only_scan == "a pass compared nothing"
    first, _ = verdict(now)
    assert first.since
    assert not first.since.only_scan


def test_pass_is_counted_and_leaves_deletes_to_the_last_run() -> None:
    after = after_pass(LOAD, OPEN)
    assert after.load
    assert after.load.passes == 1
    assert after_pass(None, OPEN) is OPEN
    for level, found in ((Level.CERTIFIED, Level.BOUNDED), (Level.UNCERTIFIED, Level.UNCERTIFIED)):
        certificate = before_last_run(Certificate(level, changes=("inserts", "deletes"), text="complete"))
        assert (certificate.level, certificate.changes) == (found, ("inserts",))
        assert "deleted" in certificate.text
