from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from aurora_sync.errors import ConfigError
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration.automation import on_new_rows
from aurora_sync.orchestration.change_sensor import heartbeat
from aurora_sync_tests.orchestration.conftest import TABLES, Build, run
from aurora_sync_tests.orchestration.receipts import receipt

pytestmark = pytest.mark.usefixtures("no_settings")
CUSTOMERS = dg.AssetKey(["public", "customers"])


def table(name: str, *lines: str) -> str:
    return "\n".join([f"  - table_name: {name}", "    watermark_type: xmin", *(f"    {line}" for line in lines), ""])


def test_there_is_one_schedule_for_each_cron_and_group(build: Build) -> None:
    definitions = build(
        "tables:\n"
        + table("a", "schedule: '*/15 * * * *'")
        + table("b", "schedule: '*/15  *  * * *'")
        + table("c", "schedule: '0 2 * * 1-5'")
        + table("d")
        + table("e", "schedule: '*/15 * * * *'", "group: sales")
    )
    schedules: dict[str, Any] = {schedule.name: schedule for schedule in definitions.schedules or ()}
    always = {"aurora_sync_assess", "aurora_sync_gc_weekly", "aurora_sync_report_daily"}
    assert set(schedules) - always == {
        "aurora_sync_every_15_minutes_public",
        "aurora_sync_every_15_minutes_sales",
        "aurora_sync_weekdays_at_02_00_public",
    }
    repository = definitions.get_repository_def()
    job = repository.get_job(schedules["aurora_sync_every_15_minutes_public"].job_name)
    assert job.asset_layer.executable_asset_keys == {dg.AssetKey(["public", "a"]), dg.AssetKey(["public", "b"])}
    assert schedules["aurora_sync_every_15_minutes_public"].execution_timezone == "UTC"


def test_change_sensor_watches_the_tables_without_a_schedule(build: Build) -> None:
    definitions = build("tables:\n" + table("a", "schedule: '0 2 * * *'") + table("b"))
    (sensor,) = definitions.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    assert "1 tables" in (sensor.description or "")
    assert not build("tables:\n" + table("a", "schedule: '0 2 * * *'")).sensors


@pytest.mark.filterwarnings("ignore:Parameter `include_sources`")  # raised by dg.evaluate_automation_conditions
def test_downstream_is_requested_on_new_rows_and_not_by_heartbeats_or_empty_syncs(
    build: Build, receipts: list[Receipt | Exception], instance: dg.DagsterInstance
) -> None:
    @dg.asset(deps=[CUSTOMERS], automation_condition=on_new_rows())
    def report() -> None: ...

    definitions = dg.Definitions.merge(build(TABLES), dg.Definitions(assets=[report]))
    cursor = None

    def requested() -> int:
        nonlocal cursor
        result = dg.evaluate_automation_conditions(definitions, instance=instance, cursor=cursor)
        cursor = result.cursor
        return result.total_requested

    def sync(run_sequence: int) -> None:
        receipts.append(receipt(run_sequence=run_sequence))
        run(definitions, instance, asset_selection=[CUSTOMERS])

    sync(1)
    assert requested() == 0  # the first evaluation only records the state
    sync(2)
    assert requested() == 1
    run(definitions, instance, asset_selection=[report.key])
    assert requested() == 0
    sync(2)
    assert requested() == 0
    last = instance.get_latest_materialization_event(CUSTOMERS)
    assert last is not None
    assert last.asset_materialization is not None
    instance.report_runless_asset_event(heartbeat(CUSTOMERS, last.asset_materialization))
    assert requested() == 0
    sync(3)
    assert requested() == 1


def test_tables_with_one_reconcile_schedule_share_a_job_that_asks_for_it(build: Build) -> None:
    definitions = build(
        "tables:\n"
        + table("a", "reconcile: {schedule: '0 3 * * *'}")
        + table("b c", "reconcile: {schedule: '0  3 * * *', every: 5}")
        + table("d", "reconcile: {every: 5}")
    )
    name = "aurora_sync_reconcile_daily_at_03_00_public"
    (schedule,) = [schedule for schedule in definitions.schedules or () if schedule.name == name]
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert schedule.cron_schedule == "0 3 * * *"
    job = definitions.resolve_job_def(name)
    assert len(job.nodes) == 2
    assert {op: config["config"]["reconcile"] for op, config in (job.run_config or {})["ops"].items()} == {
        node.name: True for node in job.nodes
    }


def test_job_of_all_tables_reconciles_them_at_the_push_of_a_button(build: Build) -> None:
    job = build("tables:\n" + table("a") + table("b")).resolve_job_def("aurora_sync_reconcile")
    assert {op: config["config"] for op, config in (job.run_config or {})["ops"].items()} == {
        "public__a": {"reconcile": True},
        "public__b": {"reconcile": True},
    }


EVERYTHING = """\
tables:
  - {table_name: a, watermark_type: xmin, reconcile: {schedule: "0 3 * * *"}, verify: "0 4 * * *"}
  - {table_name: b, watermark_type: xmin, schedule: "0 2 * * *"}
"""


def statuses(definitions: dg.Definitions) -> list[str]:
    instigators = [*(definitions.schedules or ()), *(definitions.sensors or ())]
    return [each.default_status.value for each in instigators]


def test_nothing_runs_until_someone_turns_it_on(build: Build) -> None:
    assert statuses(build(EVERYTHING)) == ["STOPPED"] * 7


def test_everything_runs_where_the_environment_of_the_code_location_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tables.yaml").write_text(EVERYTHING, encoding="utf-8")
    monkeypatch.delenv("AURORA_SYNC_TABLES", raising=False)
    monkeypatch.setenv("AURORA_SYNC_DEFAULT_STATUS", "RUNNING")
    assert statuses(runpy.run_module("aurora_sync.definitions")["defs"]) == ["RUNNING"] * 7
    monkeypatch.setenv("AURORA_SYNC_DEFAULT_STATUS", "on")
    with pytest.raises(ConfigError, match="AURORA_SYNC_DEFAULT_STATUS: found 'on'; expected RUNNING or STOPPED"):
        runpy.run_module("aurora_sync.definitions")
