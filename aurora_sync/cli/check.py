"""``aurora-sync check``: list the problems of the configuration and the connections."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command
from aurora_sync.cli.printing import print_json
from aurora_sync.model.foreign_text import printable

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    add_command(commands, "check", on_places(_check), "check configuration and connections, all problems at once")


def _check(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.engine.check import problems as connection_problems
    from aurora_sync.engine.selection import all_tables

    problems = connection_problems(lambda: all_tables(settings, places.source), places)
    if arguments.json:
        print_json({"ok": not problems, "problems": problems})
    elif problems:
        print("\n".join(map(printable, problems)), file=sys.stderr)
    else:
        print(
            f"{settings.tables}, {places.source.describe()}, {settings.stage} and"
            f" {places.warehouse.describe()}: everything fits"
        )
    return 1 if problems else 0
