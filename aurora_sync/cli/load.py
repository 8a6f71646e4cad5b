"""``aurora-sync load``: end a load in chunks, or begin it anew."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_error, print_json, print_lines
from aurora_sync.errors import AuroraSyncError

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    text = "end or restart the load of a large table in chunks; `sync` begins one, and continues it"
    load = add_command(commands, "load", on_places(_load), text)
    add_tables(load, default="")
    how = load.add_mutually_exclusive_group(required=True)
    how.add_argument("--abort", action="store_true", help="end the load; the next sync reads the whole table again")
    how.add_argument("--restart", action="store_true", help="end the load, and sync the table")


def _load(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.receipt_text import receipt_text
    from aurora_sync.engine import load, sync
    from aurora_sync.engine.report import load_line
    from aurora_sync.engine.retries import retrying
    from aurora_sync.engine.selection import select_tables

    ended, failed = [], False
    for table in select_tables(settings, places.source, arguments.tables):
        name = table.qualified_name
        try:
            found = load.abort(table, places)
            ended.append({"table": name, "chunks": found and found.chunks_done})
            if not arguments.json:
                print_lines(f"{name}: {f'ended: {load_line(found)}' if found else 'no load is open'}", flush=True)
            if arguments.restart:
                receipt = retrying(partial(sync.run, table, places))
                if not arguments.json:
                    print_lines(*receipt_text(receipt), flush=True)
        except AuroraSyncError as error:
            print_error(error, arguments, where=name)
            failed = True
    if arguments.json:
        print_json(ended)
    return 1 if failed else 0
