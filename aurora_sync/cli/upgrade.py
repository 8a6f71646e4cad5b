"""``aurora-sync upgrade``: list what existing targets could be given that new targets have."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_json, print_lines

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    upgrade = add_command(
        commands, "upgrade", on_places(_upgrade), "list what could be improved in existing targets, and change nothing"
    )
    upgrade.add_argument("--plan", action="store_true", required=True, help="list the statements; nothing is changed")
    add_tables(upgrade)


def _upgrade(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.engine.selection import select_tables
    from aurora_sync.engine.upgrade import upgrades

    found = [
        (table, each) for table, each in upgrades(select_tables(settings, places.source, arguments.tables), places)
    ]
    if arguments.json:
        print_json(
            [
                {
                    "table": table.qualified_name,
                    "target": ".".join(table.written_target),
                    "improvements": [dataclasses.asdict(each) for each in improvements],
                }
                for table, improvements in found
            ]
        )
        return 0
    listed = [(table, improvements) for table, improvements in found if improvements]
    for number, (table, improvements) in enumerate(listed):
        print_lines(
            *([""] if number else []), f"-- {'.'.join(table.written_target)}, synced from {table.qualified_name}"
        )
        for each in improvements:
            print_lines(f"-- {each.what}", *([f"{each.statement};"] if each.statement else []))
        if not all(each.statement for each in improvements):
            print_lines(
                "-- Only a new target can have what has no statement. After you renamed or dropped the target, run:",
                f"--   aurora-sync sync --full {table.qualified_name}",
            )
    if not listed:
        print_lines("No existing target can be improved.")
    return 0
