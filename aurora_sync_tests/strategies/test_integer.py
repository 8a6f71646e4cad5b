"""Tests of the lock fence: pending and decided fences, and when a fence may not be used."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.model.fences import LockFence
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import ColumnSequence, SourceTable, Trigger
from aurora_sync.strategies.base import ReadPlan, Since
from aurora_sync.strategies.integer import _MOST_PENDING, Integer
from aurora_sync_tests.strategies.observations import at, column, config, identity, rendered, since, table

STRATEGY = Integer()
CONFIG = config("integer", watermark_col="id")
SETS_ID = Trigger("own", True, True, True, False, True, "BEGIN NEW.id := nextval('other'); RETURN NEW; END")
LEAVES_IT = "BEGIN NEW.other := NEW.id; RETURN NEW; END"


def seen(high: int | None, *holders: str, last: int | None = -1, **values: Any) -> Observation:
    """Return an observation with this maximum of the column; ``last``: value of the sequence, by default the same."""
    last = (high or 0) if last == -1 else last
    return at(fence=LockFence(high, holders, last), **values)


def after(*moments: Observation, source: SourceTable | None = None) -> Since:
    """Return the watermark after runs with these observations."""
    standing: Since | None = None
    for moment in moments:
        standing = since("integer", STRATEGY.advance(CONFIG, source or identity(), standing, moment), moment)
    assert standing is not None
    return standing


def value(*moments: Observation) -> tuple[Any, Any]:
    found = after(*moments).watermark.value
    return found["fence"], found["pending"]


def plan(standing: Since | None, moment: Observation, source: SourceTable | None = None, **keys: Any) -> ReadPlan:
    return STRATEGY.plan(CONFIG.model_copy(update=keys), source or identity(), standing, moment)


def where(found: ReadPlan) -> str:
    return rendered(found.where)


def test_first_run_reads_everything() -> None:
    found = plan(None, seen(10))
    assert (found.where, found.disposition) == (None, Disposition.REPLACE)


def test_maximum_that_nobody_was_writing_below_is_decided_at_once() -> None:
    assert value(seen(10)) == (10, [])
    found = plan(after(seen(10)), seen(12))
    assert (found.method, where(found)) == ("lock fence", '"id" > 10')


def test_maximum_waits_for_the_transactions_that_may_write_below_it() -> None:
    assert value(seen(10, "3/1", "4/2")) == (None, [[10, ["3/1", "4/2"]]])
    assert plan(after(seen(10, "3/1")), seen(12)).method == "horizon scan"
    assert value(seen(10, "3/1", "4/2"), seen(12, "4/2")) == (None, [[10, ["3/1", "4/2"]], [12, ["4/2"]]])
    assert value(seen(10, "3/1"), seen(12, "5/5")) == (10, [[12, ["5/5"]]])
    assert value(seen(10, "3/1"), seen(12, "5/5"), seen(20)) == (20, [])


def test_fence_that_was_passed_is_kept_while_later_ones_are_pending() -> None:
    runs = [seen(10), seen(20, "3/1"), seen(30, "3/1")]
    assert value(*runs) == (10, [[20, ["3/1"]], [30, ["3/1"]]])
    assert where(plan(after(*runs), seen(40))) == '"id" > 10'


def test_prepared_transaction_decides_nothing_while_it_holds_a_lock() -> None:
    """PREPARE TRANSACTION changed the id 3/1 to -1/900: the transaction is still open under another id."""
    assert value(seen(10, "3/1"), seen(12, "-1/900")) == (None, [[10, ["3/1"]], [12, ["-1/900"]]])
    assert value(seen(10, "3/1"), seen(12, "-1/900"), seen(13)) == (13, [])


def test_pending_fences_do_not_pile_up() -> None:
    runs = [seen(n, "3/1") for n in range(1, 2 * _MOST_PENDING)]
    fence, pending = value(*runs)
    assert fence is None
    assert [high for high, _ in pending] == list(range(_MOST_PENDING, 2 * _MOST_PENDING))


def test_fence_of_zero_is_a_fence() -> None:
    assert value(seen(0)) == (0, [])
    assert where(plan(after(seen(0)), seen(1))) == '"id" > 0'
    assert where(plan(after(seen(-5)), seen(1))) == '"id" >  -5'


def test_empty_table_has_no_fence_and_the_next_run_scans() -> None:
    assert value(seen(None)) == (None, [])
    assert plan(after(seen(None)), seen(3)).method == "horizon scan"


def test_null_numbers_are_read_with_every_run() -> None:
    nullable = identity()
    nullable = replace(nullable, columns=(replace(nullable.columns[0], not_null=False),))
    assert where(plan(after(seen(10)), seen(12), nullable)) == '("id" > 10 OR "id" IS NULL)'


@pytest.mark.parametrize(
    ("standing", "now"),
    [
        (after(seen(10)), seen(12, last=5)),  # the sequence was set back
        (after(seen(9999, last=10)), seen(9999, last=11)),  # one explicit number is far ahead of the sequence
        (after(seen(10, "3/1")), seen(10, last=9)),
        (after(seen(10)), seen(30, token={"members": {"16400": 99}})),  # TRUNCATE ... RESTART IDENTITY
        (since("integer", {"column": "other", "fence": 1, "pending": []}, seen(10)), seen(12)),
        (since("xmin", {"horizon": 1}, seen(10)), seen(12)),
        (Since(after(seen(10)).watermark, restarted=True), seen(12)),
    ],
)
def test_fence_that_may_not_be_trusted_is_not_used(standing: Since, now: Observation) -> None:
    found = plan(standing, now)
    assert found.method == "horizon scan"
    assert '"id"' not in where(found)


def test_numbers_that_come_again_are_forgotten_with_their_fences() -> None:
    assert value(seen(10, "3/1"), seen(12, last=5)) == (12, [])
    assert value(seen(10, "3/1"), seen(4, "7/7", last=4)) == (None, [[4, ["7/7"]]])


def test_new_partition_is_read_whole_beside_the_fence() -> None:
    moment = seen(12, token={"members": {"16400": 16400, "17000": 1}})
    assert where(plan(after(seen(10)), moment)) == '(("id" > 10) OR tableoid IN (17000))'


@pytest.mark.parametrize(
    ("source", "moment", "objection"),
    [
        (table(column("id", "int8")), {}, "no identity and no nextval default"),
        (identity(sequences={"id": ColumnSequence("s", 20, 1, False)}), {}, "CACHE 20"),
        (identity(sequences={"id": ColumnSequence("s", 1, -1, False)}), {}, "cycles or has a negative increment"),
        (identity(sequences={"id": ColumnSequence("s", 1, 1, True)}), {}, "cycles or has a negative increment"),
        (identity(sequences={"id": ColumnSequence("s", 1, 10, False)}), {}, "grows by 10"),
        (replace(identity(), columns=(column("id", "int8", identity="d"),)), {}, "not GENERATED ALWAYS"),
        (replace(identity(), columns=(column("id", "int8", default="nextval('s')"),)), {}, "not GENERATED ALWAYS"),
        (identity(triggers=(SETS_ID,)), {}, "a trigger of the table may set id"),
        (
            identity(triggers=(replace(SETS_ID, source="BEGIN PERFORM f(); RETURN NEW; END"),)),
            {},
            "a trigger of the table may",
        ),
        (identity(triggers=(replace(SETS_ID, source="", language="c"),)), {}, "a trigger of the table may set id"),
        (identity(triggers=(replace(SETS_ID, on_insert=False),)), {}, "a trigger of the table may set id"),  # WHEN
        (identity(subscribed=True), {}, "a subscription writes the table"),
        (identity(kind="p"), {}, "a direct insert into a partition"),
        (identity(), {"token": {"in_recovery": True}}, "reader"),
        (identity(), {"last": None}, "GRANT SELECT ON SEQUENCE"),
    ],
)
def test_precondition_that_does_not_hold_is_named_and_scanned_around(
    source: SourceTable, moment: dict[str, Any], objection: str
) -> None:
    found = plan(after(seen(10)), seen(12, **moment), source)
    assert found.method == "horizon scan"
    assert objection in found.reasons[0]
    assert STRATEGY.advance(CONFIG, source, None, seen(12, **moment))["fence"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"on_insert": False, "on_update": True},
        {"before": False},
        {"row": False},
        {"enabled": False},
        {"source": LEAVES_IT},
    ],
)
def test_trigger_that_cannot_set_the_number_of_a_new_row_does_no_harm(change: dict[str, Any]) -> None:
    source = identity(triggers=(replace(SETS_ID, **change),))
    assert plan(after(seen(10)), seen(12), source).method == "lock fence"


def test_numbers_of_a_sequence_that_was_restarted_are_scanned_for_and_its_fences_forgotten() -> None:
    """The sequence has assigned the old numbers again and passed them; only its version shows the restart."""
    anew = identity(sequences={"id": ColumnSequence("public.t_id_seq", 1, 1, False, version="anew")})
    standing = after(seen(10), seen(20, "3/1"))
    assert plan(standing, seen(30)).method == "lock fence"
    assert plan(standing, seen(30), anew).method == "horizon scan"
    value = STRATEGY.advance(CONFIG, anew, standing, seen(30, "4/1"))
    assert (value["fence"], value["pending"]) == (None, [[30, ["4/1"]]])


def test_numbers_of_the_application_are_scanned_for() -> None:
    found = plan(after(seen(10)), seen(12), watermark_set_by="application")
    assert (found.method, "made by the application" in found.reasons[0]) == ("horizon scan", True)


def test_numbers_declared_as_the_databases_are_trusted_with_a_remark() -> None:
    declared = table(column("id", "int8", not_null=True))
    keys: dict[str, Any] = {"watermark_set_by": "database"}
    assert "this is not checked" in plan(after(seen(10), source=identity()), seen(12), declared, **keys).warnings[0]
    assert plan(after(seen(10)), seen(12), declared, **keys).method == "lock fence"


def test_lookback_reads_a_window_and_says_that_it_is_not_certified() -> None:
    keys: dict[str, Any] = {"watermark_set_by": "application", "lookback": 5}
    found = plan(after(seen(10, xmin=1000)), seen(12, xmin=1100), **keys)
    assert found.method == "lookback"
    assert where(found).startswith(
        "\"id\" > 5 AND (\"id\" > 10 OR xidsend(xmin) BETWEEN xidsend('1000') AND xidsend('1099'))"
    )
    assert "remove lookback" in found.doubts[0]
    restarted = Since(after(seen(10)).watermark, restarted=True)
    assert plan(restarted, seen(12), **keys).method == "horizon scan"


@pytest.mark.parametrize(
    ("stored", "source", "now"),
    [
        ({"column": "other"}, identity(), seen(12)),  # a fence of another column
        ({"sequence": "before"}, identity(), seen(12)),
        ({}, identity(), seen(12, token={"members": {"16400": 99}})),
    ],
)
def test_lookback_does_not_go_on_from_other_numbers(
    stored: dict[str, Any], source: SourceTable, now: Observation
) -> None:
    keys: dict[str, Any] = {"watermark_set_by": "application", "lookback": 5}
    standing = after(seen(10))
    assert plan(standing, seen(12), source, **keys).method == "lookback"
    changed = since("integer", standing.watermark.value | stored, seen(10))
    assert plan(changed, now, source, **keys).method == "horizon scan"


def test_numbers_that_copy_or_overriding_may_set_are_a_doubt() -> None:
    (doubt,) = plan(after(seen(10)), seen(12)).doubts
    assert "COPY or OVERRIDING SYSTEM VALUE" in doubt
    assert "a reconcile" in doubt
