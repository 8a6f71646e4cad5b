"""When tables are synced by themselves: one schedule per distinct cron, and a condition for what comes after.

A table with ``schedule:`` is synced at these times, whether it changed or not. All others are watched by the
change sensor (change_sensor.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import dagster as dg
from dagster import AutomationCondition

from aurora_sync.config.tables import TableConfig
from aurora_sync.orchestration.assets import asset_key


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
    by_cron: defaultdict[str, list[dg.AssetKey]] = defaultdict(list)
    for table in tables:
        if table.reconcile is not None and table.reconcile.schedule is not None:
            by_cron[" ".join(table.reconcile.schedule.split())].append(asset_key(table))
    found = []
    for cron, keys in sorted(by_cron.items()):
        config = {key.to_python_identifier(): {"config": {"reconcile": True}} for key in keys}
        found.append(
            dg.ScheduleDefinition(
                name=f"{name}_reconcile_{_slug(cron)}",
                cron_schedule=cron,
                execution_timezone="UTC",
                job=dg.define_asset_job(
                    f"{name}_reconcile_{_slug(cron)}", dg.AssetSelection.assets(*keys), config={"ops": config}
                ),
                description=f"Compares {len(keys)} tables with their sources at {cron} UTC, and repairs them.",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            )
        )
    return found


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
