from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from aurora_sync.errors import (
    AuroraSyncError,
    ConfigError,
    GuardError,
    Kind,
    RivalRunError,
    SourceError,
    StageError,
    WarehouseError,
)
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration import assets
from aurora_sync.orchestration.assets import RETRIES, Increment, SyncOptions
from aurora_sync_tests.orchestration.conftest import TABLES, Build, run
from aurora_sync_tests.orchestration.receipts import receipt

pytestmark = pytest.mark.usefixtures("no_settings")
Queue = list[Receipt | Exception]

TRANSIENT = [
    SourceError("connection lost", kind=Kind.TRANSIENT),
    StageError("slow down", kind=Kind.TRANSIENT),
    WarehouseError("lock timeout", kind=Kind.TRANSIENT),
    RivalRunError("another run committed first"),
]
FINAL = [
    ConfigError("no such column"),
    SourceError("password authentication failed"),
    StageError("access denied"),
    WarehouseError("no privilege"),
    GuardError("the export is empty"),
]


def name(error: AuroraSyncError) -> str:
    return f"{type(error).__name__}-{error.kind.value}"


@pytest.mark.parametrize("error", TRANSIENT, ids=name)
def test_error_that_may_pass_is_tried_again_until_it_did(
    build: Build, receipts: Queue, instance: dg.DagsterInstance, error: AuroraSyncError
) -> None:
    receipts += [error, error, receipt()]
    assert run(build(TABLES), instance).success


def test_error_that_does_not_pass_ends_after_the_last_attempt(
    build: Build, receipts: Queue, instance: dg.DagsterInstance
) -> None:
    hint = "the server ended; run again"
    receipts += [SourceError("lost", hint=hint, kind=Kind.TRANSIENT) for _ in range(1 + assets.RETRIES.max_retries)]
    result = run(build(TABLES), instance, raise_on_error=False)
    assert not result.success
    failure = result.failure_data_for_node("public__customers")
    assert failure
    assert failure.user_failure_data
    assert failure.user_failure_data.description == "lost (the server ended)"  # without the hint to run it again


@pytest.mark.parametrize("error", FINAL, ids=name)
def test_error_that_a_person_must_mend_is_not_tried_again(
    build: Build, receipts: Queue, instance: dg.DagsterInstance, error: AuroraSyncError
) -> None:
    receipts.append(error)
    assert not run(build(TABLES), instance, raise_on_error=False).success
    assert not instance.get_latest_materialization_event(dg.AssetKey(["public", "customers"]))


def test_failure_shows_what_happened_where_and_what_to_do_next(
    build: Build, receipts: Queue, instance: dg.DagsterInstance
) -> None:
    receipts.append(GuardError("the export is empty", where="public.customers", hint="run once with deletes allowed"))
    result = run(build(TABLES), instance, raise_on_error=False)
    failure = result.failure_data_for_node("public__customers")
    assert failure is not None
    assert failure.user_failure_data is not None
    assert failure.user_failure_data.description == (
        "public.customers: the export is empty (run once with deletes allowed)"
    )
    assert {key: value.value for key, value in failure.user_failure_data.metadata.items()} == {
        "where": "public.customers",
        "hint": "run once with deletes allowed",
        "kind": "guard",
    }


def test_warnings_of_the_receipt_are_warnings_of_the_run(
    build: Build, receipts: Queue, instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt(warnings=("sequence customers_id_seq has CACHE 20",)))
    result = run(build(TABLES), instance)
    logged = [(entry.level, entry.user_message) for entry in instance.all_logs(result.run_id)]
    assert (30, "sequence customers_id_seq has CACHE 20") in logged
    (materialization,) = result.asset_materializations_for_node("public__customers")
    assert materialization.metadata["warnings"].value == "- sequence customers_id_seq has CACHE 20"


def test_receipt_of_an_increment_is_written_once(build: Build) -> None:
    from aurora_sync.config.tables import TableConfig

    increment = Increment(TableConfig(table_name="customers", watermark_type="xmin"), SyncOptions())
    with pytest.raises(RuntimeError, match="not applied yet"):
        _ = increment.receipt
    increment.receipt = receipt()
    with pytest.raises(RuntimeError, match="applied already"):
        increment.receipt = receipt()


def test_documentation_names_the_pauses_of_the_retry_policy() -> None:
    policy = dg.RetryPolicy(max_retries=3, delay=10, backoff=dg.Backoff.EXPONENTIAL)
    assert dg.RetryPolicy(3, policy.delay, policy.backoff, dg.Jitter.PLUS_MINUS) == RETRIES
    pauses = [policy.calculate_delay(attempt) for attempt in range(1, RETRIES.max_retries + 1)]
    said = "about {:.0f}, {:.0f} and {:.0f} seconds".format(*pauses)
    for file in (Path(assets.__file__), Path(assets.__file__).parents[2] / "docs" / "deployment.md"):
        assert said in file.read_text(encoding="utf-8").replace("# ", ""), said
