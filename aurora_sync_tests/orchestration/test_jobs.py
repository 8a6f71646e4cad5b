"""Named jobs: their executor, and the tags, priorities and pools of runs and steps."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.core.component_tree import ComponentTreeException

from aurora_sync.config.loader import from_mapping
from aurora_sync.errors import ConfigError
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration import change_sensor
from aurora_sync.orchestration.assets import TableAsset, asset_key
from aurora_sync.orchestration.cron_names import cron_name
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync_tests.orchestration.conftest import Build
from aurora_sync_tests.orchestration.receipts import receipt
from aurora_sync_tests.orchestration.test_change_sensor import config
from aurora_sync_tests.orchestration.test_component import load

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),  # a call of pydantic inside Dagster
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),  # Dagster warns about its own beta interfaces
]
TABLES = """\
defaults: {schedule: "0 * * * *", verify: "0 5 * * 0", run_tags: {team: data}}
tables:
  - {table_name: a, watermark_type: xmin}
  - {table_name: b, watermark_type: xmin, pool: large, op_tags: {dagster-k8s/config: {container_config: {}}}}
  - {table_name: c, watermark_type: xmin, run_tags: {team: sales}, priority: 5}
  - {table_name: d, watermark_type: xmin, schedule: null, priority: -1}
"""


def requested(definitions: dg.Definitions, schedule: str) -> list[dg.RunRequest]:
    found = definitions.resolve_schedule_def(schedule)
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 1, 1, tzinfo=UTC), repository_def=definitions.get_repository_def()
    )
    return list(found.evaluate_tick(context).run_requests or ())


def names(request: dg.RunRequest) -> list[str]:
    return [key.path[-1] for key in request.asset_selection or ()]


def test_schedule_requests_one_run_for_the_tables_of_each_set_of_tags(build: Build) -> None:
    requests = requested(build(TABLES), "aurora_sync_hourly_public")
    assert [(names(each), each.tags.get("team"), each.tags.get("dagster/priority")) for each in requests] == [
        (["a", "b"], "data", None),
        (["c"], "sales", "5"),
    ]
    assert len({each.run_key for each in requests}) == 2


def test_schedule_of_tables_with_the_same_tags_has_one_run_and_its_job_has_the_tags(build: Build) -> None:
    definitions = build("""
tables:
  - {table_name: a, watermark_type: xmin, schedule: "0 * * * *", run_tags: {team: data, resources: {cpu: 1}}}
  - {table_name: b, watermark_type: xmin, schedule: "0 * * * *", run_tags: {team: data, resources: {cpu: 1}}}
""")
    (request,) = requested(definitions, "aurora_sync_hourly_public")
    assert request.asset_selection == [dg.AssetKey(["public", "a"]), dg.AssetKey(["public", "b"])]
    job = definitions.resolve_job_def("aurora_sync_hourly_public")
    assert (job.run_tags["team"], job.run_tags["resources"]) == ("data", '{"cpu": 1}')


def test_verification_of_a_group_has_a_run_for_the_tables_of_each_set_of_tags(build: Build) -> None:
    requests = requested(build(TABLES), "aurora_sync_verify_sundays_at_05_00_public")
    (node,) = {node for each in requests for node in each.run_config["ops"]}
    assert [(each.run_config["ops"][node]["config"]["tables"], each.tags["team"]) for each in requests] == [
        (["public.a", "public.b"], "data"),
        (["public.c"], "sales"),
        (["public.d"], "data"),
    ]


def test_sensor_requests_the_tables_of_each_set_of_tags_apart(instance: dg.DagsterInstance) -> None:
    configs = [config("a"), config("b", run_tags={"team": "sales"}), config("c", priority=3), config("d")]
    tables = [TableAsset(each, dg.AssetSpec(asset_key(each))) for each in configs]
    result = change_sensor.tick(instance, "test", tables, {}, {}, 1.0, "app")
    assert [(names(each), dict(each.tags)) for each in result.run_requests or ()] == [
        (["a", "d"], {}),
        (["b"], {"team": "sales"}),
        (["c"], {"dagster/priority": "3"}),
    ]
    assert len({each.run_key for each in result.run_requests or ()}) == 3


def test_runs_of_the_sensor_have_a_named_job_that_runs_a_part_of_its_tables(
    build: Build, instance: dg.DagsterInstance, receipts: list[Receipt | Exception]
) -> None:
    definitions = build(
        "tables:\n  - {table_name: a, watermark_type: xmin}\n  - {table_name: b, watermark_type: xmin}\n"
    )
    (sensor,) = definitions.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    assert sensor.job_name == "aurora_sync_changes"
    receipts.append(receipt(run_sequence=1))
    job = definitions.resolve_job_def("aurora_sync_changes")
    result = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey(["public", "b"])])
    assert [event.asset_key for event in result.get_asset_materialization_events()] == [dg.AssetKey(["public", "b"])]
    assert len(result.get_asset_check_evaluations()) == 5
    assert instance.get_runs()[0].job_name == "aurora_sync_changes"


def test_steps_have_the_pool_the_priority_and_the_tags_of_their_table(build: Build) -> None:
    definitions = build(TABLES)
    nodes = {node.name: node.definition for node in definitions.resolve_implicit_global_asset_job_def().nodes}
    assert {name: node.pools for name, node in nodes.items() if "public__" in name and "verif" not in name} == {
        "public__a": {"aurora_sync/source"},
        "public__b": {"large"},
        "public__c": {"aurora_sync/source"},
        "public__d": {"aurora_sync/source"},
    }
    assert "dagster-k8s/config" in nodes["public__b"].tags
    assert nodes["public__c"].tags["dagster/priority"] == "5"
    assert "dagster/priority" not in nodes["public__a"].tags


def test_tables_of_one_slot_have_one_pool_and_priority(build: Build) -> None:
    tables = """
tables:
  - {table_name: a, watermark_type: logical, slot: s}
  - {table_name: b, watermark_type: logical, slot: s, pool: p, priority: 2}
"""
    with pytest.raises(ConfigError) as caught:
        build(tables)
    first, second = caught.value.problems
    assert first.startswith("table public.b: pool: found another value than public.a has; expected one pool for all")
    assert second.startswith("table public.b: priority: found another value")


def executors(definitions: dg.Definitions) -> dict[str, str]:
    repository = definitions.get_repository_def()
    return {job.name: job.executor_def.name for job in repository.get_all_jobs()}


def test_jobs_have_an_executor_of_their_own_and_the_code_location_keeps_its_own(build: Build) -> None:
    ours = build(TABLES)
    foreign = dg.Definitions(executor=dg.in_process_executor)
    found = executors(dg.Definitions.merge(ours, foreign))
    assert found.pop("__ASSET_JOB") == "in_process"
    assert set(found) == {
        "aurora_sync_assess",
        "aurora_sync_changes",
        "aurora_sync_gc",
        "aurora_sync_hourly_public",
        "aurora_sync_load_large_table",
        "aurora_sync_reconcile",
        "aurora_sync_reload_rows",
        "aurora_sync_report",
        "aurora_sync_verify",
        "aurora_sync_verify_sundays_at_05_00_public",
    }
    assert set(found.values()) == {"multiprocess"}


def test_every_field_of_the_launchpad_has_a_description_and_no_step_an_internal_name(build: Build) -> None:
    repository = build(TABLES).get_repository_def()
    fields: dict[tuple[str, str], str | None] = {}
    for job in repository.get_all_jobs():
        for node in job.nodes:
            schema = node.definition.config_schema
            found = getattr(schema.config_type, "fields", {}) if schema else {}
            fields |= {(node.name, name): field.description for name, field in found.items()}
            if not job.asset_layer.executable_asset_keys:
                assert node.definition.description, node.name
                assert not node.name.startswith("aurora_sync_"), node.name
    assert {"tables", "table", "full", "since"} <= {name for _, name in fields}
    assert [field for field, description in fields.items() if not description] == []


@dg.executor(name="pods")
def pods(_context: dg.InitExecutorContext) -> Any:
    raise NotImplementedError


def test_component_takes_an_executor() -> None:
    table = {"table_name": "a", "watermark_type": "xmin"}
    found = executors(load({"tables": [table], "executor": "in_process"}))
    assert {name: used for name, used in found.items() if used != "in_process"} == {
        "__ASSET_JOB": "multi_or_in_process_executor"
    }
    with pytest.raises(ComponentTreeException) as caught:
        load({"tables": [table], "executor": "threads"})
    assert "executor: found 'threads'; expected in_process, or a template" in str(caught.value.__cause__)


def test_definitions_take_an_executor_of_the_project() -> None:
    config = from_mapping({"tables": [{"table_name": "a", "watermark_type": "xmin"}]}, Path("x"))
    assert "pods" in executors(build_definitions(config, executor=pods)).values()


def test_two_components_with_executors_live_in_one_code_location() -> None:
    """Dagster refuses to merge two Definitions that both have an executor."""
    attributes: dict[str, Any] = {"executor": "in_process"}
    table = {"table_name": "accounts", "watermark_type": "xmin"}
    definitions = dg.Definitions.merge(
        load(attributes | {"tables": [table | {"schema": "crm"}]}, folder="crm"),
        load(attributes | {"tables": [table | {"schema": "billing"}]}, folder="billing"),
        dg.Definitions(executor=dg.multiprocess_executor),
    )
    assert executors(definitions)["__ASSET_JOB"] == "multiprocess"


def test_tags_and_priorities_change_no_code_version(build: Build) -> None:
    def versions(more: str) -> set[str | None]:
        definitions = build(f"tables:\n  - {{table_name: a, watermark_type: xmin{more}}}\n")
        return {spec.code_version for spec in definitions.resolve_all_asset_specs()}

    assert versions("") == versions(", priority: 3, pool: p, op_tags: {a: b}, run_tags: {a: b}")


@pytest.mark.parametrize(
    ("cron", "name"),
    [
        ("* * * * *", "every_minute"),
        ("*/15 * * * *", "every_15_minutes"),
        ("0 * * * *", "hourly"),
        ("5 * * * *", "hourly_at_05"),
        ("0 */6 * * *", "every_6_hours"),
        ("7 */6 * * *", "every_6_hours_at_07"),
        ("30 2 * * *", "daily_at_02_30"),
        ("0 2 * * 1-5", "weekdays_at_02_00"),
        ("0 5 * * 0", "sundays_at_05_00"),
        ("0 5 1 * *", "monthly_on_day_1_at_05_00"),
        ("0 5 * * 7", "0_5_x_x_7"),
        ("0 05 * * *", "0_05_x_x_x"),
        ("0,30 2 * * *", "0and30_2_x_x_x"),
        ("0 5 1 1 *", "0_5_1_1_x"),
    ],
)
def test_names_of_crons_can_be_read(cron: str, name: str) -> None:
    assert cron_name(cron) == name
