from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from aurora_sync.config.checks import Check, RowCountCheck
from aurora_sync.model.certificate import Action, Certificate, Finding, Level
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.receipt import Adjusted, Receipt, Repair
from aurora_sync.orchestration import checks
from aurora_sync_tests.orchestration.conftest import TABLES, Build, run
from aurora_sync_tests.orchestration.receipts import receipt, watermark

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR
KEY = dg.AssetKey(["public", "customers"])

pytestmark = pytest.mark.usefixtures("no_settings")


def test_row_count_passes_when_both_sides_agree() -> None:
    verdict = checks.row_count(RowCountCheck(), receipt())
    assert verdict.passed
    assert verdict.numbers == {"source_rows": 12, "target_rows": 12, "excess_rows": 0}


def test_row_count_fails_when_the_target_lacks_a_row_even_where_deletes_are_not_seen() -> None:
    verdict = checks.row_count(RowCountCheck(), receipt(target_rows=11, sees_deletes=False))
    assert (verdict.passed, verdict.severity) == (False, ERROR)
    assert "lacks 1 of the source's 12 rows" in verdict.text


def test_row_count_warns_with_the_number_when_deletes_are_not_seen() -> None:
    verdict = checks.row_count(RowCountCheck(), receipt(target_rows=15, sees_deletes=False))
    assert (verdict.passed, verdict.severity, verdict.numbers["excess_rows"]) == (False, WARN, 3)
    assert "3 rows more" in verdict.text


def test_row_count_fails_on_more_rows_when_deletes_are_seen() -> None:
    verdict = checks.row_count(RowCountCheck(), receipt(target_rows=15, sees_deletes=True))
    assert (verdict.passed, verdict.severity) == (False, ERROR)


@pytest.mark.parametrize(("target", "passed"), [(108, True), (92, True), (113, False), (87, False)])
def test_row_count_allows_a_difference_within_the_tolerance(target: int, passed: bool) -> None:
    verdict = checks.row_count(RowCountCheck(tolerance=0.1), receipt(source_rows=100, target_rows=target))
    assert verdict.passed is passed


def test_watermark_that_went_back_fails() -> None:
    verdict = checks.watermark(receipt(watermark_before=watermark(100), watermark_after=watermark(90)))
    assert verdict.passed is False
    assert "from transaction 100 to 90" in verdict.text


def test_watermark_that_stands_still_while_rows_were_applied_fails() -> None:
    still = {"watermark_before": watermark(100), "watermark_after": watermark(100)}
    assert checks.watermark(receipt(**still)).passed is False
    assert checks.watermark(receipt(**still, inserted=0, updated=0, rows_exported=0)).passed is True


@pytest.mark.parametrize(
    "reason",
    [
        {"repair": Repair(8, 1, 0, lost=0, stale=0, ghosts=1)},
        {"because": "20 rows with id >= 1 are read again"},
    ],
)
def test_watermark_may_stand_still_while_rows_are_repaired(reason: dict[str, Any]) -> None:
    still = {"watermark_before": watermark(100), "watermark_after": watermark(100)}
    assert checks.watermark(receipt(**still, **reason)).passed is True


def test_watermark_may_start_anew_with_a_full_read() -> None:
    full = receipt(watermark_before=watermark(100), watermark_after=watermark(90), disposition=Disposition.REPLACE)
    assert checks.watermark(full).passed is True
    assert checks.watermark(receipt(watermark_before=None)).passed is True


def test_merge_key_that_two_rows_share_fails() -> None:
    assert checks.merge_key(receipt()).passed is True
    verdict = checks.merge_key(receipt(source_rows=12, target_rows=10))
    assert verdict.passed is False
    assert "2 rows have the same (id)" in verdict.text


def test_verdict_is_not_given_at_runs_that_do_not_count() -> None:
    assert checks.judge("watermark", Check(every=5), receipt(run_sequence=4)).passed is None
    assert checks.judge("watermark", Check(every=5), receipt(run_sequence=5)).passed is True
    assert checks.judge("row_count", RowCountCheck(every=5), receipt(source_rows=None)).passed is None


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def test_every_check_is_judged_in_the_step_that_synced(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt(target_rows=15))
    result = run(build(TABLES), instance)
    assert result.success
    found = evaluations(result)
    assert {name: (check.passed, check.severity) for name, check in found.items()} == {
        "row_count": (False, WARN),
        "watermark": (True, ERROR),
        "merge_key": (True, ERROR),
        "certificate": (True, WARN),
        "schema": (True, WARN),
    }
    assert found["row_count"].target_materialization_data is not None


def test_disabled_check_is_not_declared(build: Build, receipts: list[Receipt], instance: dg.DagsterInstance) -> None:
    receipts.append(receipt())
    definitions = build(TABLES + "    checks: {watermark: {enabled: false}}\n")
    assert set(evaluations(run(definitions, instance))) == {"row_count", "merge_key", "certificate", "schema"}


def test_severity_warn_of_tables_yaml_makes_every_failure_a_warning(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt(target_rows=11))
    result = run(build(TABLES + "    checks: {row_count: {severity: warn, blocking: true}}\n"), instance)
    assert result.success
    assert evaluations(result)["row_count"].severity is WARN


def test_last_verdict_is_carried_forward_and_says_so(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    definitions = build(TABLES + "    checks: {row_count: {every: 3}}\n")
    receipts += [
        receipt(run_sequence=3, target_rows=11),
        receipt(run_sequence=4, source_rows=None),
        receipt(run_sequence=5, source_rows=None),
    ]
    judged, carried, carried_again = (evaluations(run(definitions, instance))["row_count"] for _ in range(3))
    assert (judged.passed, carried.passed, carried_again.passed) == (False, False, False)
    assert carried.description is not None
    assert "Not evaluated at run sequence 4" in carried.description
    assert carried_again.description is not None
    assert carried_again.description.endswith(f"Last verdict: {judged.description}")
    assert carried_again.metadata["judged_at_run_sequence"].value == "3"


def test_idle_run_does_not_deny_the_verdict_of_its_run_sequence(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts += [receipt(run_sequence=3), receipt(run_sequence=3, source_rows=None, changed=False)]
    definitions = build(TABLES)
    judged, carried = (evaluations(run(definitions, instance))["row_count"] for _ in range(2))
    assert carried.description == (
        f"As of run sequence 3, and not evaluated again: the run found no changes. Last verdict: {judged.description}"
    )


def test_check_that_was_never_judged_says_so(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt(run_sequence=1, source_rows=None))
    check = evaluations(run(build(TABLES), instance))["row_count"]
    assert (check.passed, check.severity) == (True, WARN)
    assert check.description is not None
    assert check.description.endswith("Last verdict: none")


@pytest.mark.parametrize(("blocking", "ran"), [(True, False), (False, True)])
def test_blocking_check_stops_what_is_downstream_after_one_attempt(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance, blocking: bool, ran: bool
) -> None:
    receipts.append(receipt(target_rows=11))
    calls: list[int] = []

    @dg.asset(deps=[KEY])
    def downstream() -> None:
        calls.append(1)

    definitions = dg.Definitions.merge(
        build(TABLES + f"    checks: {{row_count: {{blocking: {str(blocking).lower()}}}}}\n"),
        dg.Definitions(assets=[downstream]),
    )
    result = run(definitions, instance, raise_on_error=False)
    assert bool(calls) is ran
    assert result.success is ran
    assert instance.get_latest_materialization_event(KEY) is not None
    assert not receipts


def test_certificate_passes_when_proved_or_bounded_and_warns_when_not() -> None:
    def judged(level: Level) -> checks.CheckOutcome:
        return checks.certificate(receipt(certificate=Certificate(level, ("inserts",), "why", {"horizon": "7"})))

    assert judged(Level.CERTIFIED).passed
    assert judged(Level.BOUNDED).passed
    uncertified = judged(Level.UNCERTIFIED)
    assert (uncertified.passed, uncertified.severity) == (False, checks.WARN)
    assert (uncertified.text, uncertified.numbers["horizon"]) == ("uncertified: why", "7")


def test_warning_about_a_changed_column_lasts_for_days(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = Finding("column renamed", Action.ADAPT, "column name was renamed to title", "name", "title")
    added = Finding("column added", Action.ADAPT, "column note was added", "", "note")
    receipts += [
        receipt(run_sequence=3, schema_changes=(renamed,)),
        receipt(run_sequence=4),
        receipt(run_sequence=5, schema_changes=(added,)),
        receipt(run_sequence=6),
    ]
    definitions = build(TABLES)
    both = "run 3: column name was renamed to title; run 5: column note was added. This warning ends at"
    for expected in ("run 3: column name", "run 3: column name", both):
        check = evaluations(run(definitions, instance))["schema"]
        assert (check.passed, check.severity) == (False, WARN)
        assert (check.description or "").startswith(expected)
    assert "| column renamed | adapt | name | title |" in str(check.metadata["changes"].value)
    monkeypatch.setattr(checks, "CHANGES_SHOWN", timedelta(0))
    assert evaluations(run(definitions, instance))["schema"].passed is True


def test_warning_about_adjusted_values_lasts_for_days(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipts += [
        receipt(run_sequence=3, adjusted=(Adjusted("note", "null", 2, find="SELECT 1"),)),
        receipt(run_sequence=4),
        receipt(run_sequence=5, adjusted=(Adjusted("total", "clamp", 1),)),
        receipt(run_sequence=6),
    ]
    definitions = build(TABLES + "    types: {numeric: clamp}\n")
    first = "run 3: 2 values of column note became NULL; to find them: SELECT 1"
    for expected in (first, first, f"{first}; run 5: 1 values of column total were clamped"):
        check = evaluations(run(definitions, instance))["adjusted"]
        assert (check.passed, check.severity) == (False, WARN)
        assert (check.description or "").startswith(expected)
    monkeypatch.setattr(checks, "CHANGES_SHOWN", timedelta(0))
    assert evaluations(run(definitions, instance))["adjusted"].passed is True


def test_warning_about_adjusted_values_does_not_grow_with_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "ADJUSTMENTS_SHOWN", 2)
    shown: list[checks.Adjustment] = []
    for number in range(1, 6):
        outcome = checks.adjusted(receipt(run_sequence=number, adjusted=(Adjusted("total", "clamp", 1),)), shown)
        entry = outcome.numbers[checks.ADJUSTMENTS]
        assert isinstance(entry, dg.JsonMetadataValue)
        shown = entry.value  # type: ignore[assignment]
    assert [number for _, number, _ in shown] == [4, 5]


def test_only_a_table_whose_values_may_be_adjusted_has_a_check_of_them(build: Build) -> None:
    def names(more: str) -> set[str]:
        graph = build(TABLES + more).resolve_asset_graph()
        return {key.name for key in graph.asset_check_keys}

    assert "adjusted" not in names("    types: {numeric: fail}\n    column_types: {note: text}\n")
    assert "adjusted" in names("    column_types: {note: null}\n")
    assert "adjusted" not in names("    types: {numeric: clamp}\n    checks: {adjusted: {enabled: false}}\n")


def test_changed_schema_warns_with_before_and_after() -> None:
    change = Finding("column renamed", Action.ADAPT, "column name was renamed to title", "name", "title")
    verdict = checks.judge("schema", Check(), receipt(schema_changes=(change,)))
    assert (verdict.passed, verdict.severity) == (False, WARN)
    assert change.text in verdict.text
    assert "| column renamed | adapt | name | title |" in verdict.numbers["changes"].value
    assert checks.judge("schema", Check(), receipt()).passed is True
