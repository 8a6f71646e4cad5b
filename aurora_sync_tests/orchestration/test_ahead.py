"""Tables of a run that one process executes are synced together, before their steps. On PostgreSQL, S3 and DuckDB."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import create_execution_plan, execute_plan

from aurora_sync.config.loader import load
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch, together
from aurora_sync.errors import WarehouseError
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync_tests.orchestration.conftest import Build, Execute, run

NAMES = ("customers", "orders", "items")
TABLES = "tables:\n" + "".join(f"  - {{table_name: {name}, watermark_type: xmin}}\n" for name in NAMES)

pytestmark = pytest.mark.usefixtures("customers")


@pytest.fixture(autouse=True)
def _tables(customers: None, execute: Execute) -> None:
    for name in NAMES[1:]:
        execute(f"CREATE TABLE {name} (id int PRIMARY KEY, name text); INSERT INTO {name} VALUES (1, 'a')")


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The names of the tables that were synced together, by call."""
    called: list[set[str]] = []
    really = together.sync_together

    def spy(tables: Sequence[TableConfig], *arguments: Any, **options: Any) -> list[TableConfig]:
        called.append({table.table_name for table in tables})
        return really(tables, *arguments, **options)

    monkeypatch.setattr(batch, "sync_together", spy)
    return called


@pytest.fixture
def synced(build: Build, instance: dg.DagsterInstance, execute: Execute, batches: list[set[str]]) -> dg.Definitions:
    """Tables that were synced once, and have changed since."""
    definitions = build(TABLES)
    assert run(definitions, instance).success
    change(execute)
    batches.clear()
    return definitions


def change(execute: Execute) -> None:
    for name in NAMES:
        execute(f"UPDATE {name} SET name = 'later' WHERE id = 1")


def key(name: str) -> dg.AssetKey:
    return dg.AssetKey(["public", name])


def updated(result: dg.ExecuteInProcessResult | Any, name: str) -> Any:
    (found,) = result.asset_materializations_for_node(f"public__{name}")
    return found.metadata["rows_updated"].value


def names_in(path: Path, name: str) -> set[str]:
    with duckdb.connect(str(path)) as connection:
        return {each for (each,) in connection.sql(f"SELECT name FROM public.{name} WHERE id = 1").fetchall()}


@pytest.mark.closes_warehouse
def test_tables_of_a_run_are_synced_together_and_reported_by_their_steps(
    synced: dg.Definitions,
    instance: dg.DagsterInstance,
    batches: list[set[str]],
    warehouse_path: Path,
) -> None:
    result = run(synced, instance)
    assert result.success
    assert batches == [{*NAMES}]
    assert [updated(result, name) for name in NAMES] == [1, 1, 1]
    evaluated = [(each.asset_key.path[-1], each.passed) for each in result.get_asset_check_evaluations()]
    assert evaluated.count(("items", True)) == 5
    assert [names_in(warehouse_path, name) for name in NAMES] == [{"later"}] * 3


def test_a_first_run_syncs_each_table_in_its_own_step(
    build: Build, instance: dg.DagsterInstance, batches: list[set[str]]
) -> None:
    result = run(build(TABLES), instance)
    assert result.success
    assert batches == [{*NAMES}]  # which leaves them all
    (found,) = result.asset_materializations_for_node("public__items")
    assert found.metadata["rows_inserted"].value == 1


def test_a_table_with_an_error_fails_in_its_own_step(
    synced: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    execute("DROP TABLE orders")
    result = run(synced, instance, raise_on_error=False)
    assert not result.success
    assert {event.step_key for event in result.get_step_failure_events()} == {"public__orders"}
    assert [updated(result, name) for name in ("customers", "items")] == [1, 1]


def test_a_failed_transaction_leaves_each_table_to_its_step(
    synced: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise WarehouseError("no")

    monkeypatch.setattr(together, "apply_all", fail)
    result = run(synced, instance)
    assert [updated(result, name) for name in NAMES] == [1, 1, 1]


def test_a_step_with_options_syncs_its_table_itself(
    synced: dg.Definitions, instance: dg.DagsterInstance, batches: list[set[str]]
) -> None:
    configured = {"ops": {"public__customers": {"config": {"full": True}}}}
    result = run(synced, instance, run_config=configured)
    assert batches == [{"orders", "items"}]
    (found,) = result.asset_materializations_for_node("public__customers")
    assert found.metadata["rows_exported"].value == 10


def test_a_process_of_one_step_syncs_one_table(
    synced: dg.Definitions, instance: dg.DagsterInstance, batches: list[set[str]]
) -> None:
    """The multiprocess executor, and those of Celery and Kubernetes, execute a plan of one step in each process."""
    job = synced.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key(name) for name in NAMES})
    requested = instance.create_run_for_job(job, asset_selection=frozenset(key(name) for name in NAMES))
    plan = create_execution_plan(InMemoryJob(job), step_keys_to_execute=["public__orders"])
    execute_plan(plan, InMemoryJob(job), instance, requested)
    assert batches == []
    assert instance.get_latest_materialization_event(key("orders")) is not None


def test_a_table_that_waits_for_another_asset_is_not_synced_before_it(
    instance: dg.DagsterInstance, execute: Execute, tmp_path: Path, warehouse_path: Path, batches: list[set[str]]
) -> None:
    @dg.asset
    def gate(context: dg.AssetExecutionContext) -> None:
        if context.run.tags.get("closed"):
            raise dg.Failure("the gate is closed", allow_retries=False)

    def after_gate(spec: dg.AssetSpec, table: TableConfig) -> dg.AssetSpec:
        return spec.merge_attributes(deps=[gate]) if table.table_name == "items" else spec

    (tmp_path / "tables.yaml").write_text(TABLES, encoding="utf-8")
    tables = build_definitions(load(tmp_path / "tables.yaml"), get_asset_spec=after_gate)
    definitions = dg.Definitions.merge(tables, dg.Definitions([gate]))
    assert run(definitions, instance).success
    change(execute)
    batches.clear()
    result = run(definitions, instance, tags={"closed": "true"}, raise_on_error=False)
    assert not result.success
    assert batches == [{"customers", "orders"}]


@pytest.mark.closes_warehouse
def test_a_run_opens_the_file_of_its_warehouse_twice(
    synced: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    really = duckdb.connect

    def count(path: str, **options: Any) -> duckdb.DuckDBPyConnection:
        opened.append(path)
        return really(path, **options)

    monkeypatch.setattr(duckdb, "connect", count)
    assert run(synced, instance).success
    assert len(opened) == 2  # for the states of all targets, and for all increments
