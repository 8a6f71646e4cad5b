"""Define the job that publishes the report (engine/overview.py) in the bucket of the stage, with what Dagster knows."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from aurora_sync.engine.overview import Failed, Noted, Verdict, overview
from aurora_sync.engine.overview_page import as_html, headline
from aurora_sync.errors import AuroraSyncError
from aurora_sync.orchestration import assets, checks, compat, load_job, reload_job
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.project import Project
from aurora_sync.orchestration.slot_assets import op_name
from aurora_sync.stage import layout

# A morning's work. A link that was signed with temporary credentials ends with them.
LINK_SECONDS = 12 * 3600
# The runs of a job that are looked at for the last one of each table. People start them, and each is of one table.
RUNS_OF_A_JOB = 500


def report_schedule(tables: Sequence[TableAsset], project: Project) -> dg.ScheduleDefinition:
    """Return the schedule of the job ``<name>_report``: daily at 06:00 UTC."""

    @dg.op(
        name=f"{project.name}_publish_report",
        out=dg.Out(dg.Nothing),
        description="Writes the state of all tables as an HTML page into the bucket of the stage, and shows a link to"
        " it.",
        retry_policy=assets.RETRIES,
    )
    def publish(context: dg.OpExecutionContext) -> None:
        try:
            places = project.connections.places()
            shown = overview([asset.table for asset in tables], places, noted(context.instance, tables, project))
            store = places.stage.store
            key = layout.report_key(store.prefix, project.name)
            store.put(key, as_html(shown).encode(), "text/html; charset=utf-8")
            link = store.link(key, LINK_SECONDS)
        except AuroraSyncError as error:
            raise assets.failure(error) from error
        context.log.info(f"{headline(shown)}. The report is {store.uri(key)}.")
        context.add_output_metadata(
            {
                "state": headline(shown),
                "report, for 12 hours": dg.MetadataValue.url(link),
                "object": store.uri(key),
                **{standing.value: len(states) for standing, states in shown.by_standing.items() if states},
            }
        )

    @dg.job(
        name=f"{project.name}_report",
        executor_def=project.executor,
        description="Publishes one HTML page with certificate, lag, last run, last error and trend of every table.",
    )
    def report() -> None:
        publish.alias("publish_report")()

    return dg.ScheduleDefinition(
        name=f"{project.name}_report_daily",
        job=report,
        cron_schedule="0 6 * * *",
        execution_timezone="UTC",
        description="Publishes the report of all tables at 06:00 UTC.",
        default_status=project.schedule_status,
    )


def noted(instance: dg.DagsterInstance, tables: Sequence[TableAsset], project: Project) -> dict[tuple[str, str], Noted]:
    """Return what Dagster knows about each target. The number of queries is that of the groups and of failed runs."""
    latest = compat.latest_runs(instance, [asset.key for asset in tables])
    failed = compat.failed_steps(instance, {found.run_id for found in latest.values() if found.run_id})
    of_jobs = _failures_of_jobs(instance, [load_job.job_name(project), reload_job.job_name(project)])
    verdicts: dict[str, Verdict] = {}
    for group in {asset.group for asset in tables}:
        verdicts |= dict(_verdicts(checks.last_verdicts(instance, project.verification_key(group))))
    return {
        asset.table.target: Noted(
            _newest(latest.get(asset.key), failed, op_name(asset, project), of_jobs.get(asset.name, ())),
            verdicts.get(asset.name),
            latest[asset.key].source_seen_at if asset.key in latest else None,
        )
        for asset in tables
    }


def _newest(
    latest: compat.LatestRun | None,
    failed: Mapping[str, Mapping[str, compat.StepFailure]],
    step: str,
    of_jobs: Sequence[Failed],
) -> Failed | None:
    """Return the newest failure of a table since it was materialized: of its last run, or of a job."""
    of_run = _failure(latest, failed, step)
    since = latest.materialized_at if latest else None
    found = [*([of_run] if of_run else []), *(each for each in of_jobs if not since or each.at > since)]
    return max(found, key=lambda each: each.at, default=None)


def _failures_of_jobs(instance: dg.DagsterInstance, jobs: Sequence[str]) -> dict[str, list[Failed]]:
    """Return the failure of each table's last run by each of the jobs, if that run failed: table -> failures.

    Dagster records these runs for no asset until they materialize it, at their end.
    """
    found: defaultdict[str, list[Failed]] = defaultdict(list)
    for job in jobs:
        runs: dict[str, str] = {}
        for run in instance.get_runs(dg.RunsFilter(job_name=job), limit=RUNS_OF_A_JOB):  # the newest is the first
            if table := _written_table(run):
                runs.setdefault(table, run.run_id)
        failed = compat.failed_steps(instance, set(runs.values()))
        for table, run_id in runs.items():
            if of_run := failed.get(run_id):
                steps = [failure for step, failure in of_run.items() if step] or list(of_run.values())
                first = min(steps, key=lambda failure: failure.at)
                found[table].append(Failed(first.at, first.text, f"run {run_id[:8]} of {job}"))
    return found


def _written_table(run: dg.DagsterRun) -> str:
    """Return the table that a run of a job loads or reloads; empty for a dry run, which writes none."""
    steps: Any = run.run_config.get("ops") or {}
    for step in steps.values():
        config = step.get("config") or {}
        if "table" in config and not config.get("dry_run"):
            return str(config["table"])
    return ""


def _failure(
    latest: compat.LatestRun | None, failed: Mapping[str, Mapping[str, compat.StepFailure]], step: str
) -> Failed | None:
    """Return the failure of a table's last run, unless the table was materialized after it."""
    if latest is None or latest.run_id not in failed:
        return None
    of_run = failed[latest.run_id]
    found = of_run.get(step) or of_run.get("")
    if found is None or (latest.materialized_at and latest.materialized_at > found.at):
        return None
    if step not in of_run and latest.materialized_in == latest.run_id:
        return None  # the run failed for other tables
    return Failed(found.at, found.text, f"run {latest.run_id[:8]}")


def _verdicts(found: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, Verdict]]:
    for table, verdict in found.items():
        as_of = datetime.fromisoformat(str(verdict["as_of"])).astimezone(UTC)
        yield table, Verdict(as_of, "" if verdict["equal"] else checks.difference(verdict))
