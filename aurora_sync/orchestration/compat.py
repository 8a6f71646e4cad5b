"""Functions that Dagster's public interface does not offer, in one place, each with a test."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakSet

import dagster as dg
from dagster._core.definitions.assets.definition.asset_spec import AssetExecutionType
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster._core.definitions.executor_definition import (
    multiple_process_executor_requirements as multiple_process_executor_requirements,
)
from dagster._core.definitions.reconstruct import ReconstructableJob as ReconstructableJob
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
)
from dagster._core.storage.tags import PRIORITY_TAG as PRIORITY_TAG
from dagster._core.storage.tags import RUN_KEY_TAG
from dagster._utils.schedules import get_next_cron_tick
from dagster.components.core import package_entry

_keeping: WeakSet[dg.DagsterInstance] = WeakSet()


def code_reference(file: Path, line: int) -> dict[str, Any]:
    """Return metadata that links an asset to a line in the UI. The interface is beta; its warning is suppressed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        reference = dg.LocalFileCodeReference(file_path=str(file), line_number=line)
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[reference])}


def is_reconstructing() -> bool:
    """Return whether the definitions are loaded in order to run steps, after a code server has loaded them."""
    loading = DefinitionsLoadContext.get() if DefinitionsLoadContext.is_set() else None
    return loading is not None and loading.load_type is DefinitionsLoadType.RECONSTRUCTION


@contextmanager
def without_component_types() -> Iterator[None]:
    """Load definitions without the types of components that packages offer, which only the UI documents.

    For their list, ``load_from_defs_folder`` imports the components of all installed packages. With dagster-snowflake
    and dagster-aws, these are 1,600 modules and 2.5 CPU seconds.
    """
    listed = package_entry.get_plugin_entry_points
    package_entry.get_plugin_entry_points = tuple
    try:
        yield
    finally:
        package_entry.get_plugin_entry_points = listed


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Let this process keep its connections to Dagster's storage, for the events of steps, and its definitions.

    Storage in PostgreSQL opens a connection for each statement. These are about 50 for each table, and took more time
    than the sync of a small table. The webserver keeps its connections by the same method. A kept connection is
    replaced after 30 seconds, so that a sync without events for hours does not meet one that a firewall has ended.

    The definitions of 1,000 tables stay until the process ends. To look for garbage in them took a tenth of its time.
    """
    if instance not in _keeping:
        _keeping.add(instance)
        gc.freeze()
        instance.optimize_for_webserver(statement_timeout=0, pool_recycle=30, max_overflow=20)


def set_data_version(context: dg.OutputContext, version: str) -> None:
    """Give the output's asset its data version from inside ``handle_output``.

    The public interface sets it only in the asset's body, which runs before the IO manager moves the rows.
    """
    context.step_context.set_data_version(context.asset_key, dg.DataVersion(version))


def data_version_tags(version: str) -> dict[str, str]:
    """Return tags that set the data version of a materialization outside of a run."""
    return {DATA_VERSION_TAG: version}


def data_version(materialization: dg.AssetMaterialization) -> str | None:
    """Return the data version of a materialization, if it has one."""
    return (materialization.tags or {}).get(DATA_VERSION_TAG)


def last_verdict(instance: dg.DagsterInstance, key: dg.AssetCheckKey) -> dg.AssetCheckEvaluation | None:
    """Return the newest finished evaluation of a check. The planned evaluation of the current run is not finished."""
    records = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, status=set(COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES)
    )
    event = records[0].event if records else None
    if event is None or event.dagster_event is None:
        return None
    return event.dagster_event.asset_check_evaluation_data


def evaluation(result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Convert the result of a check to the event that a step would record, for use outside of a step."""
    assert result.asset_key is not None
    assert result.check_name is not None
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name,
        passed=result.passed,
        metadata=result.metadata,
        severity=result.severity,
        description=result.description,
    )


def evaluation_in_step(context: dg.AssetExecutionContext, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """Convert the result of a check that the run does not select to the event that the step records.

    Dagster accepts the result itself, and logs a warning about it.
    """
    return result.to_asset_check_evaluation(context.get_step_execution_context())


def observed(definition: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """Return the definition as one of observable assets: its runs observe and do not materialize.

    "Materialize all" and a selection of all assets leave observable assets out. The decorator of Dagster for them takes
    no config, no pool and no retries.
    """
    attributes = definition.get_attributes_dict() | {"execution_type": AssetExecutionType.OBSERVATION}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        return dg.AssetsDefinition.dagster_internal_init(**attributes)


def last_observation(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.AssetObservation | None:
    """Return the newest observation of an asset, if there is one."""
    records = instance.fetch_observations(key, limit=1).records
    return records[0].asset_observation if records else None


def last_materialization(instance: dg.DagsterInstance, key: dg.AssetKey) -> dg.AssetMaterialization | None:
    """Return the newest materialization of an asset, if there is one."""
    event = instance.get_latest_materialization_event(key)
    return event.asset_materialization if event else None


def runs_by_key(instance: dg.DagsterInstance, run_keys: set[str]) -> dict[str, dg.DagsterRun]:
    """Return the runs that a sensor requested with these run keys, by one query: run key -> run."""
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: sorted(run_keys)}))
    return {run.tags[RUN_KEY_TAG]: run for run in runs}


def materialized_keys(instance: dg.DagsterInstance, run_id: str) -> set[dg.AssetKey]:
    """Return the assets that a run materialized, even if the run goes on or failed afterwards."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    if hasattr(instance, "get_asset_partitions_for_run"):  # newer than 1.13.0; without the metadata of each event
        return set(instance.get_asset_partitions_for_run(run_id, kind))
    return {key for each in instance.get_records_for_run(run_id, of_type=kind).records if (key := each.asset_key)}


def next_tick(cron: str) -> datetime:
    """Return the next time of a schedule, in UTC."""
    return get_next_cron_tick(cron, datetime.now(UTC), "UTC")


@dataclass(frozen=True)
class LatestRun:
    """The last run of an asset, and its last materialization, which may be of another run or of none.

    ``source_seen_at`` is the time of the look at the source that the last materialization reports.
    """

    run_id: str
    materialized_at: datetime | None = None
    materialized_in: str = ""
    source_seen_at: datetime | None = None


@dataclass(frozen=True)
class StepFailure:
    at: datetime
    text: str


def latest_runs(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> dict[dg.AssetKey, LatestRun]:
    """Return the last run of each asset that has one, by one query."""
    found = {}
    for record in instance.get_asset_records(keys):
        entry = record.asset_entry
        event = entry.last_materialization_record
        if event is None or event.asset_materialization is None:
            found[entry.asset_key] = LatestRun(entry.last_run_id or "")
            continue
        at = datetime.fromtimestamp(event.timestamp, UTC)
        snapshot = event.asset_materialization.metadata.get("snapshot")  # a heartbeat has none
        value = snapshot.value if isinstance(snapshot, dg.JsonMetadataValue) else None
        seen = datetime.fromisoformat(value["taken_at"]) if isinstance(value, dict) else at
        found[entry.asset_key] = LatestRun(entry.last_run_id or "", at, event.run_id, seen)
    return found


def unsuccessful(instance: dg.DagsterInstance, keys: Sequence[dg.AssetKey]) -> set[dg.AssetKey]:
    """Return the assets whose last run failed, or has not ended, before it materialized them."""
    found = latest_runs(instance, keys) if keys else {}
    last = {key: each.run_id for key, each in found.items() if each.run_id and each.run_id != each.materialized_in}
    runs = instance.get_runs(dg.RunsFilter(run_ids=sorted(set(last.values())))) if last else ()
    ended_well = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED)
    wanting = {run.run_id for run in runs if run.status not in ended_well}
    return {key for key, run_id in last.items() if run_id in wanting}


def failed_steps(instance: dg.DagsterInstance, run_ids: set[str]) -> dict[str, dict[str, StepFailure]]:
    """Return the failures of the runs that failed: run id -> step -> failure. The failure of the run itself has the
    step ``""``."""
    ids = sorted(run_ids)
    failed = [
        run.run_id
        for start in range(0, len(ids), 500)
        for run in instance.get_runs(
            dg.RunsFilter(run_ids=ids[start : start + 500], statuses=[dg.DagsterRunStatus.FAILURE])
        )
    ]
    return {run_id: dict(_failures(instance, run_id)) for run_id in failed}


def _failures(instance: dg.DagsterInstance, run_id: str) -> Iterator[tuple[str, StepFailure]]:
    wanted = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for record in instance.get_records_for_run(run_id, of_type=wanted).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        at = datetime.fromtimestamp(record.timestamp, UTC)
        if event.event_type is dg.DagsterEventType.RUN_FAILURE:
            yield "", StepFailure(at, event.message or "the run failed")
            continue
        data = event.step_failure_data
        error = data.error and (data.error.cause or data.error)
        described = data.user_failure_data.description if data.user_failure_data else None
        yield event.step_key or "", StepFailure(at, described or (error.message.strip() if error else "no error"))
