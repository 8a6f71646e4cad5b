"""``aurora-sync status``: show the newest sync log entry of each table."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aurora_sync.cli.columns import aligned
from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_json, print_lines
from aurora_sync.model.foreign_text import printable

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.config.tables import TableConfig
    from aurora_sync.engine.places import Places
    from aurora_sync.warehouse.sync_log import LogEntry

_HEAD = ["table", "strategy", "run", "rows", "last change applied", "watermark", "certificate"]


def add_to(commands: Commands) -> None:
    text = "strategy, watermark, last run and counts of each table"
    add_tables(add_command(commands, "status", on_places(_status), text))


def _status(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.engine.selection import select_tables
    from aurora_sync.warehouse import sync_log

    tables = select_tables(settings, places.source, arguments.tables)
    with places.warehouse.session(query_tag="aurora_sync status") as session:
        entries = {entry.source_table: entry for entry in sync_log.newest(session, places.log_schema)}
    states = [_state(table, entries.get(table.qualified_name)) for table in tables]
    if arguments.json:
        print_json(states)
        return 0
    rows = [_HEAD, *([printable(cell) for cell in _row(state)] for state in states)]
    print("\n".join(aligned(rows)))
    for state in states:
        if state["certificate"] and state["certificate"]["level"] != "certified":
            print()
            print_lines(f"{state['table']} is {state['certificate']['level']}: {state['certificate']['text']}")
    return 0


def _state(table: TableConfig, entry: LogEntry | None) -> dict[str, Any]:
    state: dict[str, Any] = {
        "table": table.qualified_name,
        "strategy": table.watermark_type.value,
        "run_sequence": 0,
        "target_rows": None,
        "applied_at": None,
        "seconds_since": None,
        "watermark": None,
        "certificate": None,
        "last_run": None,
    }
    if entry is None:
        return state
    return state | {
        "run_sequence": entry.run_sequence,
        "target_rows": entry.target_rows,
        "applied_at": entry.applied_at.isoformat(),
        "seconds_since": (datetime.now(UTC) - entry.applied_at).total_seconds(),
        "watermark": json.loads(entry.watermark),
        "certificate": json.loads(entry.certificate),
        "last_run": {
            "strategy": entry.strategy,
            "disposition": entry.disposition,
            "rows": entry.staged_rows,
            "inserted": entry.inserted,
            "updated": entry.updated,
            "deleted": entry.deleted,
            "source_rows": entry.source_rows,
        },
    }


def _row(state: dict[str, Any]) -> list[str]:
    from aurora_sync.strategies import STRATEGIES

    if not state["run_sequence"]:
        return [state["table"], state["strategy"], "-", "-", "never synced", "-", "-"]
    watermark = state["watermark"]
    of_strategy = (each.shown(watermark["value"]) for each in STRATEGIES if each.name == watermark["strategy"])
    value = next(of_strategy, {})  # empty for a strategy that only another release has
    known = ", ".join(f"{name} {part}" for name, part in value.items()) or f"horizon {watermark['snapshot']['xmin']}"
    since = f"{state['applied_at'][:19]}Z, {state['seconds_since']:,.0f} s ago"
    level = state["certificate"]["level"]
    rows = f"{state['target_rows']:,}"
    return [state["table"], state["strategy"], str(state["run_sequence"]), rows, since, known, level]
