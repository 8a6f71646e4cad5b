"""The specs of tables, as a project translates them, and everything that follows their keys and groups."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.core.component_tree import ComponentTreeException

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.compat import last_materialization, last_verdict
from aurora_sync.orchestration.component import AuroraSync
from aurora_sync_tests.orchestration.conftest import Execute, run
from aurora_sync_tests.orchestration.test_component import load

pytestmark = [
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),  # a call of pydantic inside Dagster
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),  # Dagster warns about its own beta interfaces
]
CUSTOMERS = {"table_name": "customers", "watermark_type": "xmin", "target_schema": "RAW_{schema}"}
LAKE = dg.AssetKey(["lake", "public", "customers"])
TRANSLATION = yaml.safe_load("""\
key: "lake/{{ table.schema }}/{{ table.table_name }}"
group_name: "{{ table.watermark_type }}_tables"
owners: ["team:{{ table.target_schema }}"]
tags: {domain: sales}
description: "{{ table.table_name }} for dbt. {{ spec.description }}"
kinds: [postgres, dbt]
metadata: {reviewed: true}
""")


def only(definitions: dg.Definitions, last: str) -> dg.AssetSpec:
    (spec,) = [
        spec
        for spec in definitions.resolve_all_asset_specs()
        if spec.key.path[-1] == last and spec.key.path[0] != "aurora"
    ]
    return spec


def watched(definitions: dg.Definitions) -> set[dg.AssetKey]:
    """Return the assets that the change sensor can request."""
    (sensor,) = definitions.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)
    job = definitions.get_repository_def().get_job(sensor.job_name or "")
    return set(job.asset_layer.executable_asset_keys)


@pytest.mark.usefixtures("no_settings")
def test_every_attribute_may_be_a_template_over_the_row_of_tables_yaml() -> None:
    definitions = load({"tables": [CUSTOMERS], "translation": TRANSLATION})
    spec = only(definitions, "customers")
    assert (spec.key, spec.group_name, list(spec.owners)) == (LAKE, "xmin_tables", ["team:RAW_public"])
    assert spec.description == "customers for dbt. `public.customers` of source, synced by xmin."
    assert (spec.tags["domain"], spec.tags["aurora_sync/strategy"]) == ("sales", "xmin")
    assert "dbt" in spec.kinds
    assert spec.metadata["reviewed"]
    assert spec.metadata["dagster/table_name"] == "RAW_PUBLIC.CUSTOMERS"
    definitions.get_repository_def().load_all_definitions()


@pytest.mark.usefixtures("no_settings")
def test_prefix_is_put_before_the_key() -> None:
    definitions = load({"tables": [CUSTOMERS], "translation": {"key_prefix": ["snowflake", "raw"]}})
    assert only(definitions, "customers").key == dg.AssetKey(["snowflake", "raw", "RAW_public", "customers"])


@pytest.mark.usefixtures("no_settings")
def test_checks_jobs_sensor_and_verification_follow_the_key_and_the_group() -> None:
    tables = [CUSTOMERS, {"table_name": "orders", "watermark_type": "xmin", "schedule": "0 2 * * *"}]
    definitions = load(
        {"defaults": {"verify": "0 5 * * 0"}, "tables": tables, "translation": TRANSLATION, "default_status": "RUNNING"}
    )
    orders = dg.AssetKey(["lake", "public", "orders"])
    graph = definitions.resolve_asset_graph()
    assert {check.asset_key for check in graph.asset_check_keys if check.name == "row_count"} == {LAKE, orders}
    verification = only(definitions, "verification")
    assert verification.key == dg.AssetKey(["crm", "xmin_tables", "verification"])
    assert {dep.asset_key for dep in verification.deps} == {LAKE, orders}
    assert watched(definitions) == {LAKE}
    reconcile = definitions.resolve_job_def("crm_reconcile")
    assert set((reconcile.run_config or {})["ops"]) == {"lake__public__customers", "lake__public__orders"}
    definitions.get_repository_def().load_all_definitions()


@pytest.mark.usefixtures("no_settings")
def test_table_with_an_automation_condition_is_not_watched_by_the_sensor() -> None:
    condition = "{{ dg.AutomationCondition.on_cron('@hourly') if table.table_name == 'customers' else none }}"
    tables = [CUSTOMERS, {"table_name": "orders", "watermark_type": "xmin"}]
    definitions = load({"tables": tables, "translation": {"automation_condition": condition}})
    assert only(definitions, "customers").automation_condition is not None
    assert watched(definitions) == {dg.AssetKey(["public", "orders"])}


@pytest.mark.usefixtures("no_settings")
def test_one_key_for_two_tables_and_partitions_are_refused_with_the_tables() -> None:
    tables = [CUSTOMERS, {"table_name": "orders", "watermark_type": "xmin"}]
    partitions = "{{ dg.StaticPartitionsDefinition(['a']) if table.table_name == 'orders' else none }}"
    with pytest.raises(ComponentTreeException) as caught:
        load({"tables": tables, "translation": {"key": "one", "partitions_def": partitions}})
    assert isinstance(caught.value.__cause__, ConfigError)
    partitioned, shared = caught.value.__cause__.problems
    assert partitioned.startswith("table public.orders: the translation sets partitions_def; expected none")
    assert shared.startswith(
        "table public.orders: the translation gives it the asset key one, which is also the key of"
    )


class InPython(AuroraSync):
    def get_asset_spec(self, spec: dg.AssetSpec, table: TableConfig) -> dg.AssetSpec:
        translated = super().get_asset_spec(spec, table)
        return translated.replace_attributes(key=["mine", table.table_name], metadata={})


@pytest.mark.usefixtures("no_settings")
def test_subclass_translates_in_python_after_the_yaml() -> None:
    definitions = load({"tables": [CUSTOMERS], "translation": {"group_name": "g"}}, component=InPython)
    spec = only(definitions, "customers")
    assert (spec.key, spec.group_name) == (dg.AssetKey(["mine", "customers"]), "g")


def test_translated_table_is_synced_checked_verified_and_read_by_its_key(
    customers: None, execute: Execute, instance: dg.DagsterInstance
) -> None:
    @dg.asset(ins={"table": dg.AssetIn(key=LAKE, input_manager_key="crm_io_manager")})
    def downstream(table: Any) -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"rows": table.read(["id"]).num_rows})

    ours = load({"tables": [CUSTOMERS], "translation": TRANSLATION})
    definitions = dg.Definitions.merge(ours, dg.Definitions(assets=[downstream]))
    assert run(definitions, instance).success
    synced = last_materialization(instance, LAKE)
    assert synced is not None
    assert synced.metadata["rows_inserted"].value == 10
    read = last_materialization(instance, downstream.key)
    assert read is not None
    assert read.metadata["rows"].value == 10
    execute("INSERT INTO customers VALUES (11, 'new', NULL)")
    verification = dg.AssetKey(["crm", "xmin_tables", "verification"])
    assert run(definitions, instance, asset_selection=[verification]).success
    verdict = last_verdict(instance, dg.AssetCheckKey(LAKE, "row_count"))
    assert verdict is not None
    assert str(verdict.metadata["last_verified"].value).startswith("equal at run sequence 2")
