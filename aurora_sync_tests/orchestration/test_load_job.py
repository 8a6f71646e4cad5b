"""The job that loads a large table in chunks, on the real stack."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import dagster as dg
import pytest

from aurora_sync.config.loader import SyncConfig, expand
from aurora_sync.config.loader import load as load_config
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch, load, one_chunk
from aurora_sync.engine.lease import Lease, LeaseError
from aurora_sync.engine.one_chunk import OnProgress
from aurora_sync.engine.places import Places
from aurora_sync.errors import Kind, StageError, WarehouseError
from aurora_sync.model.state import State
from aurora_sync.orchestration import assets
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync.orchestration.preload import MODULES
from aurora_sync.orchestration.project import Executors
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync_tests.orchestration.conftest import Execute, run

JOB = "aurora_sync_load_large_table"
TABLE = dg.AssetKey(["public", "orders"])
# 2,000 rows of about 60 bytes have some 20 blocks, in five chunks.
TABLES = """\
defaults:
  load: {chunk_bytes: 32768}
tables:
  - table_name: orders
    watermark_type: xmin
"""
RUN = {"ops": {"begin": {"config": {"table": "public.orders"}}}}
FORKSERVER = {"start_method": {"forkserver": {"preload_modules": MODULES}}, "max_concurrent": 2}


def in_this_process() -> dg.JobDefinition:
    return _job(dg.in_process_executor)


def in_processes() -> dg.JobDefinition:
    """Return the job for a process of its own. The first step that has staged chunk 1 kills itself."""
    # Dagster builds the job anew in each process, so this is the place to change what the process does.
    assets.RETRIES = dg.RetryPolicy(max_retries=assets.RETRIES.max_retries)
    one_chunk.export_chunk, one_chunk.apply_chunk = _noted, _killed_once
    return _job(dg.multiprocess_executor.configured(FORKSERVER))


def _job(executor: dg.ExecutorDefinition) -> dg.JobDefinition:
    return build_definitions(_tables(), executor=Executors(load=executor)).resolve_job_def(JOB)


def _tables() -> SyncConfig:
    return load_config(Path("tables.yaml"))


_export_chunk, _apply_chunk = one_chunk.export_chunk, one_chunk.apply_chunk


def number_of(chunk: StagedIncrement) -> int:
    assert chunk.manifest.chunk
    return chunk.manifest.chunk.number


def _noted(
    config: TableConfig, places: Places, state: State, number: int, on_progress: OnProgress = None
) -> StagedIncrement:
    chunk = _export_chunk(config, places, state, number, on_progress)
    with Path("exported").open("a") as file:
        file.write(f"{number}\n")
    return chunk


def _killed_once(places: Places, chunk: StagedIncrement, on_progress: Any = None) -> bool:
    mark = Path("killed")
    if number_of(chunk) == 1 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _apply_chunk(places, chunk, on_progress)


@pytest.fixture(autouse=True)
def orders(settings: None, execute: Execute, tmp_path: Path) -> TableConfig:
    execute("""
        CREATE TABLE orders (id int PRIMARY KEY, v text);
        INSERT INTO orders SELECT i, repeat('x', 30) || i FROM generate_series(1, 2000) i
    """)
    (tmp_path / "tables.yaml").write_text(TABLES, encoding="utf-8")
    (table,) = expand(_tables(), [])
    return table


@pytest.fixture
def places(orders: TableConfig) -> Places:
    return Places.from_settings(Settings.from_environment(os.environ))


@pytest.fixture
def lasting(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        yield instance


@pytest.fixture
def read() -> Iterator[list[int]]:
    """Return the numbers of the chunks that are read, in order."""
    found: list[int] = []
    export = one_chunk.export_chunk

    def exporting(*arguments: Any) -> StagedIncrement:
        chunk = export(*arguments)
        found.append(number_of(chunk))
        return chunk

    with mock.patch.object(one_chunk, "export_chunk", exporting):
        yield found


def outputs(result: dg.ExecuteInProcessResult) -> dict[str, dict[str, Any]]:
    """Return the metadata of each step's output that a chunk has."""
    return {
        str(event.step_key): {name: entry.value for name, entry in event.step_output_data.metadata.items()}
        for event in result.filter_events(lambda event: event.is_successful_output)
        if str(event.step_key).startswith("load_chunk")
    }


def assert_equal(table: TableConfig, places: Places) -> None:
    verification = batch.verify(table, places).verification
    assert verification
    assert (verification.equal, verification.source_rows) == (True, 2000)


def holder_of(table: TableConfig, places: Places) -> str:
    """Return who holds the lease; empty if nobody does."""
    try:
        with Lease(places.stage.store, table):
            return ""
    except LeaseError as error:
        return error.what


def test_every_chunk_is_a_step_and_the_last_step_reports_the_asset(
    orders: TableConfig, places: Places, instance: dg.DagsterInstance, read: list[int]
) -> None:
    job = build_definitions(_tables()).resolve_job_def(JOB)
    result = job.execute_in_process(instance=instance, run_config=RUN)
    assert len(read) > 3
    assert read == list(range(len(read)))
    steps = outputs(result)
    assert list(steps) == [f"load_chunk[chunk_{number}]" for number in read]
    assert sum(step["rows"] for step in steps.values()) == 2000
    assert {step["state"] for step in steps.values()} == {"loaded"}
    assert all(step["seconds"] > 0 for step in steps.values())
    (reported,) = result.asset_materializations_for_node("finish")
    assert reported.asset_key == TABLE
    assert {name: reported.metadata[name].value for name in ("certificate", "load_chunks", "dagster/row_count")} == {
        "certificate": "certified",
        "load_chunks": str(len(read)),
        "dagster/row_count": 2000,
    }
    checks = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert checks == {"row_count": True, "watermark": True, "merge_key": True, "certificate": True, "schema": True}
    assert holder_of(orders, places) == ""
    assert_equal(orders, places)


def test_values_between_the_steps_are_in_the_stage_and_small(places: Places, instance: dg.DagsterInstance) -> None:
    build_definitions(_tables()).resolve_job_def(JOB).execute_in_process(instance=instance, run_config=RUN)
    found = list(places.stage.store.pages(f"{places.stage.store.prefix}dagster/"))
    values = [stored for page in found for stored in page]
    assert len(values) > 8  # begin, and each chunk as input and output
    assert max(stored.bytes for stored in values) < 300


def test_chunk_that_fails_is_retried_by_itself(
    orders: TableConfig, places: Places, instance: dg.DagsterInstance, read: list[int]
) -> None:
    export, failures = one_chunk.export_chunk, [StageError("the bucket did not answer", kind=Kind.TRANSIENT)]

    def failing(config: TableConfig, places: Places, state: Any, number: int, *more: Any) -> StagedIncrement:
        if number == 2 and failures:
            raise failures.pop()
        return export(config, places, state, number, *more)

    with mock.patch.object(one_chunk, "export_chunk", failing):
        job = build_definitions(_tables()).resolve_job_def(JOB)
        result = job.execute_in_process(instance=instance, run_config=RUN)
    retried = [event.step_key for event in result.filter_events(lambda event: event.is_step_up_for_retry)]
    assert retried == ["load_chunk[chunk_2]"]
    assert sorted(read) == list(range(len(read)))  # each once
    assert_equal(orders, places)


def test_chunk_that_was_staged_is_not_read_again(
    orders: TableConfig, places: Places, instance: dg.DagsterInstance, read: list[int]
) -> None:
    failures = [WarehouseError("the warehouse did not answer", kind=Kind.TRANSIENT)]

    def failing(places: Places, chunk: StagedIncrement, on_progress: Any = None) -> bool:
        if number_of(chunk) == 2 and failures:
            raise failures.pop()
        return _apply_chunk(places, chunk, on_progress)

    with mock.patch.object(one_chunk, "apply_chunk", failing):
        job = build_definitions(_tables()).resolve_job_def(JOB)
        result = job.execute_in_process(instance=instance, run_config=RUN)
    retried = [event.step_key for event in result.filter_events(lambda event: event.is_step_up_for_retry)]
    assert retried == ["load_chunk[chunk_2]"]
    assert read == list(range(len(read)))
    assert outputs(result)["load_chunk[chunk_2]"]["rows"] > 0
    assert_equal(orders, places)


def test_staged_chunk_whose_files_are_gone_is_read_again(
    orders: TableConfig, places: Places, instance: dg.DagsterInstance, read: list[int]
) -> None:
    failures = [WarehouseError("the warehouse did not answer", kind=Kind.TRANSIENT)]

    def failing(places: Places, chunk: StagedIncrement, on_progress: Any = None) -> bool:
        if number_of(chunk) == 2 and failures:
            places.stage.store.delete([f"{chunk.manifest.prefix}{file.name}" for file in chunk.manifest.files])
            raise failures.pop()
        return _apply_chunk(places, chunk, on_progress)

    with mock.patch.object(one_chunk, "apply_chunk", failing):
        build_definitions(_tables()).resolve_job_def(JOB).execute_in_process(instance=instance, run_config=RUN)
    assert sorted(read) == sorted([*range(5), 2])
    assert_equal(orders, places)


def test_reexecution_reads_the_chunks_that_are_left(
    orders: TableConfig, places: Places, lasting: dg.DagsterInstance, read: list[int]
) -> None:
    export = one_chunk.export_chunk

    def refused(config: TableConfig, places: Places, state: Any, number: int, *more: Any) -> StagedIncrement:
        if number == 2:
            raise StageError("access denied")
        return export(config, places, state, number, *more)

    with mock.patch.object(one_chunk, "export_chunk", refused):
        failed = dg.execute_job(dg.reconstructable(in_this_process), lasting, run_config=RUN)
    assert not failed.success
    assert f"Dagster run {failed.run_id}" in holder_of(orders, places)
    first = read[:]
    assert 2 not in first
    read.clear()
    again = dg.execute_job(
        dg.reconstructable(in_this_process),
        lasting,
        run_config=RUN,
        reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, lasting),
    )
    assert again.success
    assert not set(read) & set(first)
    assert 2 in read
    assert holder_of(orders, places) == ""
    assert_equal(orders, places)


def test_load_that_must_begin_again_is_finished_by_the_last_step(
    orders: TableConfig, places: Places, instance: dg.DagsterInstance, execute: Execute
) -> None:
    apply = one_chunk.apply_chunk

    def then_rewritten(places: Places, chunk: StagedIncrement, on_progress: Any = None) -> bool:
        done = apply(places, chunk, on_progress)
        if number_of(chunk) == 1:
            patch.stop()
            execute("TRUNCATE orders; INSERT INTO orders SELECT i, 'new' FROM generate_series(1, 2000) i")
        return done

    patch = mock.patch.object(one_chunk, "apply_chunk", then_rewritten)
    patch.start()
    job = build_definitions(_tables()).resolve_job_def(JOB)
    result = job.execute_in_process(instance=instance, run_config=RUN)
    states = [step["state"] for step in outputs(result).values()]
    assert states[:2] == ["loaded", "loaded"]
    assert set(states[2:]) == {"left to the last step"}
    (reported,) = result.asset_materializations_for_node("finish")
    assert reported.metadata["certificate"].value == "certified"
    assert_equal(orders, places)


def test_small_or_loaded_table_is_synced_by_the_last_step(
    orders: TableConfig, places: Places, instance: dg.DagsterInstance, read: list[int]
) -> None:
    job = build_definitions(_tables()).resolve_job_def(JOB)
    job.execute_in_process(instance=instance, run_config=RUN)
    read.clear()
    result = job.execute_in_process(instance=instance, run_config=RUN)
    assert (outputs(result), read) == ({}, [])
    assert len(result.asset_materializations_for_node("finish")) == 1
    full = {"ops": {"begin": {"config": {"table": "public.orders", "full": True}}}}
    job.execute_in_process(instance=instance, run_config=full)
    assert read == list(range(5))
    assert_equal(orders, places)


def test_no_chunk_is_read_outside_of_the_window(places: Places, instance: dg.DagsterInstance, read: list[int]) -> None:
    job = build_definitions(_tables()).resolve_job_def(JOB)
    with mock.patch.object(load, "window_closed", return_value=True):
        result = job.execute_in_process(instance=instance, run_config=RUN)
    assert read == []
    assert all(step["state"].startswith("not read") for step in outputs(result).values())
    (reported,) = result.asset_materializations_for_node("finish")
    assert reported.metadata["certificate"].value == "uncertified"
    assert reported.metadata["load_chunks_done"].value == "0"


def test_other_tables_of_the_source_need_not_wait_for_all_chunks(instance: dg.DagsterInstance) -> None:
    chunk = build_definitions(_tables()).resolve_job_def(JOB).get_node_named("load_chunk").definition
    assert isinstance(chunk, dg.OpDefinition)
    assert chunk.pool
    storage, priority = instance.event_log_storage, int(chunk.tags["dagster/priority"])
    storage.set_concurrency_slots(chunk.pool, 1)
    assert storage.claim_concurrency_slot(chunk.pool, "load run", "chunk_0", priority).is_claimed
    storage.claim_concurrency_slot(chunk.pool, "load run", "chunk_1", priority)
    storage.claim_concurrency_slot(chunk.pool, "other run", "table")
    storage.free_concurrency_slot_for_step("load run", "chunk_0")
    assert not storage.claim_concurrency_slot(chunk.pool, "load run", "chunk_1", priority).is_claimed
    assert storage.claim_concurrency_slot(chunk.pool, "other run", "table").is_claimed


def test_unknown_table_fails_once_with_the_tables_that_there_are(instance: dg.DagsterInstance) -> None:
    job = build_definitions(_tables()).resolve_job_def(JOB)
    result = job.execute_in_process(
        instance=instance, run_config={"ops": {"begin": {"config": {"table": "orders"}}}}, raise_on_error=False
    )
    failure = result.failure_data_for_node("begin")
    assert failure
    assert failure.user_failure_data
    assert (
        failure.user_failure_data.description
        == "found table 'orders'; expected a table of tables.yaml, such as public.orders"
    )
    assert result.retry_attempts_for_node("begin") == 0


def test_materialization_in_one_step_names_the_job(places: Places, instance: dg.DagsterInstance) -> None:
    result = run(build_definitions(_tables()), instance)
    logs = [record.user_message for record in instance.all_logs(result.run_id)]
    assert f"This step loads the table in chunks. The job {JOB} loads each chunk in a step of its own." in logs


@pytest.mark.long
@pytest.mark.closes_warehouse
def test_load_survives_the_kill_of_a_step_process(
    orders: TableConfig, places: Places, lasting: dg.DagsterInstance
) -> None:
    # in_processes() sets them here as well.
    with mock.patch.multiple(one_chunk, export_chunk=_export_chunk, apply_chunk=_apply_chunk):
        result = dg.execute_job(dg.reconstructable(in_processes), lasting, run_config=RUN)
        events = [record.dagster_event for record in lasting.all_logs(result.run_id) if record.dagster_event]
    assert result.success
    assert Path("killed").exists()
    assert [event.step_key for event in events if event.is_step_up_for_retry] == ["load_chunk[chunk_1]"]
    assert sorted(map(int, Path("exported").read_text().split())) == list(range(5))  # each once
    shown = [getattr(event.event_specific_data, "metadata", {}) for event in events]
    pids = {str(metadata["pid"]) for metadata in shown if "pid" in metadata}
    assert len(pids) > 4
    assert_equal(orders, places)
