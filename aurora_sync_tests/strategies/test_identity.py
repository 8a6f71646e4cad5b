"""Tests of identity.py, one for each row of its table."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.certificate import Action
from aurora_sync.model.watermark import Canary, Watermark
from aurora_sync.strategies import strategy_for
from aurora_sync.strategies.identity import CANARIES, Verdict, canaries, covers, judge
from aurora_sync_tests.strategies.observations import NOON, at, config, watermark

SEEN = at(xmin=1000, xmax=1100)


def verdict(now: Any, *, covered: str = "c") -> Verdict:
    return judge(watermark("xmin", {}, SEEN, "c"), now, covered)


def actions(found: Verdict) -> list[Action]:
    return [finding.action for finding in found.findings]


def test_first_run_has_nothing_to_go_on_from() -> None:
    assert judge(None, SEEN, "c") == Verdict(None)


def test_same_source_goes_on() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200))
    assert found.since is not None
    assert not found.since.restarted
    assert found.findings == ()


def test_restarted_server_widens_the_read() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200, token={"started": "2026-06-01 11:59:00+00"}))
    assert found.reconcile
    assert found.since is not None
    assert found.since.restarted
    assert "restarted" in found.findings[0].text


def test_server_that_recovered_from_a_crash_widens_the_read() -> None:
    """The crash of one backend ends all others. The postmaster keeps running, so its start time does not change."""
    found = verdict(at(1, xmin=1050, xmax=1200, token={"counters_since": "2026-06-01 11:59:00+00"}))
    assert found.since is not None
    assert found.since.restarted
    assert "restarted" in found.findings[0].text


def test_attached_partition_goes_on() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200, token={"members": {"16400": 16400, "17000": 17000}}))
    assert found.since is not None
    assert actions(found) == [Action.WIDEN]
    assert not found.reconcile


def test_detached_partition_and_replaced_files_are_compared_with_the_source() -> None:
    two = {"16400": 16400, "17000": 17000}
    stored = watermark("xmin", {}, at(xmin=1000, xmax=1100, token={"members": two}), "c")
    gone = judge(stored, at(1, xmin=1050, xmax=1200), "c")
    assert (actions(gone), gone.reconcile) == ([Action.RECONCILE], True)
    assert gone.since is not None
    rewritten = judge(stored, at(1, xmin=1050, xmax=1200, token={"members": two | {"17000": 9}}), "c")
    assert (actions(rewritten), rewritten.reconcile) == ([Action.RECONCILE], True)
    assert rewritten.since is not None


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ({"system_identifier": "7001"}, "another database system"),
        ({"timeline": 2}, "another timeline"),
        ({"database_oid": 5}, "recreated"),
        ({"table_oid": 16401}, "recreated or swapped"),
    ],
)
def test_another_history_reads_the_whole_table(token: dict[str, Any], reason: str) -> None:
    found = verdict(at(1, xmin=1050, xmax=1200, token=token))
    assert found.since is None
    assert reason in found.findings[0].text


@pytest.mark.parametrize(("xmin", "xmax"), [(900, 1000), (999, 1200)])
def test_counter_or_horizon_that_went_back_reads_the_whole_table(xmin: int, xmax: int) -> None:
    found = verdict(at(1, xmin=xmin, xmax=xmax))
    assert found.since is None
    assert "went back" in found.findings[0].text


def test_restored_and_restarted_server_reads_the_whole_table() -> None:
    assert verdict(at(1, xmin=900, xmax=950, token={"started": "later"})).since is None


ROW = Canary(("7",), 990, "as exported")


def with_canary(row: Canary = ROW, **token: Any) -> Watermark:
    return replace(watermark("xmin", {}, at(xmin=1000, xmax=1100, token=token), "c"), canaries=(row,))


@pytest.mark.parametrize(
    "today",
    [
        replace(ROW, xmin=995),  # written by a transaction that had ended when the watermark was taken
        replace(ROW, digest="other"),  # the same transaction id, in another history
    ],
)
def test_canary_that_is_another_row_reads_the_whole_table(today: Canary) -> None:
    found = judge(with_canary(), at(1, xmin=1050, xmax=1200, canaries=(today,)), "c")
    assert found.since is None
    assert [finding.event for finding in found.findings] == ["canary changed"]


@pytest.mark.parametrize("today", [(), (ROW,), (replace(ROW, xmin=1000, digest="updated"),)])
def test_canary_that_is_gone_or_the_same_or_was_changed_since_goes_on(today: tuple[Canary, ...]) -> None:
    found = judge(with_canary(), at(1, xmin=1050, xmax=1200, canaries=today), "c")
    assert found.since is not None


def test_upgrade_in_place_goes_on_while_its_canaries_do_and_a_copy_of_the_same_version_never() -> None:
    other = {"system_identifier": "7001", "started": "later"}
    upgraded = at(1, xmin=1050, xmax=1200, token=other | {"major": 19}, canaries=(ROW,))
    found = judge(with_canary(), upgraded, "c")
    assert found.since is not None
    assert found.since.restarted
    assert found.reconcile
    assert judge(with_canary(), replace(upgraded, canaries=()), "c").since is None  # no proof of the rows
    copied = at(1, xmin=1050, xmax=1200, token=other, canaries=(ROW,))
    assert judge(with_canary(), copied, "c").since is None


def test_watermark_keeps_the_newest_canaries_that_are_still_there() -> None:
    kept, gone, changed = (Canary((name,), 1000, "a") for name in ("kept", "gone", "changed"))
    stored = replace(with_canary(), canaries=(kept, gone, changed))
    now = at(1, xmin=1050, xmax=1200, canaries=(kept, replace(changed, xmin=1150)))
    exported = [Canary((f"new {n}",), 1100 + n, "b") for n in range(3)]
    assert canaries(stored, now, exported) == (*reversed(exported), kept)
    assert len(canaries(stored, now, [Canary((str(n),), 1000 + n, "b") for n in range(100)])) == CANARIES


def test_long_transaction_is_named() -> None:
    found = verdict(
        at(1, xmin=1050, xmax=1200, oldest_writer=NOON - timedelta(minutes=30), oldest_writer_name="session 7 of bob")
    )
    assert actions(found) == [Action.GO_ON]
    assert "session 7 of bob has been open for 31 minutes" in found.findings[0].text
    assert verdict(at(1, xmin=1050, xmax=1200, oldest_writer=NOON)).findings == ()


def test_other_claim_reads_the_whole_table() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200), covered="d")
    assert found.since is None
    assert "the strategy or append_only changed" in found.findings[0].text


def test_reader_that_lags_behind_the_watermark_is_refused() -> None:
    with pytest.raises(SourceError, match=r"has replayed transactions up to .*, but the last run read up to") as raised:
        verdict(at(1, xmin=900, xmax=1099, token={"in_recovery": True}))
    assert raised.value.kind is Kind.TRANSIENT
    assert verdict(at(1, xmin=1000, xmax=1100, token={"in_recovery": True})).since is not None


@pytest.mark.parametrize(
    ("token", "reason"),
    [({"system_identifier": "8"}, "another database system"), ({"timeline": 9}, "another timeline")],
)
def test_reader_of_a_restored_database_is_read_whole_and_does_not_wait_to_catch_up(token: Any, reason: str) -> None:
    found = verdict(at(1, xmin=900, xmax=1099, token={"in_recovery": True, **token}))
    assert found.since is None
    assert reason in found.findings[0].text


def covered(strategy: str = "xmin", **keys: Any) -> str:
    return covers(config(strategy, **keys), strategy_for(strategy))


def test_what_a_watermark_covers() -> None:
    assert covered() == covered("full_snapshot")  # finds the same kinds of changes, so it continues from the horizon
    assert covered() != covered(append_only=True)
    assert covered() != covered("integer", watermark_col="id")  # finds no updates
