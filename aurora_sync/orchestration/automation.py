"""Define the schedules, and an automation condition for downstream assets.

A table with ``schedule:`` is synced at these times, even if it did not change. The change sensor (change_sensor.py)
watches all other tables. There is one job and one schedule for each cron expression and group, and not for each table,
because Dagster needs 36 s to load 999 jobs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
from dagster import AutomationCondition

from aurora_sync.config.tables import TableConfig
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.cron_names import cron_name
from aurora_sync.orchestration.jobs import Part, asset_job, blocking_checks, by_run_tags, scheduled
from aurora_sync.orchestration.project import Project, dagster_name
from aurora_sync.orchestration.slot_assets import op_name


def watched(tables: Sequence[TableAsset]) -> list[TableAsset]:
    """Return the tables of the change sensor: those without a schedule and without an automation condition."""
    return [asset for asset in tables if asset.table.schedule is None and asset.spec.automation_condition is None]


def changes_job(tables: Sequence[TableAsset], project: Project) -> dg.UnresolvedAssetJobDefinition:
    """Return the job of the change sensor, which requests some of its tables."""
    parts = [Part([asset.key for asset in chosen], tags=tags) for tags, chosen in by_run_tags(tables)]
    return asset_job(f"{project.name}_changes", parts, "Syncs tables that changed at the source.", project)


def schedules(tables: Sequence[TableAsset], project: Project) -> Iterator[dg.ScheduleDefinition]:
    """Yield one schedule for each cron and group of ``schedule:``."""
    for cron, group, chosen in _by_cron(tables, lambda table: table.schedule):
        parts = [
            Part([asset.key for asset in members], tags=tags, check_keys=blocking_checks(members))
            for tags, members in by_run_tags(chosen)
        ]
        name = f"{project.sync_prefix}_{_name(cron, group)}"
        text = f"Syncs {len(chosen)} tables of group {group} at {cron} UTC."
        yield scheduled(asset_job(name, parts, text, project), cron, parts, project)


def reconciliations(tables: Sequence[TableAsset], project: Project) -> Iterator[dg.ScheduleDefinition]:
    """Yield one schedule for each cron and group of ``reconcile: {schedule: ...}``."""
    for cron, group, chosen in _by_cron(tables, lambda table: table.reconcile.schedule if table.reconcile else None):
        parts = _reconciling(chosen, project)
        name = f"{project.name}_reconcile_{_name(cron, group)}"
        text = f"Compares {len(chosen)} tables of group {group} with their sources at {cron} UTC, and repairs them."
        yield scheduled(asset_job(name, parts, text, project), cron, parts, project)


def reconcile_job(tables: Sequence[TableAsset], project: Project) -> dg.UnresolvedAssetJobDefinition:
    """Return the job that reconciles all tables, for a person to launch. The launchpad can select tables."""
    text = "Compares tables with their sources, and repairs them. The launchpad can select some of the tables."
    return asset_job(f"{project.name}_reconcile", _reconciling(tables, project), text, project)


def verifications(tables: Sequence[TableAsset], project: Project) -> Iterator[dg.ScheduleDefinition]:
    """Yield one schedule for each cron and group of ``verify:``. It runs the verification of the group."""
    for cron, group, chosen in _by_cron(tables, lambda table: table.verify):
        parts = _verifying(group, chosen, project)
        name = f"{project.name}_verify_{_name(cron, group)}"
        text = f"Compares every row of {len(chosen)} tables of group {group} with the sources at {cron} UTC."
        yield scheduled(asset_job(name, parts, text, project), cron, parts, project)


def verify_job(tables: Sequence[TableAsset], project: Project) -> dg.UnresolvedAssetJobDefinition:
    """Return the job that verifies all groups, for a person to launch."""
    keys = dict.fromkeys(project.verification_key(asset.group) for asset in tables)
    text = "Compares every row of all tables with the sources. The launchpad can select some of the groups and tables."
    return asset_job(f"{project.name}_verify", [Part(list(keys))], text, project)


def assessment(cron: str, project: Project) -> dg.ScheduleDefinition:
    """Return the schedule of the assessment."""
    text = f"Assesses the source at {cron} UTC, and shows tables whose strategy no longer fits."
    parts = [Part([project.assessment_key])]
    return scheduled(asset_job(f"{project.name}_assess", parts, text, project), cron, parts, project)


def _by_cron(
    tables: Sequence[TableAsset], cron_of: Callable[[TableConfig], str | None]
) -> Iterator[tuple[str, str, list[TableAsset]]]:
    """Yield the tables with a cron for each cron and group."""
    found: defaultdict[tuple[str, str], list[TableAsset]] = defaultdict(list)
    for asset in tables:
        if cron := cron_of(asset.table):
            found[" ".join(cron.split()), asset.group].append(asset)
    for (cron, group), chosen in sorted(found.items(), key=lambda each: each[0]):
        yield cron, group, chosen


def _name(cron: str, group: str) -> str:
    return f"{cron_name(cron)}_{dagster_name(group)}"


def _reconciling(tables: Sequence[TableAsset], project: Project) -> list[Part]:
    return [
        Part(
            [asset.key for asset in chosen],
            {op_name(asset, project): {"reconcile": True} for asset in chosen},
            tags,
            blocking_checks(chosen),
        )
        for tags, chosen in by_run_tags(tables)
    ]


def _verifying(group: str, tables: Sequence[TableAsset], project: Project) -> list[Part]:
    key = project.verification_key(group)
    return [
        Part([key], {key.to_python_identifier(): {"tables": [asset.name for asset in chosen]}}, tags)
        for tags, chosen in by_run_tags(tables)
    ]


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
