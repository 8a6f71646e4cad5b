"""``aurora-sync reload``: read rows of a table again, without reading the whole table."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command
from aurora_sync.cli.printing import print_json, print_lines
from aurora_sync.cli.progress import RunProgress
from aurora_sync.errors import ConfigError
from aurora_sync.model.reload import MAX_ROWS

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    text = "sync a table, and read its rows since a time, or in a range of keys, again"
    added = add_command(commands, "reload", on_places(_reload), text)
    added.add_argument("table", metavar="TABLE", help="name of a table")
    added.add_argument("--since", default="", metavar="TIME", help="rows whose time is not before TIME (UTC)")
    text = "column of --since; default: that of the strategy"
    added.add_argument("--column", default="", metavar="COLUMN", help=text)
    text = "rows whose first key column is at least KEY; rows that the source does not have leave the target"
    added.add_argument("--from", dest="lower", default="", metavar="KEY", help=text)
    added.add_argument("--to", dest="upper", default="", metavar="KEY", help="rows whose first key column is below KEY")
    text = f"refuse to read more rows than N again; default: {MAX_ROWS:,}"
    added.add_argument("--max-rows", type=int, default=MAX_ROWS, metavar="N", help=text)
    added.add_argument("--dry-run", action="store_true", help="only count the rows at the source")
    added.add_argument("--allow-deletes", action="store_true", help="disable the delete guard for this run")


def _reload(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.receipt_text import receipt_text
    from aurora_sync.engine.reload import count, reload
    from aurora_sync.engine.retries import retrying
    from aurora_sync.engine.selection import select_tables
    from aurora_sync.model.reload import Reload

    found = select_tables(settings, places.source, [arguments.table])
    if len(found) != 1:
        names = ", ".join(table.qualified_name for table in found)
        raise ConfigError(f"{arguments.table} is the name of {len(found)} tables; expected one of {names}")
    (table,) = found
    request = Reload(arguments.since, arguments.column, arguments.lower, arguments.upper, arguments.max_rows)
    if arguments.dry_run:
        rows = retrying(lambda: count(table, places, request))
        if arguments.json:
            print_json({"table": table.qualified_name, **dataclasses.asdict(rows)})
        else:
            more = f"; --max-rows {request.max_rows} refuses that" if rows.rows > request.max_rows else ""
            print_lines(f"{table.qualified_name}: {rows.rows:,} rows with {rows} would be read again{more}")
        return 0
    progress = RunProgress(1, quiet=arguments.json)
    with progress:
        progress.begin((table.qualified_name,))
        receipt = retrying(
            lambda: reload(table, places, request, allow_deletes=arguments.allow_deletes, on_progress=progress)
        )
    if arguments.json:
        print_json(receipt.to_json())
    else:
        print_lines(*receipt_text(receipt))
    return 0
