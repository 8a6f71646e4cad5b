from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster.components.core.component_tree import ComponentTreeException
from dagster.components.testing import create_defs_folder_sandbox

from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.component import AuroraSync
from aurora_sync_tests.orchestration.test_automation import statuses

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),  # a call of pydantic inside Dagster
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),  # Dagster warns about its own beta interfaces
]


def load(attributes: dict[str, Any], folder: str = "crm", component: type[AuroraSync] = AuroraSync) -> dg.Definitions:
    kind = "aurora_sync.AuroraSync" if component is AuroraSync else f"{component.__module__}.{component.__name__}"
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component, defs_path=folder, defs_yaml_contents={"type": kind, "attributes": attributes}
        )
        with sandbox.load_component_and_build_defs(path) as (_, definitions):
            return definitions


def keys(definitions: dg.Definitions) -> set[str]:
    return {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs()}


def test_scaffolded_component_is_a_table_that_loads() -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            AuroraSync, defs_path="crm", scaffold_params={"table": "crm.customers", "strategy": "xmin"}
        )
        written = yaml.safe_load((Path(path) / "defs.yaml").read_text(encoding="utf-8"))
        assert written["attributes"] == {"tables": [{"table_name": "crm.customers", "watermark_type": "xmin"}]}
        with sandbox.load_component_and_build_defs(path) as (_, definitions):
            own = {"crm/crm/verification", "crm/advisor/assessment"}
            assert keys(definitions) == {"aurora/source/crm/customers", "crm/customers"} | own
            assert set(definitions.resources or ()) == {"crm", "crm_io_manager"}
            definitions.get_repository_def().load_all_definitions()


def test_component_has_the_keys_and_defaults_of_tables_yaml() -> None:
    definitions = load(
        {
            "defaults": {"schema": "legacy", "owners": ["team:crm"], "schedule": "0 2 * * *"},
            "tables": [
                {"table_name": "customers", "watermark_type": "xmin", "freshness": "2h"},
                {"table_name": "orders", "watermark_type": "integer", "watermark_col": "id", "owners": ["team:x"]},
            ],
            "advisor": {"schedule": "0 7 * * *"},
        }
    )
    specs = {spec.key.path[-1]: spec for spec in definitions.resolve_all_asset_specs() if len(spec.key.path) == 2}
    assert {name: list(spec.owners) for name, spec in specs.items()} == {
        "customers": ["team:crm"],
        "orders": ["team:x"],
    }
    assert specs["customers"].freshness_policy is not None
    crons = {s.name: s.cron_schedule for s in definitions.schedules or () if isinstance(s, dg.ScheduleDefinition)}
    assert crons == {
        "crm_sync_daily_at_02_00_legacy": "0 2 * * *",
        "crm_assess": "0 7 * * *",
        "crm_gc_weekly": "0 4 * * 0",
        "crm_report_daily": "0 6 * * *",
    }


def test_values_may_be_templates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_SCHEMA", "crm_eu")
    template = "{{ env.CRM_SCHEMA }}"
    definitions = load({"tables": [{"table_name": "customers", "schema": template, "watermark_type": "xmin"}]})
    assert "crm_eu/customers" in keys(definitions)


def test_two_components_live_in_one_code_location() -> None:
    table = {"table_name": "accounts", "watermark_type": "xmin"}
    definitions = dg.Definitions.merge(
        load({"tables": [table | {"schema": "crm"}]}, folder="crm"),
        load({"tables": [table | {"schema": "billing"}]}, folder="billing"),
    )
    assert {"crm/accounts", "billing/accounts"} < keys(definitions)
    definitions.get_repository_def().load_all_definitions()


def test_mistakes_are_all_reported_with_their_tables() -> None:
    tables = [
        {"table_name": "customers", "watermark_type": "timestamp"},
        {"table_name": "orders", "watermark_type": "xmim"},
    ]
    with pytest.raises(ComponentTreeException) as caught:
        load({"tables": tables})
    assert isinstance(caught.value.__cause__, ConfigError)
    customers, orders = caught.value.__cause__.problems
    assert "table public.customers: watermark_col: missing" in customers
    assert "table public.orders: watermark_type: found 'xmim'" in orders


def test_values_that_the_reader_of_tables_yaml_would_not_pass_on_are_reported_with_their_tables() -> None:
    table = {"table_name": "customers", "watermark_type": "xmin"}
    tables = [
        table | {"max_snapshot_minutes": 1 << 100},
        table | {"table_name": "orders", "tags": {1: "x"}},
        table | {"table_name": "a\0b"},
    ]
    with pytest.raises(ComponentTreeException) as caught:
        load({"tables": tables})
    assert isinstance(caught.value.__cause__, ConfigError)
    assert [problem.partition("defs.yaml: ")[2] for problem in caught.value.__cause__.problems] == [
        "table public.customers: max_snapshot_minutes: found a number of more than 64 bits; expected 35791 or less",
        "table public.orders: tags[1]: found 1; expected a string",
        "table public.a\\x00b: table_name: found 'a\\x00b'; expected a string without NUL characters",
    ]


def test_editors_are_offered_the_keys_of_tables_yaml() -> None:
    model = AuroraSync.get_model_cls()
    assert model is not None
    schema = model.model_json_schema()
    assert "watermark_type" in schema["$defs"]["TableConfig"]["properties"]
    assert "schedule" in schema["$defs"]["TableOptions"]["properties"]


def test_nothing_of_a_component_runs_unless_its_default_status_is_running() -> None:
    attributes = {"tables": [{"table_name": "customers", "watermark_type": "xmin"}]}
    assert statuses(load(attributes)) == ["STOPPED"] * 4
    assert statuses(load(attributes | {"default_status": "RUNNING"})) == ["RUNNING"] * 4
