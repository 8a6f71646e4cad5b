import gc
import json
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import dagster as dg
import psycopg2
import pytest
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from syrupy.assertion import SnapshotAssertion

from aurora_sync.config.loader import load
from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync_tests.orchestration.conftest import TABLES, Build

REPOSITORY = Path(__file__).parents[2]
CUSTOMERS = dg.AssetKey(["public", "customers"])


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process without settings of the project, and with ``changes``."""
    ours = ("AURORA_", "AWS_", "SNOWFLAKE_", "DAGSTER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | changes


def described(spec: dg.AssetSpec) -> dict[str, Any]:
    metadata = {name: value for name, value in spec.metadata.items() if name.startswith(("dagster/", "aurora_sync/"))}
    if (references := metadata.pop("dagster/code_references", None)) is not None:
        (reference,) = references.code_references
        metadata["line"] = f"{Path(reference.file_path).name}:{reference.line_number}"
    return {
        "description": spec.description,
        "group": spec.group_name,
        "kinds": sorted(spec.kinds),
        "owners": list(spec.owners),
        "tags": {name: value for name, value in spec.tags.items() if not name.startswith("dagster/kind/")},
        "code_version": spec.code_version,
        "deps": [dep.asset_key.to_user_string() for dep in spec.deps],
        "freshness": str(spec.freshness_policy) if spec.freshness_policy else None,
        "metadata": metadata,
    }


@pytest.mark.usefixtures("no_settings")
def test_definitions_of_the_sample_are_as_they_were(snapshot: SnapshotAssertion) -> None:
    definitions = build_definitions(load(REPOSITORY / "tables.yaml"))
    graph = definitions.resolve_asset_graph()
    assets = definitions.resolve_all_asset_specs()
    assert {
        "assets": {spec.key.to_user_string(): described(spec) for spec in assets},
        "checks": {key.to_user_string(): graph.get(key).blocking for key in sorted(graph.asset_check_keys, key=str)},
        "pools": sorted({node.pools.pop() for node in graph.asset_nodes if node.pools}),
        "schedules": {
            schedule.name: schedule.cron_schedule
            for schedule in definitions.schedules or ()
            if isinstance(schedule, dg.ScheduleDefinition)
        },
        "sensors": {sensor.name: sensor.description for sensor in definitions.sensors or ()},
        "resources": sorted(definitions.resources or ()),
    } == snapshot


def test_comments_and_columns_come_from_the_catalogue(customers: None, build: Build, dsn: str) -> None:
    database = dsn.rpartition("/")[2]
    definitions = build(TABLES)
    specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs()}
    customer = specs[CUSTOMERS]
    assert (customer.description or "").startswith("Whom we sell to.\n\n")
    columns = {column.name: column for column in customer.metadata["dagster/column_schema"].columns}
    assert [(name, column.type) for name, column in columns.items()] == [
        ("id", "integer"),
        ("name", "text"),
        ("note", "character varying(20)"),
    ]
    assert columns["name"].description == "As on the invoice."
    assert columns["id"].constraints.other == ["merge key"]
    upstream = dg.AssetKey(["aurora", database, "public", "customers"])
    assert [dep.asset_key for dep in customer.deps] == [upstream]
    assert specs[upstream].description == "Whom we sell to."


def test_a_process_that_runs_steps_asks_the_source_for_nothing(
    settings: None, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connect(*_: Any, **__: Any) -> None:
        raise AssertionError("the process connected to the source")

    monkeypatch.setattr(psycopg2, "connect", connect)
    with DefinitionsLoadContext.scoped(DefinitionsLoadContext(DefinitionsLoadType.RECONSTRUCTION)):
        definitions = build(TABLES)
    assert CUSTOMERS in {spec.key for spec in definitions.resolve_all_asset_specs()}


def test_code_version_changes_with_the_table_and_with_nothing_else(no_settings: None, build: Build) -> None:
    def version(text: str) -> str | None:
        specs = {spec.key: spec for spec in build(text).resolve_all_asset_specs()}
        return specs[CUSTOMERS].code_version

    assert version(TABLES) == version(TABLES + "  - {table_name: other, watermark_type: xmin}\n")
    assert version(TABLES) != version(TABLES + "    deletes: soft\n")


def test_names_that_dagster_would_refuse_make_definitions(no_settings: None, build: Build) -> None:
    definitions = build("""
tables:
  - {schema: "My Schema", table_name: 'Order "Items"', watermark_type: xmin}
  - {schema: "naïve-1", table_name: "a b", watermark_type: xmin}
""")
    definitions.get_repository_def().load_all_definitions()


def test_source_that_does_not_answer_costs_the_descriptions_only(
    no_settings: None, build: Build, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AURORA_DSN", "postgresql://someone:secret@127.0.0.1:1/legacy")
    monkeypatch.setenv("AURORA_SYNC_STAGE", "s3://bucket")
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", "duckdb:w")
    specs = {spec.key: spec for spec in build(TABLES).resolve_all_asset_specs()}
    assert specs[CUSTOMERS].description == "`public.customers` of legacy, synced by xmin."
    assert "cannot connect" in caplog.text
    assert "secret" not in caplog.text


def test_glob_without_a_source_says_what_is_missing(no_settings: None, build: Build) -> None:
    with pytest.raises(ConfigError, match="a glob needs the list of tables from the source"):
        build("tables:\n  - {table_name: 'audit_*', watermark_type: xmin}\n")


def test_glob_becomes_an_asset_for_each_table(settings: None, execute: Any, build: Build) -> None:
    execute("CREATE TABLE audit_a (id int PRIMARY KEY); CREATE TABLE audit_b (id int PRIMARY KEY)")
    definitions = build("tables:\n  - {table_name: 'audit_*', watermark_type: xmin}\n")
    made = {spec.key.path[-1] for spec in definitions.resolve_all_asset_specs() if spec.key.path[0] == "public"}
    assert made == {"audit_a", "audit_b"}


@pytest.mark.usefixtures("no_settings")
def test_thousand_tables_load_as_one_code_location(build: Build) -> None:
    text = "tables:\n" + "".join(
        f"  - {{table_name: t{i}, watermark_type: xmin, schedule: '{i % 4} * * * *'}}\n" for i in range(1000)
    )
    repository = build(text).get_repository_def()
    repository.load_all_definitions()
    assert len(repository.asset_graph.materializable_asset_keys) == 1000
    assert len(repository.asset_graph.observable_asset_keys) == 2  # one verification and one assessment
    assert len(repository.schedule_defs) == 4 + 3  # of gc, of the assessment and of the report
    # Not one job for each table: Dagster would need minutes to load them.
    # Of schedules; assess, changes, gc, load_large_table, reconcile, reload_rows, report, verify, and Dagster's own.
    assert len(repository.job_names) <= 4 + 9


def test_importing_the_definitions_loads_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "tables.yaml").write_text(TABLES, encoding="utf-8")
    program = "import sys, json, aurora_sync.definitions\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "dagster" in loaded
    assert not loaded & {"snowflake.connector", "dagster_snowflake", "pandas", "pyarrow", "numpy", "dagster_aws"}


def test_broken_tables_file_ends_the_loading_of_definitions_with_its_place(
    tmp_path: Path, no_settings: None, monkeypatch: pytest.MonkeyPatch, subtests: pytest.Subtests
) -> None:
    monkeypatch.delenv("AURORA_SYNC_TABLES", raising=False)
    problems = {
        b"": ": the file is empty; expected the key tables with a list of one or more entries",
        b"\x7fELF\2": ":1: the character '\\x7f' is not allowed in YAML",
        TABLES.encode() + b"    checks: {schema: {evry: 1}}": ":4: table public.customers: checks.schema.evry: unknown",
    }
    for text, problem in problems.items():
        with subtests.test(problem):
            Path("tables.yaml").write_bytes(text)
            with pytest.raises(ConfigError) as raised:
                runpy.run_module("aurora_sync.definitions")
            (line,) = traceback.format_exception_only(raised.value)
            assert line.startswith(f"aurora_sync.errors.ConfigError: tables.yaml{problem}")


def test_missing_tables_file_ends_a_process_with_its_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import aurora_sync.definitions"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(AURORA_SYNC_TABLES=""), capture_output=True, text=True, timeout=540
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "aurora_sync.errors.ConfigError: tables.yaml: the file does not exist (set AURORA_SYNC_TABLES to the path of "
        "the file)"
    )


def test_workspace_of_the_repository_validates(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("dagster")), "definitions", "validate", "-w", "workspace.yaml"]
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environment(DAGSTER_HOME=str(home)), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Validation successful for code location aurora_sync" in done.stdout + done.stderr


@pytest.mark.usefixtures("no_settings")
def test_garbage_collector_waits_until_the_definitions_are_built(tmp_path: Path) -> None:
    entries = "".join(f"  - {{table_name: t{number}, watermark_type: xmin}}\n" for number in range(100))
    (tmp_path / "tables.yaml").write_text("tables:\n" + entries, encoding="utf-8")
    config = load(tmp_path / "tables.yaml")
    collected: list[int] = []

    def record(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collected.append(info["generation"])

    gc.callbacks.append(record)
    try:
        build_definitions(config)
        assert len(collected) <= 2  # before the pause and after it; else hundreds
    finally:
        gc.callbacks.remove(record)
    assert gc.isenabled()


@pytest.mark.usefixtures("no_settings")
def test_garbage_collector_goes_on_after_definitions_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "tables.yaml").write_text('tables: [{table_name: "a*", watermark_type: xmin}]\n', encoding="utf-8")
    with pytest.raises(ConfigError):
        build_definitions(load(tmp_path / "tables.yaml"))
    assert gc.isenabled()
