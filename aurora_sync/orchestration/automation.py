"""Define schedules, one per distinct cron expression, and an automation condition for downstream assets.

A table with ``schedule:`` is synced at these times, even if it did not change. The change sensor (change_sensor.py)
watches all other tables.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
from dagster import AutomationCondition

from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.project import Project
from aurora_sync.orchestration.slot_assets import op_name


def watched(tables: Sequence[TableAsset]) -> list[TableAsset]:
    """Return the tables of the change sensor: those without a schedule and without an automation condition."""
    return [asset for asset in tables if asset.table.schedule is None and asset.spec.automation_condition is None]


def schedules(tables: Sequence[TableAsset], project: Project) -> list[dg.ScheduleDefinition]:
    """Return one schedule for each distinct cron, not for each table: Dagster needs 36 s to load 999 jobs."""
    by_cron: defaultdict[str, list[dg.AssetKey]] = defaultdict(list)
    for asset in tables:
        if asset.table.schedule is not None:
            by_cron[" ".join(asset.table.schedule.split())].append(asset.key)
    return [
        dg.ScheduleDefinition(
            name=f"{project.name}_{_slug(cron)}",
            cron_schedule=cron,
            execution_timezone="UTC",
            target=dg.AssetSelection.assets(*keys),
            description=f"Syncs {len(keys)} tables of tables.yaml at {cron} UTC.",
            default_status=project.schedule_status,
        )
        for cron, keys in sorted(by_cron.items())
    ]


def reconciliations(tables: Sequence[TableAsset], project: Project) -> list[dg.ScheduleDefinition]:
    """Return one schedule for each distinct ``reconcile: {schedule: ...}``. Its runs have ``reconcile: true``."""
    by_cron: defaultdict[str, list[TableAsset]] = defaultdict(list)
    for asset in tables:
        if asset.table.reconcile is not None and asset.table.reconcile.schedule is not None:
            by_cron[" ".join(asset.table.reconcile.schedule.split())].append(asset)
    return [
        _configured(
            _reconciling(chosen, project, f"{project.name}_reconcile_{_slug(cron)}"),
            cron,
            f"Compares {len(chosen)} tables with their sources at {cron} UTC, and repairs differences.",
            project,
        )
        for cron, chosen in sorted(by_cron.items())
    ]


def reconcile_job(tables: Sequence[TableAsset], project: Project) -> dg.UnresolvedAssetJobDefinition:
    """Return the job that reconciles all tables, for a person to launch. The launchpad can select tables."""
    return _reconciling(tables, project, f"{project.name}_reconcile")


def verifications(tables: Sequence[TableAsset], project: Project) -> list[dg.ScheduleDefinition]:
    """Return one schedule for each distinct ``verify:``. It runs the verification assets of the groups concerned."""
    by_cron: defaultdict[str, defaultdict[dg.AssetKey, list[str]]] = defaultdict(lambda: defaultdict(list))
    for asset in tables:
        if asset.table.verify is not None:
            by_cron[" ".join(asset.table.verify.split())][project.verification_key(asset.group)].append(asset.name)
    return [
        _configured(
            _job(
                f"{project.name}_verify_{_slug(cron)}",
                groups,
                {key.to_python_identifier(): {"tables": names} for key, names in groups.items()},
            ),
            cron,
            f"Compares every row of {sum(map(len, groups.values()))} tables with the sources at {cron} UTC.",
            project,
        )
        for cron, groups in sorted(by_cron.items())
    ]


def assessment(cron: str, project: Project) -> dg.ScheduleDefinition:
    """Return the schedule ``<name of the project>_assess``."""
    job = _job(f"{project.name}_assess", [project.assessment_key], {})
    return _configured(
        job, cron, f"Assesses the source at {cron} UTC, and shows tables whose strategy no longer fits.", project
    )


def _configured(
    job: dg.UnresolvedAssetJobDefinition, cron: str, description: str, project: Project
) -> dg.ScheduleDefinition:
    """Return a schedule with the name of its job."""
    return dg.ScheduleDefinition(
        name=job.name,
        cron_schedule=cron,
        execution_timezone="UTC",
        job=job,
        description=description,
        default_status=project.schedule_status,
    )


def _reconciling(tables: Sequence[TableAsset], project: Project, job: str) -> dg.UnresolvedAssetJobDefinition:
    configs = {op_name(table, project): {"reconcile": True} for table in tables}
    return _job(job, [table.key for table in tables], configs)


def _job(name: str, keys: Iterable[dg.AssetKey], configs: dict[str, Any]) -> dg.UnresolvedAssetJobDefinition:
    """Return a job over the assets. ``configs`` maps steps to their config."""
    ops = {step: {"config": config} for step, config in configs.items()}
    return dg.define_asset_job(name, dg.AssetSelection.assets(*keys), config={"ops": ops})


def on_new_rows() -> AutomationCondition[Any]:
    """Return a condition for an asset downstream of synced tables: request it only when rows of a table changed.

    ``AutomationCondition.eager()`` fires at every materialization, even for heartbeats and empty syncs. This condition
    uses the data version, which changes only when a sync changed rows.
    """
    changed = AutomationCondition.any_deps_match(AutomationCondition.data_version_changed())
    return (
        AutomationCondition.in_latest_time_window()
        & (AutomationCondition.newly_missing() | changed).since_last_handled()
        & ~AutomationCondition.any_deps_missing()
        & ~AutomationCondition.any_deps_in_progress()
        & ~AutomationCondition.in_progress()
    ).with_label("on_new_rows")


def _slug(cron: str) -> str:
    """Convert a cron to a unique part of a name: ``*/15 2-4 * * *`` becomes ``xby15_2to4_x_x_x``."""
    return "".join({"*": "x", "/": "by", "-": "to", ",": "and", " ": "_"}.get(letter, letter) for letter in cron)
