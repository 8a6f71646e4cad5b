"""``aurora-sync report``: write the state of all tables as an HTML page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.files import replace_file
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_json, print_lines

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    text = "print one HTML page with certificate, lag, last run and trend of each table"
    report = add_command(commands, "report", on_places(_report), text)
    add_tables(report)
    report.add_argument(
        "--output", type=Path, metavar="FILE", help="write the page to this file, such as report.html, in one step"
    )


def _report(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.engine.overview import overview
    from aurora_sync.engine.overview_page import as_html
    from aurora_sync.engine.selection import select_tables

    shown = overview(select_tables(settings, places.source, arguments.tables), places)
    if arguments.output:
        replace_file(arguments.output, as_html(shown), "--output")
    if arguments.json:
        print_json({standing.value: len(states) for standing, states in shown.by_standing.items()})
    elif arguments.output:
        print_lines(f"{arguments.output} was written")
    else:
        sys.stdout.write(as_html(shown))
    return 0
