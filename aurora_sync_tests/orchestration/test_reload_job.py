"""The job that reads rows again, on the real stack."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from aurora_sync.config.settings import Settings
from aurora_sync.engine.places import Places
from aurora_sync_tests.orchestration.conftest import Build, Execute, run

JOB = "aurora_sync_reload_rows"
TABLE = dg.AssetKey(["public", "customers"])
TABLES = """\
tables:
  - table_name: customers
    watermark_type: xmin
"""
Reload = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def reload(settings: None, execute: Execute, build: Build, instance: dg.DagsterInstance) -> Reload:
    """Sync a table whose rows 10 and 300 are then deleted. Return a function that runs the job."""
    execute("""
        CREATE TABLE customers (id int PRIMARY KEY, v text, at timestamptz NOT NULL);
        INSERT INTO customers SELECT i, 'v', '2026-01-01Z'::timestamptz + i * interval '1 day'
          FROM generate_series(1, 400) i
    """)
    definitions = build(TABLES)
    assert run(definitions, instance, asset_selection=[TABLE]).success
    execute("DELETE FROM customers WHERE id IN (10, 300)")

    def run_job(**config: Any) -> dg.ExecuteInProcessResult:
        return definitions.resolve_job_def(JOB).execute_in_process(
            instance=instance,
            run_config={"ops": {"reload_rows": {"config": {"table": "public.customers"} | config}}},
            raise_on_error=False,
        )

    return run_job


def failure(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    assert event.step_failure_data.user_failure_data
    return str(event.step_failure_data.user_failure_data.description)


def logged(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> list[str]:
    return [record.event_log_entry.user_message for record in instance.get_records_for_run(result.run_id).records]


def present() -> set[int]:
    places = Places.from_settings(Settings.from_environment(os.environ))
    with places.warehouse.session() as session:
        return {int(id_) for (id_,) in session.query('SELECT "ID" FROM "PUBLIC"."CUSTOMERS"')}


def test_range_of_keys_is_read_again_and_reported_by_the_asset(reload: Reload) -> None:
    result = reload(from_key="5", to_key="20")
    assert result.success
    assert set(range(1, 401)) - present() == {10}
    (reported,) = result.asset_materializations_for_node("reload_rows")
    assert reported.asset_key == TABLE
    assert reported.metadata["read_more_because"].value == "14 rows with id >= 5 and id < 20 are read again"
    assert reported.metadata["rows_deleted"].value == 1
    assert {check.check_name for check in result.get_asset_check_evaluations()} > {"row_count", "certificate"}


def test_rows_since_a_time_are_read_again(reload: Reload) -> None:
    result = reload(since="2026-12-01", column="at")
    assert result.success
    (reported,) = result.asset_materializations_for_node("reload_rows")
    because = "67 rows with at >= 2026-12-01 00:00:00+00 are read again"
    assert reported.metadata["read_more_because"].value == because
    assert len(present()) == 400


def test_dry_run_logs_the_number_of_rows_and_changes_nothing(reload: Reload, instance: dg.DagsterInstance) -> None:
    result = reload(from_key="5", dry_run=True, max_rows=10)
    assert result.success
    assert "public.customers has 394 rows with id >= 5; max_rows is 10." in logged(result, instance)
    assert result.asset_materializations_for_node("reload_rows") == []
    assert len(present()) == 400


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"from_key": "5", "max_rows": 10}, "found 394 rows with id >= 5; expected at most 10"),
        ({"table": "public.customer", "from_key": "5"}, "expected a table of tables.yaml, such as public.customers"),
        ({}, "expected either since, or a range of keys (from_key, to_key or both)"),
        ({"from_key": "abc"}, "from_key: found 'abc'; expected an integer"),
        ({"since": "2026-01-01"}, "since: found no column; watermark_type xmin has none of its own; set column to the"),
    ],
)
def test_request_that_does_not_fit_fails_once_and_changes_nothing(
    reload: Reload, config: dict[str, Any], expected: str
) -> None:
    result = reload(**config)
    assert expected in failure(result)
    assert not result.filter_events(lambda event: event.is_step_up_for_retry)
    assert len(present()) == 400
