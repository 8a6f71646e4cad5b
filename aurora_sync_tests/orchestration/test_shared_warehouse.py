"""The steps of a run share a connection to the warehouse, where no other step can need it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import duckdb
import pytest
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster_shared.record import copy

from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.orchestration.conftest import Build, Execute

KEYS = frozenset(dg.AssetKey(["public", name]) for name in ("customers", "orders"))
TABLES = """\
tables:
  - {table_name: customers, watermark_type: xmin}
  - {table_name: orders, watermark_type: xmin}
"""
ROW_COUNT = dg.AssetCheckKey(dg.AssetKey(["public", "orders"]), "row_count")

pytestmark = [pytest.mark.usefixtures("customers"), pytest.mark.closes_warehouse]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The DuckDB files that were opened, in order."""
    really_open, files = DuckDBWarehouse._open, list[Path]()

    def count(self: DuckDBWarehouse, deadline: float) -> duckdb.DuckDBPyConnection:
        files.append(self.path)
        return really_open(self, deadline)

    monkeypatch.setattr(DuckDBWarehouse, "_open", count)
    return files


def run_of_sensor(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    keys: frozenset[dg.AssetKey] = KEYS,
    checks: frozenset[dg.AssetCheckKey] | None = frozenset(),
) -> None:
    """Run as the sensor requests it: a run that names its assets and checks."""
    job = definitions.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=keys, asset_check_selection=checks
    )
    requested = copy(instance.create_run_for_job(job, asset_selection=keys), asset_check_selection=checks)
    assert execute_run(InMemoryJob(job), requested, instance).success


@pytest.fixture
def tables(build: Build, execute: Execute) -> dg.Definitions:
    execute("CREATE TABLE orders (id int PRIMARY KEY); INSERT INTO orders VALUES (1)")
    return dg.Definitions.merge(build(TABLES), dg.Definitions(executor=dg.in_process_executor))


@pytest.mark.parametrize("checks", [frozenset(), frozenset({ROW_COUNT})])
def test_tables_of_a_run_share_a_connection(
    tables: dg.Definitions,
    instance: dg.DagsterInstance,
    opened: list[Path],
    checks: frozenset[dg.AssetCheckKey],
) -> None:
    run_of_sensor(tables, instance, checks=checks)
    assert len(opened) == 1
    # After the run, another program can open the file with other settings.
    with duckdb.connect(str(opened[0]), config={"threads": "1"}) as connection:
        assert connection.sql(
            "SELECT (SELECT count(*) FROM public.customers), (SELECT count(*) FROM public.orders)"
        ).fetchall() == [(10, 1)]


def test_a_run_with_assets_of_others_leaves_the_file_to_them(
    tables: dg.Definitions, instance: dg.DagsterInstance, opened: list[Path]
) -> None:
    @dg.asset(deps=[dg.AssetKey(["public", "customers"])])
    def report() -> int:
        with duckdb.connect(str(opened[0]), config={"threads": "1"}) as connection:
            return len(connection.sql("FROM public.customers").fetchall())

    definitions = dg.Definitions.merge(tables, dg.Definitions([report]))
    run_of_sensor(definitions, instance, KEYS | {report.key})
    assert len(opened) > 2


def test_a_run_with_all_checks_may_have_checks_of_others(
    tables: dg.Definitions, instance: dg.DagsterInstance, opened: list[Path]
) -> None:
    run_of_sensor(tables, instance, checks=None)
    assert len(opened) > 2


def test_a_run_with_a_check_of_others_leaves_the_file_to_it(
    tables: dg.Definitions, instance: dg.DagsterInstance, opened: list[Path]
) -> None:
    @dg.asset_check(asset=dg.AssetKey(["public", "orders"]))
    def not_empty() -> dg.AssetCheckResult:
        with duckdb.connect(str(opened[0]), config={"threads": "1"}) as connection:
            return dg.AssetCheckResult(passed=connection.sql("FROM public.orders").fetchall() == [(1,)])

    definitions = dg.Definitions.merge(tables, dg.Definitions(asset_checks=[not_empty]))
    run_of_sensor(definitions, instance, checks=frozenset(not_empty.check_keys))
    assert len(opened) > 2
