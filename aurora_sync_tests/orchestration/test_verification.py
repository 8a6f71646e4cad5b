"""The verification of a group: its verdicts, its metadata, and the verdicts in the checks of the tables."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg
import pytest

from aurora_sync.errors import Kind, SourceError
from aurora_sync.orchestration import checks
from aurora_sync.orchestration.compat import last_materialization, last_observation, last_verdict
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.orchestration.conftest import Build, Execute, run
from aurora_sync_tests.orchestration.test_automation import table

CUSTOMERS = dg.AssetKey(["public", "customers"])
ORDERS = dg.AssetKey(["public", "orders"])
VERIFICATION = dg.AssetKey(["aurora_sync", "public", "verification"])
NODE = VERIFICATION.to_python_identifier()
TWO = """\
tables:
  - {table_name: customers, watermark_type: xmin, verify: '0 5 * * 0'}
  - {table_name: orders, watermark_type: xmin, show_values: true}
"""
WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def verify(definitions: dg.Definitions, instance: dg.DagsterInstance, **config: Any) -> dg.ExecuteInProcessResult:
    options = {"run_config": {"ops": {NODE: {"config": config}}}} if config else {}
    return run(definitions, instance, asset_selection=[VERIFICATION], raise_on_error=False, **options)


def shown(instance: dg.DagsterInstance) -> dict[str, Any]:
    found = last_observation(instance, VERIFICATION)
    assert found is not None
    return {name: entry.value for name, entry in found.metadata.items()}


def check(instance: dg.DagsterInstance, key: dg.AssetKey, name: str) -> dg.AssetCheckEvaluation:
    found = last_verdict(instance, dg.AssetCheckKey(key, name))
    assert found is not None
    return found


def tamper(statement: str) -> None:
    with DuckDBWarehouse(os.environ["AURORA_SYNC_WAREHOUSE"].removeprefix("duckdb:")).session() as session:
        session.modify(statement)


@pytest.fixture
def definitions(customers: None, execute: Execute, build: Build) -> dg.Definitions:
    execute("CREATE TABLE orders (id int PRIMARY KEY, total int); INSERT INTO orders VALUES (1, 10), (2, 20)")
    return build(TWO)


def test_all_tables_of_a_group_are_proved_equal(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    run(definitions, instance)
    assert verify(definitions, instance).success
    found = shown(instance)
    assert {name: found[name] for name in ("tables", "tables_equal", "rows_compared", "rows_differing")} == {
        "tables": 2,
        "tables_equal": 2,
        "rows_compared": 12,
        "rows_differing": 0,
    }
    assert "| public.orders | equal | 2 | 2 |" in found["tables_verified"]
    equal = check(instance, VERIFICATION, "equal")
    assert (equal.passed, equal.description) == (True, "2 tables are equal to their sources")


def test_its_increment_is_reported_as_that_of_the_tables(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    """Without the report, a table would change without a materialization."""
    run(definitions, instance)
    execute("INSERT INTO orders VALUES (3, 30), (4, 40)")
    verify(definitions, instance)
    table = last_materialization(instance, ORDERS)
    assert table is not None
    assert (table.metadata["rows_inserted"].value, (table.tags or {})["dagster/data_version"]) == (2, "2")
    for name in ("row_count", "watermark", "merge_key", "certificate"):
        assert check(instance, ORDERS, name).passed
    assert str(check(instance, ORDERS, "row_count").metadata["last_verified"].value).startswith("equal at run")


def test_difference_fails_the_check_and_is_shown_side_by_side(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    run(definitions, instance)
    tamper('UPDATE "PUBLIC"."ORDERS" SET "TOTAL" = 21 WHERE "ID" = 2')
    assert verify(definitions, instance).success
    found = shown(instance)
    assert (found["tables_equal"], found["rows_differing"]) == (1, 1)
    assert "source '20'   target '21'" in found["differing_rows"]
    equal = check(instance, VERIFICATION, "equal")
    assert (equal.passed, equal.severity) == (False, ERROR)
    assert "1 are different: public.orders" in (equal.description or "")


def test_last_verdict_is_carried_by_each_row_count_check_until_another(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    run(definitions, instance)
    tamper('UPDATE "PUBLIC"."ORDERS" SET "TOTAL" = 21 WHERE "ID" = 2')
    verify(definitions, instance)
    reconcile, full = ({"ops": {"public__orders": {"config": {name: True}}}} for name in ("reconcile", "full"))
    for options in ({}, {"run_config": reconcile}, {"run_config": full}):
        found = check(instance, ORDERS, "row_count")
        assert (found.passed, found.severity) == (False, WARN)
        assert "0 missing, 1 different, 0 surplus rows at run sequence 1" in (found.description or "")
        execute("INSERT INTO orders SELECT max(id) + 1, 0 FROM orders")
        run(definitions, instance, asset_selection=[ORDERS], **options)
    assert check(instance, CUSTOMERS, "row_count").passed
    verify(definitions, instance)
    found = check(instance, ORDERS, "row_count")
    assert found.passed, found.description
    assert str(found.metadata["last_verified"].value).startswith("equal")


@pytest.mark.parametrize(
    ("edit", "shown_as"),
    [
        ('DELETE FROM "PUBLIC"."ORDERS" WHERE "ID" = 2', "1 missing, 0 different, 0 surplus rows"),
        ('UPDATE "PUBLIC"."ORDERS" SET "TOTAL" = 21 WHERE "ID" = 2', "0 missing, 1 different, 0 surplus rows"),
        (
            'INSERT INTO "PUBLIC"."ORDERS" ("ID", "TOTAL", "_SRC_XMIN", "_RUN_SEQ") VALUES (9, 9, 9, 1)',
            "0 missing, 0 different, 1 surplus rows",
        ),
    ],
)
def test_rows_that_were_edited_by_hand_are_found_each_time_and_not_repaired(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute, edit: str, shown_as: str
) -> None:
    run(definitions, instance)
    tamper(edit)
    for total in (1, 2):
        execute(f"UPDATE orders SET total = {total} WHERE id = 1")
        assert verify(definitions, instance).success
        assert shown_as in shown(instance)["tables_verified"]
        assert "to repair: aurora-sync " in shown(instance)["differing_rows"]
        assert not check(instance, VERIFICATION, "equal").passed


def test_table_that_was_never_synced_cannot_be_compared(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    assert not verify(definitions, instance).success
    assert (
        "not verified: public.orders: cannot be compared: the table was never synced"
        in shown(instance)["tables_verified"]
    )
    assert not check(instance, VERIFICATION, "equal").passed
    assert last_materialization(instance, ORDERS) is None


def test_scan_in_place_of_the_strategys_own_read_is_in_the_metadata(
    customers: None, instance: dg.DagsterInstance, build: Build, execute: Execute
) -> None:
    execute("CREATE TABLE orders (id int PRIMARY KEY, at timestamptz DEFAULT now()); INSERT INTO orders VALUES (1)")
    definitions = build("tables:\n  - {table_name: orders, watermark_type: timestamp, watermark_col: at}\n")
    for _ in range(2):
        run(definitions, instance, asset_selection=[ORDERS])
    found = last_materialization(instance, ORDERS)
    assert found
    assert str(found.metadata["read_more_because"].value).startswith("scanning by the horizon: no BEFORE INSERT")


def test_verdicts_of_other_tables_outlive_a_verification_of_some(
    definitions: dg.Definitions, instance: dg.DagsterInstance
) -> None:
    run(definitions, instance)
    verify(definitions, instance)
    verify(definitions, instance, tables=["public.customers"])
    assert shown(instance)["tables"] == 1
    assert shown(instance)[checks.VERDICTS].keys() == {"public.customers", "public.orders"}


def test_table_that_cannot_be_verified_fails_the_run_after_the_others_were(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    run(definitions, instance)
    execute("DROP TABLE customers")
    result = verify(definitions, instance)
    assert not result.success
    failure = result.failure_data_for_node(NODE)
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "1 could not be verified: public.customers" in (failure.user_failure_data.description or "")
    assert "there is no such table" in str(failure.user_failure_data.metadata["public.customers"].value)
    assert shown(instance)["tables_equal"] == 1
    assert not check(instance, VERIFICATION, "equal").passed
    assert result.retry_attempts_for_node(NODE) == 0


def test_what_passes_by_itself_is_tried_again(
    definitions: dg.Definitions, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aurora_sync.engine import retries, sync

    run(definitions, instance)
    original, failures = sync.verify, [SourceError("connection reset", kind=Kind.TRANSIENT)]

    def flaky(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise failures.pop()
        return original(*arguments, **options)

    monkeypatch.setattr(sync, "verify", flaky)
    monkeypatch.setattr(retries, "FIRST_PAUSE", 0.0)
    assert verify(definitions, instance).success
    assert shown(instance)["tables_equal"] == 2


def test_table_of_another_group_is_refused(definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
    failure = verify(definitions, instance, tables=["public.nosuch"]).failure_data_for_node(NODE)
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "group public does not contain public.nosuch" in (failure.user_failure_data.description or "")


@pytest.mark.usefixtures("no_settings")
def test_tables_of_a_group_with_one_verify_schedule_share_a_job(build: Build) -> None:
    definitions = build(
        "tables:\n"
        + table("a", "verify: '0 5 * * 0'")
        + table("b", "verify: '0  5 * * 0'", "group: other")
        + table("c", "verify: '0 6 * * 0'")
        + table("d", "group: other")
        + table("e", "verify: '0 5 * * 0'")
    )
    verifying = [s for s in definitions.schedules or () if "_verify_" in s.name]
    assert [(s.name, s.cron_schedule) for s in verifying if isinstance(s, dg.ScheduleDefinition)] == [
        ("aurora_sync_verify_sundays_at_05_00_other", "0 5 * * 0"),
        ("aurora_sync_verify_sundays_at_05_00_public", "0 5 * * 0"),
        ("aurora_sync_verify_sundays_at_06_00_public", "0 6 * * 0"),
    ]
    job = definitions.resolve_job_def("aurora_sync_verify_sundays_at_05_00_public")
    assert {op: config["config"]["tables"] for op, config in (job.run_config or {})["ops"].items()} == {
        "aurora_sync__public__verification": ["public.a", "public.e"],
    }
