"""What a project with several components has once: an assessment for each source, and a gc for each target."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from aurora_sync.engine import gc
from aurora_sync.orchestration.component import AuroraSync
from aurora_sync_tests.orchestration.conftest import Build
from aurora_sync_tests.orchestration.test_connection_values import table

pytestmark = [
    pytest.mark.usefixtures("no_settings"),
    pytest.mark.filterwarnings("ignore:`parse_obj_as` is deprecated"),  # a call of pydantic inside Dagster
    pytest.mark.filterwarnings("ignore::dagster.BetaWarning"),  # Dagster warns about its own beta interfaces
]


def project(components: dict[str, dict[str, Any]]) -> dg.Definitions:
    """Load a project with a component in each folder."""
    with create_defs_folder_sandbox() as sandbox:
        for folder, attributes in components.items():
            sandbox.scaffold_component(
                AuroraSync,
                defs_path=folder,
                defs_yaml_contents={"type": "aurora_sync.AuroraSync", "attributes": attributes},
            )
        with sandbox.build_all_defs() as definitions:
            definitions.get_repository_def().load_all_definitions()
            return definitions


def once(definitions: dg.Definitions) -> set[str]:
    """Return the schedules of assessments and of gc."""
    return {each.name for each in definitions.schedules or () if each.name.endswith(("_assess", "_gc_weekly"))}


def assessed(definitions: dg.Definitions, name: str) -> set[str]:
    key = dg.AssetKey([name, "advisor", "assessment"])
    return {check.name for check in definitions.resolve_asset_graph().asset_check_keys if check.asset_key == key}


def test_components_of_the_environment_share_an_assessment_and_a_gc() -> None:
    definitions = project({name: {"tables": [table("t", schema=name)]} for name in ("sales", "crm", "web")})
    assert once(definitions) == {"crm_assess", "crm_gc_weekly"}
    assert assessed(definitions, "crm") == {"transaction_ids", "crm__t", "sales__t", "web__t"}


def test_each_source_has_an_assessment_and_each_target_a_gc() -> None:
    def component(schema: str, source: str, warehouse: str, **more: Any) -> dict[str, Any]:
        tables = [table("t", schema=schema)]
        return {"source": {"name": source, "dsn": "dbname=x"}, "warehouse": warehouse, "tables": tables, **more}

    definitions = project(
        {
            "a": component("a", "one", "duckdb:x"),
            "b": component("b", "two", "duckdb:x", translation={"key_prefix": "lake"}),
            "c": component("c", "two", "duckdb:y"),
        }
    )
    assert once(definitions) == {"a_assess", "a_gc_weekly", "b_assess", "c_gc_weekly"}
    assert assessed(definitions, "a") == {"transaction_ids", "a__t"}
    assert assessed(definitions, "b") == {"transaction_ids", "lake__b__t", "c__t"}


def test_gc_waits_for_the_longest_snapshot_of_all_components(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the limit of its own tables only, the gc of one component removes files that a run of another needs."""
    limits: list[timedelta] = []

    def collect(_places: None, *, older_than: timedelta) -> list[gc.Collected]:
        limits.append(older_than)
        return []

    monkeypatch.setattr(gc, "collect", collect)
    monkeypatch.setattr(gc, "compact_log", lambda _places: 0)
    monkeypatch.setattr("aurora_sync.orchestration.resources.Connections.places", lambda _: None)
    slow = table("t", schema="slow", max_snapshot_minutes=30_000)
    definitions = project({"crm": {"tables": [table("t")]}, "slow": {"tables": [slow]}})
    assert definitions.resolve_job_def("crm_gc").execute_in_process().success
    assert limits == [timedelta(minutes=90_000)]


def test_materialize_all_and_a_selection_of_all_assets_leave_verification_and_assessment_out(build: Build) -> None:
    """The UI materializes what is executable and not observable."""
    definitions = build("tables:\n  - {table_name: a, watermark_type: xmin}\n")
    graph = definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in dg.AssetSelection.all().resolve(graph)} == {"public/a"}
    for last in ("verification", "assessment"):
        (node,) = [graph.get(key) for key in graph.get_all_asset_keys() if key.path[-1] == last]
        assert (node.is_materializable, node.is_observable, node.is_executable) == (False, True, True)


def test_people_have_a_job_for_the_verification_of_all_groups(build: Build) -> None:
    definitions = build(
        "tables:\n  - {table_name: a, watermark_type: xmin}\n  - {table_name: b, group: x, watermark_type: xmin}\n"
    )
    keys = definitions.resolve_job_def("aurora_sync_verify").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in keys} == {"aurora_sync/public/verification", "aurora_sync/x/verification"}
