"""The assessment in Dagster: the metadata of its asset, and the warnings of its checks."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from aurora_sync.advisor.evidence import Evidence, collect_evidence
from aurora_sync.orchestration import assessment
from aurora_sync.orchestration.compat import last_observation, last_verdict
from aurora_sync_tests.orchestration.conftest import Build, Execute, run

ASSESSMENT = dg.AssetKey(["aurora_sync", "advisor", "assessment"])
TABLES = """\
tables:
  - {table_name: customers, watermark_type: xmin}
  - {table_name: numbers, watermark_type: integer, watermark_col: id, watermark_set_by: database}
  - {table_name: moments, watermark_type: timestamp, watermark_col: updated_at, watermark_set_by: database}
  - {table_name: changes, watermark_type: outbox}
"""
SOURCE = """
CREATE TABLE numbers (id int PRIMARY KEY, v text);
INSERT INTO numbers SELECT i, 'v' FROM generate_series(1, 10) i;
CREATE TABLE moments (id int PRIMARY KEY, v text, updated_at timestamptz);
CREATE INDEX ON moments (updated_at);
INSERT INTO moments SELECT i, 'v', now() FROM generate_series(1, 10) i;
CREATE TABLE changes (id int PRIMARY KEY);
CREATE TABLE nobody (id int PRIMARY KEY);
"""


def assess(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, Any]:
    result = run(definitions, instance, asset_selection=[ASSESSMENT])
    assert result.success
    found = last_observation(instance, ASSESSMENT)
    assert found is not None
    return {name: entry.value for name, entry in found.metadata.items()}


def verdict(instance: dg.DagsterInstance, check: str) -> tuple[bool, str]:
    found = last_verdict(instance, dg.AssetCheckKey(ASSESSMENT, check))
    assert found is not None
    assert found.severity is dg.AssetCheckSeverity.WARN
    return found.passed, found.description or ""


@pytest.fixture
def definitions(customers: None, execute: Execute, build: Build) -> dg.Definitions:
    execute(SOURCE)
    return build(TABLES)


def test_matrix_and_the_tables_that_no_entry_names(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    shown = assess(definitions, instance)
    assert (shown["tables"], shown["tables_that_do_not_fit"], shown["tables_without_an_entry"]) == (4, 1, 1)
    assert shown["without_an_entry"] == "- public.nobody"
    head, _, first, *rest = shown["matrix"].splitlines()
    assert head.startswith("| table | has | fits | better | rows, size | inserted, updated, deleted")
    assert "| public.changes |" in first  # tables whose strategy does not fit come first
    assert r"the strategy needs triggers on the table: \`aurora-sync triggers plan public.changes\`" in first
    for row in rest:  # each says why, and what is better or why it is better
        _, _, fits, better, *_ = row.split(" | ")
        assert re.fullmatch(r"yes: \w.+\w", fits), row
        assert re.fullmatch(r"(\w+: \w.+)?", better), row
    assert verdict(instance, "public__customers") == (True, "xmin fits")
    assert verdict(instance, "transaction_ids")[0]


def test_strategy_that_no_longer_fits_is_a_warning_with_the_reason(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    execute("UPDATE numbers SET v = 'w' WHERE id < 5; DELETE FROM customers WHERE id = 1; DROP TABLE moments")
    shown = assess(definitions, instance)
    assert shown["tables_that_do_not_fit"] == 4
    passed, text = verdict(instance, "public__numbers")
    assert (passed, text.startswith("integer no longer fits: 4 rows were updated since")) == (False, True)
    passed, text = verdict(instance, "public__customers")
    assert (passed, "1 row was deleted since" in text) == (False, True)
    assert verdict(instance, "public__moments")[1].startswith("timestamp no longer fits: the table no longer exists")


def test_column_that_lies_is_found_when_tables_may_be_read(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute, build: Build
) -> None:
    execute("UPDATE moments SET v = 'w', updated_at = now() - interval '2 days' WHERE id = 3")
    assess(definitions, instance)
    assert verdict(instance, "public__moments") == (True, "timestamp fits")
    assess(build("advisor: {prove: true}\n" + TABLES), instance)
    passed, text = verdict(instance, "public__moments")
    assert not passed
    assert "1 of 10 rows" in text


def test_composite_is_judged_and_what_cannot_be_proved_stops_nothing(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute, build: Build
) -> None:
    execute("CREATE VIEW seen AS SELECT * FROM moments; DELETE FROM moments WHERE id = 1")
    tables = (
        "  - {table_name: moments, watermark_type: composite, watermark_cols: [updated_at, id]}\n"
        "  - {table_name: seen, primary_key: [id], watermark_type: timestamp, watermark_col: updated_at}\n"
        "  - {table_name: numbers, watermark_type: timestamp, watermark_col: updatd_at}\n"
    )
    assess(build("advisor: {prove: true}\ntables:\n" + tables), instance)
    assert "1 row was deleted since" in verdict(instance, "public__moments")[1]
    passed, text = verdict(instance, "public__seen")
    assert (passed, "no longer fits" in text) == (False, True)
    assert "updatd_at" in verdict(instance, "public__numbers")[1]


def test_table_whose_rows_cannot_be_read_stops_no_assessment(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute, build: Build
) -> None:
    fails = "timestamptz GENERATED ALWAYS AS (to_timestamp(1 / id)) VIRTUAL"
    execute(f"CREATE TABLE broken (id int PRIMARY KEY, updated_at {fails}); INSERT INTO broken VALUES (0)")
    broken = "  - {table_name: broken, watermark_type: timestamp, watermark_col: updated_at}\n"
    assess(build(f"advisor: {{prove: true}}\n{TABLES}{broken}"), instance)
    assert "the rows could not be read: public.broken: division by zero" in verdict(instance, "public__broken")[1]
    assert verdict(instance, "public__moments") == (True, "timestamp fits")


def test_transaction_ids_that_run_out(
    definitions: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*arguments: Any) -> Evidence:
        return replace(collect_evidence(*arguments), xids_per_day=5e8, days_to_wraparound=3.0)

    monkeypatch.setattr(assessment, "collect_evidence", busy)
    assert assess(definitions, instance)["days_to_wraparound"] == 3
    passed, text = verdict(instance, "transaction_ids")
    assert (passed, "they last for 3 days" in text) == (False, True)


def test_source_that_does_not_answer_fails_the_run_and_is_retried(
    definitions: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURORA_DSN", "host=127.0.0.1 port=1 dbname=x user=x")
    result = run(definitions, instance, asset_selection=[ASSESSMENT], raise_on_error=False)
    assert not result.success
    assert [event.event_type_value for event in result.all_events].count("STEP_RESTARTED") == 3
    assert last_observation(instance, ASSESSMENT) is None


def test_schedule_is_that_of_the_configuration(no_settings: None, build: Build) -> None:
    def crons(definitions: dg.Definitions) -> list[str]:
        return [s.cron_schedule for s in definitions.schedules or [] if s.name == "aurora_sync_assess"]  # type: ignore[union-attr, misc]

    assert crons(build(TABLES)) == ["0 6 * * *"]
    assert crons(build("advisor: {schedule: '*/30 * * * *'}\n" + TABLES)) == ["*/30 * * * *"]
