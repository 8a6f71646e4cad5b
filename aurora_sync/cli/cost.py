"""``aurora-sync cost``: show what the statements of each table used in Snowflake."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_json, print_lines
from aurora_sync.cli.table import print_table

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places
    from aurora_sync.model.usage import Usage

_HEAD = ["table", "credits", "seconds", "MB read", "MB written", "partitions read", "statements"]
_NOTE = (
    "Credits are those of the statements, without the time that the virtual warehouse waits until it is suspended."
    " Snowflake shows statements up to 45 minutes late, and credits up to 8 hours late."
)


def add_to(commands: Commands) -> None:
    text = "credits, seconds and bytes of each table in Snowflake, from the history of the account"
    cost = add_command(commands, "cost", on_places(_cost), text)
    add_tables(cost, default="all that the history has")
    cost.add_argument("--days", type=_days, default=7, metavar="N", help="of the last N days, up to 365 (default: 7)")


def _cost(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    found = places.warehouse.usage(arguments.days)
    if found is None:
        if arguments.json:
            print_json([])
        else:
            why = "no history of cost" if places.warehouse.metered else "no history: its statements cost nothing"
            print_lines(f"{places.warehouse.describe()} has {why}")
        return 0
    found = [each for each in found if _wanted(each, arguments.tables)]
    if arguments.json:
        print_json([dataclasses.asdict(each) for each in found])
        return 0
    if found:
        total = [_total(found)] if len(found) > 1 else []
        print_table(_HEAD, [*map(_row, found), *total], right=range(1, len(_HEAD)))
    else:
        print_lines(f"the history of the last {arguments.days} days has no statement of these tables")
    print_lines(_NOTE)
    return 0


def _wanted(each: Usage, patterns: list[str]) -> bool:
    """Return whether a pattern names the table, with or without its schema. The table may be gone from tables.yaml."""
    names = each.table, each.table.partition(".")[2]
    return not patterns or any(name and (name == p or fnmatchcase(name, p)) for name in names for p in patterns)


def _row(each: Usage) -> list[str]:
    return [
        each.table or "(no single table)",
        "-" if each.credits is None else f"{each.credits:,.4f}",
        f"{each.seconds:,.1f}",
        f"{each.bytes_scanned / 1e6:,.1f}",
        f"{each.bytes_written / 1e6:,.1f}",
        f"{each.partitions_scanned:,} of {each.partitions_total:,}",
        f"{each.statements:,}",
    ]


def _total(found: Sequence[Usage]) -> list[str]:
    from aurora_sync.model.usage import Usage

    credits = [each.credits for each in found if each.credits is not None]
    _, statements, _, *others = zip(*map(dataclasses.astuple, found), strict=True)
    return _row(Usage("total", sum(statements), sum(credits) if credits else None, *map(sum, others)))


def _days(text: str) -> int:
    if text.isascii() and text.isdigit() and 1 <= int(text) <= 365:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a number of days from 1 to 365, found {text!r}")
