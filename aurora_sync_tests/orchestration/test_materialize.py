"""Materializations on the real stack: PostgreSQL, S3, DuckDB."""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pandas
import pyarrow
import pytest

from aurora_sync.orchestration.warehouse_table import WarehouseTable
from aurora_sync_tests.orchestration.conftest import TABLES, Build, Execute, run

CUSTOMERS = dg.AssetKey(["public", "customers"])
NODE = "public__customers"

pytestmark = pytest.mark.usefixtures("customers")


def materialization(result: dg.ExecuteInProcessResult) -> dg.AssetMaterialization:
    (found,) = result.asset_materializations_for_node(NODE)
    return found


def values(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    return {name: entry.value for name, entry in materialization(result).metadata.items()}


def data_version(result: dg.ExecuteInProcessResult) -> str:
    return (materialization(result).tags or {})["dagster/data_version"]


def test_run_syncs_the_table_and_reports_it(build: Build, instance: dg.DagsterInstance) -> None:
    result = run(build(TABLES), instance)
    shown = values(result)
    assert {name: shown[name] for name in ("rows_exported", "rows_inserted", "rows_updated", "rows_deleted")} == {
        "rows_exported": 10,
        "rows_inserted": 10,
        "rows_updated": 0,
        "rows_deleted": 0,
    }
    assert list(shown)[:4] == ["state", "watermark_lag_seconds", "rows_changed", "next_reconcile"]
    assert shown["state"].startswith("Certified until 20")
    assert shown["rows_changed"] == "10 inserted, 0 updated, 0 deleted"
    assert shown["next_reconcile"].startswith("none is configured; the last one, or full read, was run 1, as of 20")
    assert shown["run_sequence"] == "1"
    assert shown["dagster/row_count"] == 10
    assert shown["dagster/table_name"] == "PUBLIC.CUSTOMERS"
    assert shown["dagster/uri"].startswith("s3://")
    assert [column.name for column in shown["dagster/column_schema"].columns] == ["id", "name", "note"]
    assert shown["bytes_staged"] > 0
    assert {name for name in shown if name.startswith("seconds_")} == {
        f"seconds_{phase}" for phase in ("plan", "export", "load", "merge", "total")
    }
    assert shown["watermark_before"] == {}
    assert shown["watermark_after"]["horizon"] == shown["snapshot"]["xmin"]
    assert shown["certificate"] == "certified"
    assert data_version(result) == "1"
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == {"row_count": True, "watermark": True, "merge_key": True, "certificate": True, "schema": True}


def test_only_what_is_worth_a_plot_is_a_number(build: Build, instance: dg.DagsterInstance) -> None:
    shown = materialization(run(build(TABLES), instance)).metadata
    numbers = {name for name, entry in shown.items() if isinstance(entry, dg.IntMetadataValue | dg.FloatMetadataValue)}
    assert numbers == {
        "dagster/row_count",
        "rows_exported",
        "rows_inserted",
        "rows_updated",
        "rows_deleted",
        "bytes_staged",
        "seconds_total",
        "watermark_lag_seconds",
    }


def test_second_run_moves_the_changes_only(build: Build, instance: dg.DagsterInstance, execute: Execute) -> None:
    definitions = build(TABLES)
    run(definitions, instance)
    execute("UPDATE customers SET name = 'other' WHERE id = 3; INSERT INTO customers VALUES (11, 'new', NULL)")
    result = run(definitions, instance)
    shown = values(result)
    assert (shown["rows_inserted"], shown["rows_updated"], shown["dagster/row_count"]) == (1, 1, 11)
    assert shown["watermark_before"]["horizon"] < shown["watermark_after"]["horizon"]
    assert data_version(result) == "2"


@pytest.mark.parametrize("strategy", ["xmin", "full_snapshot"])
def test_unchanged_table_keeps_its_data_version(
    build: Build, instance: dg.DagsterInstance, execute: Execute, strategy: str
) -> None:
    definitions = build(TABLES.replace("xmin", strategy))
    assert [data_version(run(definitions, instance)) for _ in range(3)] == ["1", "1", "1"]
    execute("DELETE FROM customers WHERE id = 1; UPDATE customers SET name = 'other' WHERE id = 2")
    assert data_version(run(definitions, instance)) > "1"


def test_row_deleted_at_the_source_is_a_warning_of_the_row_count(
    build: Build, instance: dg.DagsterInstance, execute: Execute
) -> None:
    definitions = build(TABLES)
    run(definitions, instance)
    execute("DELETE FROM customers WHERE id = 1; UPDATE customers SET name = 'other' WHERE id = 2")
    result = run(definitions, instance)
    assert result.success
    (check,) = (c for c in result.get_asset_check_evaluations() if c.check_name == "row_count")
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["excess_rows"].value == 1


def test_launchpad_can_ask_for_a_full_read(build: Build, instance: dg.DagsterInstance) -> None:
    definitions = build(TABLES)
    run(definitions, instance)
    result = run(definitions, instance, run_config={"ops": {NODE: {"config": {"full": True}}}})
    assert values(result)["rows_exported"] == 10


def test_guard_stops_a_delete_until_a_person_allows_it(
    build: Build, instance: dg.DagsterInstance, execute: Execute
) -> None:
    definitions = build(TABLES.replace("xmin", "full_snapshot"))
    run(definitions, instance)
    execute("DELETE FROM customers")
    assert not run(definitions, instance, raise_on_error=False).success
    allowed = {"ops": {NODE: {"config": {"allow_deletes": True}}}}
    assert values(run(definitions, instance, run_config=allowed))["rows_deleted"] == 10


def test_wrong_table_fails_once_and_says_why(build: Build, instance: dg.DagsterInstance, execute: Execute) -> None:
    execute("DROP TABLE customers")
    result = run(build(TABLES), instance, raise_on_error=False)
    failure = result.failure_data_for_node(NODE)
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "there is no such table" in (failure.user_failure_data.description or "")
    assert result.retry_attempts_for_node(NODE) == 0


Downstream = Callable[..., Any]


def received(build: Build, instance: dg.DagsterInstance, downstream: dg.AssetsDefinition, *, alone: bool) -> Any:
    definitions = dg.Definitions.merge(build(TABLES), dg.Definitions(assets=[downstream]))
    if not alone:
        return run(definitions, instance).output_for_node("report")
    run(definitions, instance, asset_selection=[CUSTOMERS])
    return run(definitions, instance, asset_selection=[downstream.key]).output_for_node("report")


@pytest.mark.parametrize("alone", [False, True], ids=["with its upstream", "alone"])
def test_downstream_gets_a_handle_and_no_rows_by_default(
    build: Build, instance: dg.DagsterInstance, alone: bool
) -> None:
    @dg.asset(ins={"table": dg.AssetIn(CUSTOMERS)})
    def report(table):  # type: ignore[no-untyped-def]  # the test needs a parameter without annotation
        assert isinstance(table, WarehouseTable)
        return [str(table), table.sql, table.run_sequence, table.read(["id"]).num_rows]

    assert received(build, instance, report, alone=alone) == ["PUBLIC.CUSTOMERS", '"PUBLIC"."CUSTOMERS"', 1, 10]


def test_downstream_gets_a_data_frame_where_it_asks_for_one(build: Build, instance: dg.DagsterInstance) -> None:
    @dg.asset(ins={"table": dg.AssetIn(CUSTOMERS)})
    def report(table: pandas.DataFrame) -> list[str]:
        assert sorted(table["ID"]) == list(range(1, 11))
        return list(table.columns)

    assert received(build, instance, report, alone=True) == ["ID", "NAME", "NOTE"]


def test_downstream_gets_an_arrow_table_of_the_columns_it_names(build: Build, instance: dg.DagsterInstance) -> None:
    @dg.asset(ins={"table": dg.AssetIn(CUSTOMERS, metadata={"columns": ["name"]})})
    def report(table: pyarrow.Table) -> list[Any]:
        return [table.column_names, table.num_rows]

    assert received(build, instance, report, alone=True) == [["NAME"], 10]


def test_downstream_gets_a_stream_of_batches(build: Build, instance: dg.DagsterInstance) -> None:
    @dg.asset(ins={"table": dg.AssetIn(CUSTOMERS)})
    def report(table: pyarrow.RecordBatchReader) -> int:
        return sum(batch.num_rows for batch in table)

    assert received(build, instance, report, alone=True) == 10


def test_rows_marked_as_deleted_are_not_read(build: Build, instance: dg.DagsterInstance, execute: Execute) -> None:
    definitions = build(TABLES.replace("xmin", "full_snapshot\n    deletes: soft"))
    run(definitions, instance)
    execute("DELETE FROM customers WHERE id < 3")

    @dg.asset(ins={"table": dg.AssetIn(CUSTOMERS)})
    def report(table: pyarrow.Table) -> int:
        return int(table.num_rows)

    both = dg.Definitions.merge(definitions, dg.Definitions(assets=[report]))
    assert run(both, instance).output_for_node("report") == 8


def test_no_secret_reaches_the_run_s_events(build: Build, instance: dg.DagsterInstance, dsn: str) -> None:
    password = dsn.partition("@")[0].rpartition(":")[2]
    result = run(build(TABLES), instance)
    events = json.dumps([str(entry) for entry in instance.all_logs(result.run_id)])
    assert len(password) > 8
    assert password not in events
