"""``aurora-sync check``: list the problems of the configuration and the connections."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command
from aurora_sync.cli.printing import print_json, print_lines, print_note

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.config.tables import TableConfig
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    add_command(commands, "check", on_places(_check), "check configuration and connections, and list all problems")


def _check(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.engine import check
    from aurora_sync.engine.selection import all_tables

    def tables() -> list[TableConfig]:
        return all_tables(settings, places.source)

    problems, notes = check.problems(tables, places), list[str]()
    if not problems:
        problems, notes = check.look_at_targets(tables, places)
    if arguments.json:
        print_json({"ok": not problems, "problems": problems, "notes": notes})
        return 1 if problems else 0
    for note in notes:
        print_note(f"note: {note}")
    if problems:
        for problem in problems:
            print_note(problem)
    else:
        print_lines(
            "OK: the configuration fits the source, and all connections work",
            f"  configuration  {settings.tables}",
            f"  source         {places.source.describe()}",
            f"  stage          {settings.stage}",
            f"  warehouse      {places.warehouse.describe()}",
        )
    return 1 if problems else 0
