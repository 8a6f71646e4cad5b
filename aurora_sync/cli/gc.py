"""``aurora-sync gc``: remove files and tables that killed runs left."""

from __future__ import annotations

import argparse
import dataclasses
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command
from aurora_sync.cli.printing import Verbatim, print_json, print_lines
from aurora_sync.cli.table import print_table

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    text = "remove what killed runs left in the stage and the log schema"
    collect = add_command(commands, "gc", on_places(_gc), text)
    collect.add_argument("--dry-run", action="store_true", help="show what would be removed, and remove nothing")
    collect.add_argument(
        "--older-than",
        type=_age,
        metavar="AGE",
        help="minimum age of what is removed: 12h, 3d (default: 2d); younger attempts may still run",
    )


def _gc(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.config.loader import load
    from aurora_sync.engine import gc
    from aurora_sync.engine.retries import retrying

    older_than = gc.age_limit((entry.table for entry in load(settings.tables).tables), arguments.older_than)
    show = _show if arguments.dry_run and not arguments.json else gc.logger.info
    collected = retrying(lambda: gc.collect(places, older_than=older_than, dry_run=arguments.dry_run, on_found=show))
    compacted = 0 if arguments.dry_run else retrying(lambda: gc.compact_log(places))
    if arguments.json:
        print_json({"dry_run": arguments.dry_run, "collected": [dataclasses.asdict(each) for each in collected]})
        return 0
    head = ["kind", "would be removed" if arguments.dry_run else "removed", "size"]
    sizes = ("" if each.bytes is None else f"{each.bytes / 1e6:,.1f} MB" for each in collected)
    rows = [[each.kind, f"{each.count:,}", size] for each, size in zip(collected, sizes, strict=True)]
    print_table(head, rows, right=(1, 2))
    if compacted:
        print_lines(f"{compacted:,} entries of the sync log written together")
    return 0


def _show(name: str) -> None:
    print_lines(Verbatim(name))


def _age(text: str) -> timedelta:
    if not re.fullmatch(r"[0-9]{1,5}[mhd]", text):
        raise argparse.ArgumentTypeError(f"expected an age such as 90m, 12h or 2d; found {text!r}")
    from aurora_sync.config.field_types import duration

    return duration(text)
