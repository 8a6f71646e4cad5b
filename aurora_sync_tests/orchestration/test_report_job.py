"""The job that publishes the report."""

from __future__ import annotations

import os
import re
import urllib.request
from typing import Any

import dagster as dg
import pytest

from aurora_sync.objects.store import Store
from aurora_sync_tests.engine.test_overview import Page
from aurora_sync_tests.orchestration.conftest import TABLES, Build, Execute, run
from aurora_sync_tests.orchestration.test_verification import TWO, tamper, verify

NODE = "publish_report"


def publish(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_job_def("aurora_sync_report")
    return job.execute_in_process(instance=instance, raise_on_error=False)


def published(definitions: dg.Definitions, instance: dg.DagsterInstance) -> str:
    """Run the job, and return the text of the page."""
    assert publish(definitions, instance).success
    store = Store.from_url(os.environ["AURORA_SYNC_STAGE"])
    page = store.get(f"{store.prefix}report/aurora_sync.html")
    assert page is not None
    return Page(page.decode()).text


@pytest.fixture
def definitions(customers: None, execute: Execute, build: Build) -> dg.Definitions:
    execute("CREATE TABLE orders (id int PRIMARY KEY, total int); INSERT INTO orders VALUES (1, 10), (2, 20)")
    return build(TWO)


def test_the_page_has_failures_and_verifications_of_dagster(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    run(definitions, instance)
    assert "OK: 2 tables, none needs attention" in published(definitions, instance)

    execute("ALTER TABLE orders RENAME TO moved")
    failed = run(definitions, instance, raise_on_error=False)
    assert not failed.success
    page = published(definitions, instance)
    assert "1 of 2 tables needs attention" in page
    assert page.index("public.orders") < page.index("public.customers")
    assert f"run {failed.run_id[:8]}" in page
    assert "there is no such table" in page[page.index("Failed ") : page.index("public.customers")]

    execute("ALTER TABLE moved RENAME TO orders")
    run(definitions, instance)
    verify(definitions, instance)
    page = published(definitions, instance)
    assert "OK: 2 tables, none needs attention" in page
    assert len(re.findall(r" equal \d+ \w+ ago", page)) == 2

    tamper('UPDATE "PUBLIC"."ORDERS" SET "TOTAL" = 99 WHERE "ID" = 1')
    verify(definitions, instance)
    assert "0 missing, 1 different, 0 surplus rows" in published(definitions, instance)


def test_a_failure_ends_with_a_run_of_another_asset_that_synced_the_table(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    run(definitions, instance)
    execute("ALTER TABLE orders RENAME TO moved")
    run(definitions, instance, raise_on_error=False)
    execute("ALTER TABLE moved RENAME TO orders")
    verify(definitions, instance)
    assert "OK: 2 tables" in published(definitions, instance)


def test_the_page_has_failures_of_the_jobs_that_load_and_reload_until_the_table_is_synced(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    def run_job(name: str, step: str, **config: Any) -> dg.ExecuteInProcessResult:
        run_config = {"ops": {step: {"config": {"table": "public.orders"} | config}}}
        job = definitions.resolve_job_def(name)
        return job.execute_in_process(instance=instance, run_config=run_config, raise_on_error=False)

    run(definitions, instance)
    assert not run_job("aurora_sync_reload_rows", "reload_rows", from_key="x", dry_run=True).success
    assert "OK: 2 tables" in published(definitions, instance)  # a dry run would have written nothing

    failed = run_job("aurora_sync_reload_rows", "reload_rows", from_key="x")
    page = published(definitions, instance)
    assert "1 of 2 tables needs attention" in page
    assert f"run {failed.run_id[:8]} of aurora_sync_reload_rows" in page
    assert "from_key: found 'x'; expected an integer" in page[page.index("Failed ") : page.index("public.customers")]

    execute("ALTER TABLE orders RENAME TO moved")
    failed = run_job("aurora_sync_load_large_table", "begin")
    page = published(definitions, instance)
    assert f"run {failed.run_id[:8]} of aurora_sync_load_large_table" in page
    assert "there is no such table" in page[page.index("Failed ") : page.index("public.customers")]
    assert "aurora_sync_reload_rows" not in page  # the newest failure only

    execute("ALTER TABLE moved RENAME TO orders")
    assert run_job("aurora_sync_reload_rows", "reload_rows", from_key="1").success
    assert "OK: 2 tables" in published(definitions, instance)


def test_a_table_whose_only_run_failed_is_failing(
    definitions: dg.Definitions, instance: dg.DagsterInstance, execute: Execute
) -> None:
    execute("ALTER TABLE orders RENAME TO moved")
    run(definitions, instance, raise_on_error=False)
    page = published(definitions, instance)
    assert "1 of 2 tables needs attention" in page  # customers was synced in the same run
    assert "Nothing was synced to this target yet" in page


@pytest.mark.usefixtures("customers")
def test_its_metadata_has_a_link_that_opens_the_page(build: Build, instance: dg.DagsterInstance) -> None:
    definitions = build(TABLES)
    run(definitions, instance)
    for _ in range(2):  # the second run replaces the page
        result = publish(definitions, instance)
    (output,) = result.filter_events(lambda event: event.is_successful_output)
    shown = {name: entry.value for name, entry in output.step_output_data.metadata.items()}
    assert (shown["state"], shown["certified"]) == ("OK: 1 table, none needs attention", 1)
    assert str(shown["object"]).endswith("/report/aurora_sync.html")
    assert "X-Amz-Signature=" in str(shown["report, for 12 hours"])
    with urllib.request.urlopen(str(shown["report, for 12 hours"])) as answer:
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "public.customers" in answer.read().decode()


@pytest.mark.usefixtures("customers")
def test_a_bucket_that_refuses_fails_the_job_once(
    build: Build, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    result = publish(build(TABLES), instance)
    failure = result.failure_data_for_node(NODE)
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "AWS_SECRET_ACCESS_KEY" in (failure.user_failure_data.description or "")
    assert result.retry_attempts_for_node(NODE) == 0


@pytest.mark.usefixtures("no_settings")
def test_its_schedule_is_off_until_someone_turns_it_on(build: Build) -> None:
    schedule = build(TABLES).resolve_schedule_def("aurora_sync_report_daily")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 6 * * *", "UTC")
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
