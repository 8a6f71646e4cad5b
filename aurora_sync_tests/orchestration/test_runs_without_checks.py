"""The change sensor requests runs without checks; the steps evaluate them all the same."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

from aurora_sync.config.loader import expand, from_mapping
from aurora_sync.config.tables import TableConfig
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration import change_sensor
from aurora_sync.orchestration.assets import TableAsset, asset_key
from aurora_sync_tests.orchestration.conftest import TABLES, Build
from aurora_sync_tests.orchestration.receipts import receipt

KEY = dg.AssetKey(["public", "customers"])
ROW_COUNT = dg.AssetCheckKey(KEY, "row_count")

pytestmark = pytest.mark.usefixtures("no_settings")


def run_of_sensor(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *selected: dg.AssetCheckKey
) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_job_def("aurora_sync_changes")
    subset = job.get_subset(asset_selection={KEY}, asset_check_selection=set(selected))
    return subset.execute_in_process(instance=instance, raise_on_error=False)


def event_counts(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> Counter[str]:
    records = instance.get_records_for_run(result.run_id).records
    return Counter(str(each.event_log_entry.dagster_event_type) for each in records)


def test_a_run_without_checks_evaluates_them_at_the_materialization(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt(target_rows=15))
    result = run_of_sensor(build(TABLES), instance)
    assert result.success
    found = {each.check_name: each for each in result.get_asset_check_evaluations()}
    assert set(found) == {"row_count", "watermark", "merge_key", "certificate", "schema"}
    assert not found["row_count"].passed
    materialization = instance.fetch_materializations(KEY, limit=1).records[0]
    for each in found.values():
        assert each.target_materialization_data is not None
        assert each.target_materialization_data.storage_id == materialization.storage_id
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([ROW_COUNT])[ROW_COUNT]
    assert latest.run_id == result.run_id


def test_a_run_without_checks_has_no_rows_for_outputs_of_checks(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt())
    counted = event_counts(instance, run_of_sensor(build(TABLES), instance))
    assert counted["DagsterEventType.STEP_OUTPUT"] == 1
    assert counted["DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED"] == 0
    assert counted["DagsterEventType.ASSET_CHECK_EVALUATION"] == 5
    assert counted["None"] == 0  # no warning of Dagster about checks that are not part of the run


@pytest.mark.parametrize("selected", [(), (ROW_COUNT,)])
def test_a_blocking_check_fails_the_step_even_if_the_run_does_not_select_it(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance, selected: tuple[dg.AssetCheckKey, ...]
) -> None:
    receipts.append(receipt(target_rows=11))
    definitions = build(TABLES + "    checks: {row_count: {blocking: true}}\n")
    result = run_of_sensor(definitions, instance, *selected)
    assert not result.success
    assert instance.get_latest_materialization_event(KEY) is not None


def test_the_sensor_selects_only_blocking_checks(instance: dg.DagsterInstance) -> None:
    entries: list[dict[str, object]] = [
        {"table_name": "a", "watermark_type": "xmin"},
        {"table_name": "b", "watermark_type": "xmin", "checks": {"merge_key": {"blocking": True}}},
    ]
    tables = [TableAsset(each, dg.AssetSpec(asset_key(each))) for each in _tables(entries)]
    (request,) = change_sensor.tick(instance, "test", tables, {}, {}, 1.0, "app").run_requests or ()
    assert request.asset_check_keys == [dg.AssetCheckKey(dg.AssetKey(["public", "b"]), "merge_key")]


def test_a_check_that_is_launched_alone_syncs_its_table(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt())
    job = build(TABLES).resolve_implicit_global_asset_job_def()
    subset = job.get_subset(asset_selection=set(), asset_check_selection={ROW_COUNT})
    result = subset.execute_in_process(instance=instance)
    assert result.success
    assert instance.get_latest_materialization_event(KEY) is not None
    assert ROW_COUNT.name in {each.check_name for each in result.get_asset_check_evaluations()}


def _tables(entries: list[dict[str, object]]) -> list[TableConfig]:
    return expand(from_mapping({"tables": entries}, Path("tables.yaml")), ())


def test_schedules_of_tables_request_runs_without_checks(build: Build) -> None:
    definitions = build("""\
tables:
  - table_name: customers
    watermark_type: xmin
    schedule: "0 * * * *"
    reconcile: {schedule: "0 3 * * *"}
    verify: "0 4 * * *"
""")
    requests: dict[str, list[dg.RunRequest]] = {}
    for schedule in definitions.get_repository_def().schedule_defs:
        with dg.build_schedule_context() as context:
            requests[schedule.name] = list(schedule.evaluate_tick(context).run_requests or ())
    (hourly,) = requests["aurora_sync_hourly_public"]
    assert (hourly.asset_selection, hourly.asset_check_keys) == ([KEY], [])
    (reconciling,) = requests["aurora_sync_reconcile_daily_at_03_00_public"]
    assert reconciling.asset_check_keys == []
    assert reconciling.run_config == {"ops": {"public__customers": {"config": {"reconcile": True}}}}
    (verifying,) = requests["aurora_sync_verify_daily_at_04_00_public"]
    assert verifying.asset_check_keys is None
