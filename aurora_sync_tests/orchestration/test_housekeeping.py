from __future__ import annotations

import os
from datetime import UTC, datetime

import dagster as dg
import pytest

from aurora_sync.objects.store import Store
from aurora_sync.stage import layout
from aurora_sync_tests.orchestration.conftest import TABLES, Build


def collect(definitions: dg.Definitions, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    job = definitions.resolve_job_def("aurora_sync_gc")
    return job.execute_in_process(instance=instance, raise_on_error=False)


@pytest.mark.usefixtures("customers")
def test_job_removes_what_a_killed_run_left_and_shows_how_much(build: Build, instance: dg.DagsterInstance) -> None:
    store = Store.from_url(os.environ["AURORA_SYNC_STAGE"])
    prefix = layout.attempt_prefix(store.prefix, "public.t", "0123456789ab", datetime(2020, 1, 1, tzinfo=UTC))
    store.put_new(prefix + layout.part_name(0), b"rows")
    result = collect(build(TABLES), instance)
    assert result.success
    (output,) = result.filter_events(lambda event: event.is_successful_output)
    shown = {name: entry.value for name, entry in output.step_output_data.metadata.items()}
    assert shown == {
        "attempts": 1,
        "bytes of attempts": 4,
        "uploads": 0,
        "bytes of uploads": 0,
        "hints": 0,
        "bytes of hints": 0,
        "staging tables": 0,
    }
    assert store.list(store.prefix) == []


@pytest.mark.usefixtures("customers")
def test_refusal_fails_the_job_once_with_what_to_do(
    build: Build, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AURORA_SYNC_STAGE", "s3://no-such-bucket-here/x")
    result = collect(build(TABLES), instance)
    failure = result.failure_data_for_node("collect_garbage")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert "create the bucket" in (failure.user_failure_data.description or "")
    assert result.retry_attempts_for_node("collect_garbage") == 0


@pytest.mark.usefixtures("no_settings")
def test_its_schedule_is_every_sunday(build: Build) -> None:
    (schedule,) = (s for s in build(TABLES).schedules or () if s.name.endswith("weekly"))
    assert isinstance(schedule, dg.ScheduleDefinition)
    assert (schedule.name, schedule.job_name) == ("aurora_sync_gc_weekly", "aurora_sync_gc")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 4 * * 0", "UTC")
