"""``aurora-sync reload``: read rows of a table again, without reading the whole table."""

from __future__ import annotations

import argparse
import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_json, print_lines
from aurora_sync.cli.progress import RunProgress
from aurora_sync.model.reload import MAX_ROWS

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    text = "sync a table, and read its rows since a time, or in a range of keys, again"
    added = add_command(commands, "reload", on_places(_reload), text)
    add_tables(added, default="")
    added.add_argument("--since", default="", metavar="TIME", help="rows whose time is not before TIME (UTC)")
    text = "column of --since; default: that of the strategy"
    added.add_argument("--column", default="", metavar="COLUMN", help=text)
    text = "rows whose first key column is at least KEY; rows that the source does not have are deleted from the target"
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
    from aurora_sync.model.reload import OptionNames, Reload

    names = OptionNames("--since", "--column", "--from", "--to", "--max-rows")
    request = Reload(arguments.since, arguments.column, arguments.lower, arguments.upper, arguments.max_rows, names)
    tables = select_tables(settings, places.source, arguments.tables)
    documents = []
    progress = RunProgress(len(tables), quiet=arguments.json)
    with progress:
        for table in tables:
            progress.begin((table.qualified_name,))
            if arguments.dry_run:
                rows = retrying(partial(count, table, places, request))
                documents.append({"table": table.qualified_name, **dataclasses.asdict(rows)})
                more = f"; --max-rows {request.max_rows} refuses that" if rows.rows > request.max_rows else ""
                lines = [f"{table.qualified_name}: {rows.rows:,} rows with {rows} would be read again{more}"]
            else:
                run = partial(reload, allow_deletes=arguments.allow_deletes, on_progress=progress)
                receipt = retrying(partial(run, table, places, request))
                documents.append(receipt.to_json())
                lines = receipt_text(receipt)
            if not arguments.json:
                progress.clear()
                print_lines(*lines, flush=True)
    if arguments.json:
        print_json(documents if arguments.dry_run else {"receipts": documents})
    return 0
