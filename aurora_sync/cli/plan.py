"""``aurora-sync plan``: show what a sync would read."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_error, print_json, print_lines
from aurora_sync.errors import AuroraSyncError

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places
    from aurora_sync.engine.preview import Preview


def add_to(commands: Commands) -> None:
    plan = add_command(commands, "plan", on_places(_plan), "show what a sync would read, and change nothing")
    add_tables(plan)


def _plan(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.preview_text import preview_lines
    from aurora_sync.engine.preview import preview
    from aurora_sync.engine.selection import select_tables

    previews: list[Preview] = []
    failed: list[dict[str, str]] = []
    for table in select_tables(settings, places.source, arguments.tables):
        try:
            previews.append(preview(table, places))
        except AuroraSyncError as error:
            print_error(error, arguments, where=table.qualified_name)
            failed.append({"table": table.qualified_name, "error": str(error), "kind": error.kind.value})
    if arguments.json:
        print_json([*map(dataclasses.asdict, previews), *failed])
    for number, each in enumerate([] if arguments.json else previews):
        print_lines(*([""] if number else []), *preview_lines(each))
    return 1 if failed else 0
