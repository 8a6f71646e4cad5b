"""When tables are synced by themselves: one schedule per distinct cron, and a condition for what comes after.

A table with ``schedule:`` is synced at these times, whether it changed or not. All others are watched by the
change sensor (change_sensor.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import dagster as dg
from dagster import AutomationCondition

from aurora_sync.config.tables import TableConfig
from aurora_sync.orchestration.assets import assessment_key, asset_key, group, verification_key
from aurora_sync.orchestration.slot_assets import op_name


def schedules(tables: Sequence[TableConfig], name: str) -> list[dg.ScheduleDefinition]:
    """One schedule for each distinct cron, never one for each table: Dagster loads 999 jobs in 36 s."""
    by_cron: defaultdict[str, list[dg.AssetKey]] = defaultdict(list)
    for table in tables:
        if table.schedule is not None:
            by_cron[" ".join(table.schedule.split())].append(asset_key(table))
    return [
        dg.ScheduleDefinition(
            name=f"{name}_{_slug(cron)}",
            cron_schedule=cron,
            execution_timezone="UTC",
            target=dg.AssetSelection.assets(*keys),
            description=f"Syncs {len(keys)} tables of tables.yaml at {cron} UTC.",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for cron, keys in sorted(by_cron.items())
    ]


def reconciliations(tables: Sequence[TableConfig], name: str) -> list[dg.ScheduleDefinition]:
    """One schedule for each distinct ``reconcile: {schedule: ...}``: the same sync, asked to compare and repair."""
    by_cron: defaultdict[str, list[TableConfig]] = defaultdict(list)
    for table in tables:
        if table.reconcile is not None and table.reconcile.schedule is not None:
            by_cron[" ".join(table.reconcile.schedule.split())].append(table)
    return [
        _configured(
            _reconciling(chosen, name, f"{name}_reconcile_{_slug(cron)}"),
            cron,
            f"Compares {len(chosen)} tables with their sources at {cron} UTC, and repairs them.",
        )
        for cron, chosen in sorted(by_cron.items())
    ]


def reconcile_job(tables: Sequence[TableConfig], name: str) -> dg.UnresolvedAssetJobDefinition:
    """The job ``<name>_reconcile``, for a person to launch: of all tables, or of those that the launchpad is left
    with."""
    return _reconciling(tables, name, f"{name}_reconcile")


def verifications(tables: Sequence[TableConfig], name: str) -> list[dg.ScheduleDefinition]:
    """One schedule for each distinct ``verify:``, of the groups that have such tables."""
    by_cron: defaultdict[str, defaultdict[dg.AssetKey, list[str]]] = defaultdict(lambda: defaultdict(list))
    for table in tables:
        if table.verify is not None:
            by_cron[" ".join(table.verify.split())][verification_key(group(table), name)].append(table.qualified_name)
    return [
        _configured(
            _job(
                f"{name}_verify_{_slug(cron)}",
                groups,
                {key.to_python_identifier(): {"tables": names} for key, names in groups.items()},
            ),
            cron,
            f"Proves {sum(map(len, groups.values()))} tables equal to their sources at {cron} UTC.",
        )
        for cron, groups in sorted(by_cron.items())
    ]


def assessment(cron: str, name: str) -> dg.ScheduleDefinition:
    """The schedule ``<name>_assess``."""
    job = _job(f"{name}_assess", [assessment_key(name)], {})
    return _configured(job, cron, f"Tells at {cron} UTC which table's strategy no longer fits.")


def _configured(job: dg.UnresolvedAssetJobDefinition, cron: str, description: str) -> dg.ScheduleDefinition:
    """A schedule for a job, of the same name."""
    return dg.ScheduleDefinition(
        name=job.name,
        cron_schedule=cron,
        execution_timezone="UTC",
        job=job,
        description=description,
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )


def _reconciling(tables: Sequence[TableConfig], name: str, job: str) -> dg.UnresolvedAssetJobDefinition:
    configs = {op_name(table, name): {"reconcile": True} for table in tables}
    return _job(job, [asset_key(table) for table in tables], configs)


def _job(name: str, keys: Iterable[dg.AssetKey], configs: dict[str, Any]) -> dg.UnresolvedAssetJobDefinition:
    """A job over these assets, each step with its config."""
    ops = {step: {"config": config} for step, config in configs.items()}
    return dg.define_asset_job(name, dg.AssetSelection.assets(*keys), config={"ops": ops})


def on_new_rows() -> AutomationCondition[Any]:
    """For an asset downstream of synced tables: request it when a table's rows changed, and not otherwise.

    ``AutomationCondition.eager()`` fires at every materialization, heartbeats and empty syncs included. The
    data version of a synced table is its run sequence, which grows only when rows were applied.
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
    """A part of a name, one for one: ``*/15 2-4 * * *`` is ``xby15_2to4_x_x_x``."""
    return "".join({"*": "x", "/": "by", "-": "to", ",": "and", " ": "_"}.get(letter, letter) for letter in cron)
