"""``aurora-sync status``: show what needs attention, and the newest sync log entry of each table."""

from __future__ import annotations

import argparse
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_json, print_lines
from aurora_sync.cli.status_text import attention_lines, bounded_lines, needs_attention
from aurora_sync.cli.table import print_table

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.config.tables import TableConfig
    from aurora_sync.engine.places import Places
    from aurora_sync.warehouse.sync_log import LogEntry

_HEAD = ["table", "strategy", "run", "rows", "changed", "watermark", "certificate"]


def add_to(commands: Commands) -> None:
    text = "show which tables need attention, and strategy, watermark, last run and counts of each table"
    add_tables(add_command(commands, "status", on_places(_status), text))


def _status(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.engine.newest import entries_of, newest_entries
    from aurora_sync.engine.selection import select_tables

    tables = select_tables(settings, places.source, arguments.tables)
    entries = entries_of(tables, newest_entries(places, "status"))
    states = [_state(table, entry) for table, entry in zip(tables, entries, strict=True)]
    if arguments.json:
        print_json(states)
        return 0
    print_lines(*attention_lines(states), "")
    attention = [number for number, state in enumerate(states) if needs_attention(state)]
    print_table(_HEAD, [_row(state) for state in states], right=(2, 3), attention=attention)
    print_lines(*bounded_lines(states))
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
    from aurora_sync.engine.report import ago
    from aurora_sync.strategies import STRATEGIES

    if not state["run_sequence"]:
        return [state["table"], state["strategy"], "-", "-", "never synced", "-", "-"]
    watermark = state["watermark"]
    of_strategy = (each.shown(watermark["value"]) for each in STRATEGIES if each.name == watermark["strategy"])
    value = next(of_strategy, {})  # empty for a strategy that only another release has
    known = ", ".join(f"{name} {part}" for name, part in value.items()) or f"horizon {watermark['snapshot']['xmin']}"
    level = state["certificate"]["level"]
    rows = f"{state['target_rows']:,}"
    since = ago(state["seconds_since"])
    return [state["table"], state["strategy"], str(state["run_sequence"]), rows, since, _short(known), level]


def _short(watermark: str) -> str:
    """Return the watermark with timestamps in whole seconds; ``--json`` has them in full.

    >>> _short("fence 2026-11-30T14:46:05.633038+00:00")
    'fence 2026-11-30 14:46:05Z'
    """
    return re.sub(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?\+00:00", r"\1 \2Z", watermark)
