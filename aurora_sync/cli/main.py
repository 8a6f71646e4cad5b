"""The command line: parse, call the core, print. Needs no Dagster instance; only ``ui`` starts Dagster.

Results go to standard output (with ``--json`` one JSON document), everything else to standard error. Exit
status: 0 success, 1 a table or connection failed, 2 the command, the configuration or the settings are wrong.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, Self

from aurora_sync.cli import assess as cli_assess
from aurora_sync.cli import cdc as cli_cdc
from aurora_sync.cli import triggers as cli_triggers
from aurora_sync.config.loader import load
from aurora_sync.config.schema import json_schema
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig, duration
from aurora_sync.embedded.environment import local_settings
from aurora_sync.engine import batch, gc
from aurora_sync.engine.batch import Batch
from aurora_sync.engine.check import problems as connection_problems
from aurora_sync.engine.places import Places
from aurora_sync.engine.preview import Preview, ReconcileEstimate, preview
from aurora_sync.engine.report import receipt_lines
from aurora_sync.engine.retries import retrying
from aurora_sync.engine.selection import all_tables, select_batches, select_tables
from aurora_sync.engine.sync import run
from aurora_sync.errors import AuroraSyncError, ConfigError, NotComparedError
from aurora_sync.model.foreign_text import printable
from aurora_sync.model.receipt import Receipt
from aurora_sync.source.copy_out import Progress
from aurora_sync.warehouse import sync_log

STACK = Path(".aurora_sync")
Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.WARNING,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "snowflake"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return int(arguments.command(arguments))
    except AuroraSyncError as error:
        _report(error, arguments)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print("interrupted; targets and watermarks are as the last finished run left them", file=sys.stderr)
        return 130


def _sync(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    receipts: dict[tuple[str, str], Receipt] = {}  # by target, and the step of a verification that repairs
    failed: list[dict[str, str]] = []

    def show(receipt: Receipt, step: str = "") -> None:
        receipts[receipt.target, step] = receipt
        if not arguments.json:
            print("\n".join(receipt_lines(receipt)), flush=True)

    for names, run_batch in retrying(partial(_batches, arguments, settings, places, show)):
        try:
            retrying(run_batch)
        except AuroraSyncError as error:
            _report(error, arguments, where=names)
            failed.append({"table": names, "error": str(error), "kind": error.kind.value})
    if arguments.json:
        _print_json({"receipts": [receipt.to_json() for receipt in receipts.values()], "failed": failed})
    last = {receipt.target: receipt.verification for receipt in receipts.values()}
    unequal = [found for found in last.values() if found and not found.equal]
    return 1 if failed or unequal else 0


def _batches(
    arguments: argparse.Namespace, settings: Settings, places: Places, show: Callable[..., None]
) -> list[tuple[str, Callable[[], None]]]:
    """What is to be run, with the names of its tables. Those that are scanned anyway, or verified, are so one by
    one."""
    if arguments.full or arguments.reconcile or arguments.verify:
        one = _verify_table if arguments.verify else _scan_table
        chosen = select_tables(settings, places.source, arguments.tables)
        return [(table.qualified_name, partial(one, table, places, arguments, show)) for table in chosen]
    return [
        (", ".join(table.qualified_name for table in each), partial(_run_batch, each, places, arguments, show))
        for each in select_batches(settings, places.source, arguments.tables)
    ]


def _scan_table(
    table: TableConfig, places: Places, arguments: argparse.Namespace, show: Callable[[Receipt], None]
) -> None:
    with _Progress(table.qualified_name, quiet=arguments.json) as progress:
        receipt = run(
            table,
            places,
            full=arguments.full,
            reconcile=arguments.reconcile,
            allow_deletes=arguments.allow_deletes,
            on_progress=progress,
        )
    show(receipt)


def _verify_table(table: TableConfig, places: Places, arguments: argparse.Namespace, show: Callable[..., None]) -> None:
    with _Progress(table.qualified_name, quiet=arguments.json) as progress:
        found = None
        try:
            receipt = batch.verify(table, places, on_progress=progress)
        except NotComparedError as error:
            if not arguments.repair:
                raise
            print(f"{error.where}: {error.what}", file=sys.stderr)
        else:
            progress.clear()
            show(receipt)
            found = receipt.verification
            assert found
            if found.equal or not arguments.repair:
                return
        repaired = batch.repair(table, places, found, allow_deletes=arguments.allow_deletes, on_progress=progress)
        progress.clear()
        show(repaired, "repair")
        again = batch.verify(table, places, on_progress=progress)
    show(again, "verified again")


def _run_batch(each: Batch, places: Places, arguments: argparse.Namespace, show: Callable[[Receipt], None]) -> None:
    with _Progress(each[0].qualified_name, quiet=arguments.json) as progress:
        batch.run(each, places, show, allow_deletes=arguments.allow_deletes, on_progress=progress)


def _plan(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    previews: list[Preview] = []
    failed: list[dict[str, str]] = []
    for table in select_tables(settings, places.source, arguments.tables):
        try:
            previews.append(preview(table, places))
        except AuroraSyncError as error:
            _report(error, arguments, where=table.qualified_name)
            failed.append({"table": table.qualified_name, "error": str(error), "kind": error.kind.value})
    if arguments.json:
        _print_json([*map(dataclasses.asdict, previews), *failed])
    elif previews:
        print("\n\n".join(_preview_text(each) for each in previews))
    return 1 if failed else 0


def _status(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    tables = select_tables(settings, places.source, arguments.tables)
    with places.warehouse.session(query_tag="aurora_sync status") as session:
        entries = {entry.source_table: entry for entry in sync_log.newest(session, places.log_schema)}
    rows = [_status_of(table, entries.get(table.qualified_name)) for table in tables]
    if arguments.json:
        _print_json(rows)
    else:
        print(
            _aligned(
                ["table", "strategy", "run", "rows", "last change applied", "watermark", "certificate"],
                map(_status_row, rows),
            )
        )
        for row in rows:
            if row["certificate"] and row["certificate"]["level"] != "certified":
                print()
                print(printable(f"{row['table']} is {row['certificate']['level']}: {row['certificate']['text']}"))
    return 0


def _check(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    problems = connection_problems(
        lambda: all_tables(settings, places.source), places.source, places.stage.store, places.warehouse
    )
    if arguments.json:
        _print_json({"ok": not problems, "problems": problems})
    elif problems:
        print("\n".join(map(printable, problems)), file=sys.stderr)
    else:
        print(
            f"{settings.tables}, {places.source.describe()}, {settings.stage} and"
            f" {places.warehouse.describe()}: everything fits"
        )
    return 1 if problems else 0


def _gc(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    older_than = gc.age_limit((entry.table for entry in load(settings.tables).tables), arguments.older_than)
    show = _print_line if arguments.dry_run and not arguments.json else gc.logger.info
    heaps = retrying(lambda: gc.collect(places, older_than=older_than, dry_run=arguments.dry_run, on_found=show))
    if arguments.json:
        _print_json({"dry_run": arguments.dry_run, "collected": [dataclasses.asdict(heap) for heap in heaps]})
        return 0
    for heap in heaps:
        size = "" if heap.bytes is None else f", {heap.bytes / 1e6:,.1f} MB"
        print(f"{heap.count:,} {heap.kind}{size} {'would go' if arguments.dry_run else 'removed'}")
    return 0


def _schema(arguments: argparse.Namespace) -> int:
    _print_json(json_schema())
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from aurora_sync.embedded.demo import demo

    return demo(STACK, seconds=arguments.seconds, as_json=arguments.json)


def _ui(arguments: argparse.Namespace) -> int:
    from aurora_sync.embedded.ui import serve

    return serve(STACK, port=arguments.port)


def _clean(arguments: argparse.Namespace) -> int:
    from aurora_sync.embedded.stack import Stack

    Stack(STACK).remove()
    if not arguments.json:
        print(f"{STACK} is gone")
    return 0


def _locally(command: Command) -> Command:
    """Run a command in the environment; without AURORA_DSN, in that of the local stack if there is one."""

    def run_command(arguments: argparse.Namespace) -> int:
        with local_settings(STACK):
            return command(arguments)

    return run_command


def _with_places(command: Callable[[argparse.Namespace, Settings, Places], int]) -> Command:
    """Run a command on the places of the environment."""

    def run_command(arguments: argparse.Namespace) -> int:
        settings = Settings.from_environment(os.environ)
        return command(arguments, settings, Places.from_settings(settings))

    return _locally(run_command)


def _report(error: AuroraSyncError, arguments: argparse.Namespace, where: str = "") -> None:
    if arguments.debug:
        traceback.print_exception(error)
    text, where = "\n".join([str(error), *map(printable, getattr(error, "__notes__", ()))]), printable(where)
    print(f"error: {text if where in text else f'{where}: {text}'}", file=sys.stderr)


class _Progress:
    """One line that is rewritten on a terminal; a line every few seconds elsewhere."""

    def __init__(self, table: str, *, quiet: bool) -> None:
        self._table = printable(table)
        self._quiet = quiet
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, progress: Progress) -> None:
        if self._quiet:
            return
        share = f", {progress.share:.0%}" if progress.share is not None else ""
        rate = progress.bytes / progress.seconds / 1e6
        text = f"{self._table}: {progress.rows:,} rows{share}, {rate:.0f} MB/s"
        self._open = sys.stderr.isatty()
        print(f"\r\x1b[K{text}" if self._open else text, end="" if self._open else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _preview_text(each: Preview) -> str:
    found = each.certificate.findings
    rows = "those that changed," if each.rows_estimate is None else f"about {each.rows_estimate:,}"
    lines = [
        f"{each.table} -> {each.target}",
        f"  strategy     {each.strategy}, {each.method}, {each.disposition} after run {each.run_sequence}",
        f"  rows         {rows} of {each.rows_in_table:,} ({each.size_bytes / 1e6:,.1f} MB heap)",
        f"  sql          {each.statement}",
        f"  certificate  {each.certificate.level.value}: {each.certificate.text}",
        f"  reconcile    {_comparison_text(each.reconcile)}",
    ]
    lines += [f"  found        {finding.event} ({finding.action.value}): {finding.text}" for finding in found]
    texts = {finding.text for finding in found}
    lines += [f"  warning      {warning}" for warning in each.warnings if warning not in texts]
    return "\n".join(map(printable, lines))


def _comparison_text(each: ReconcileEstimate) -> str:
    when = []
    if each.in_this_run:
        when.append("in this run")
    elif each.runs_before is not None:
        when.append("in the next run" if each.runs_before <= 1 else f"in {each.runs_before:,} runs")
    if each.schedule is not None:
        when.append(f"at {each.schedule} UTC")
    last = f"last as of {each.last_as_of:%Y-%m-%d %H:%M:%S} UTC" if each.last_as_of else "never so far"
    heap = f"{each.source_bytes / 1e6:,.1f} MB of heap"
    if each.buckets:
        cost = f"it scans {heap} and {each.target_rows:,} rows of the target, in {each.buckets:,} buckets"
    else:
        cost = f"for want of a key it reads all {heap}"
    return f"{' and '.join(when) or 'on demand only'} ({last}); {cost}"


def _status_of(table: TableConfig, entry: sync_log.LogEntry | None) -> dict[str, Any]:
    state: dict[str, Any] = {
        "table": table.qualified_name,
        "strategy": table.watermark_type.value,
        "run_sequence": 0,
        "target_rows": None,
        "applied_at": None,
        "seconds_since": None,
        "watermark": None,
        "certificate": None,
        "last_run": None,
    }
    if entry is None:
        return state
    return state | {
        "run_sequence": entry.run_sequence,
        "target_rows": entry.target_rows,
        "applied_at": entry.applied_at.isoformat(),
        "seconds_since": (datetime.now(UTC) - entry.applied_at).total_seconds(),
        "watermark": json.loads(entry.watermark),
        "certificate": json.loads(entry.certificate),
        "last_run": {
            "strategy": entry.strategy,
            "disposition": entry.disposition,
            "rows": entry.staged_rows,
            "inserted": entry.inserted,
            "updated": entry.updated,
            "deleted": entry.deleted,
            "source_rows": entry.source_rows,
        },
    }


def _status_row(row: dict[str, Any]) -> list[str]:
    if not row["run_sequence"]:
        return [row["table"], row["strategy"], "-", "-", "never synced", "-", "-"]
    watermark = row["watermark"]
    value = {name: part for name, part in watermark["value"].items() if name in ("fence", "horizon") and part}
    known = ", ".join(f"{name} {part}" for name, part in value.items()) or f"horizon {watermark['snapshot']['xmin']}"
    since = f"{row['applied_at'][:19]}Z, {row['seconds_since']:,.0f} s ago"
    level = row["certificate"]["level"]
    return [row["table"], row["strategy"], str(row["run_sequence"]), f"{row['target_rows']:,}", since, known, level]


def _age(text: str) -> timedelta:
    if not re.fullmatch(r"[0-9]{1,5}[mhd]", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no age such as 90m, 12h or 2d")
    return duration(text)


def _aligned(head: list[str], rows: Iterable[list[str]]) -> str:
    table = [head, *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(row[place]) for row in table) for place in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def _print_line(text: str) -> None:
    print(printable(text))


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=lambda other: other.value if isinstance(other, Enum) else str(other)))


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print one JSON document")
    common.add_argument("--debug", action="store_true", help="log statements, and print tracebacks of errors")
    parser = argparse.ArgumentParser(
        prog="aurora-sync",
        description="Incremental sync of PostgreSQL tables through S3 into Snowflake.",
        epilog="Settings come from the environment; without AURORA_DSN the local stack in .aurora_sync is used.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Command, text: str, *, tables: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text, parents=[common])
        added.set_defaults(command=function)
        if tables:
            added.add_argument("tables", nargs="*", metavar="TABLE", help="names or globs; default: all of tables.yaml")
        return added

    sync = command("sync", _with_places(_sync), "bring targets up to date", tables=True)
    sync.add_argument("--full", action="store_true", help="read whole tables, whatever the watermarks say")
    text = "bring targets up to date, compare them with the source, and repair what differs"
    reconcile = command("reconcile", _with_places(_sync), text, tables=True)
    text = "compare targets with the source, by content, behind the strategy's own increment; repairs nothing"
    verify = command("verify", _with_places(_sync), text, tables=True)
    for added in (sync, reconcile, verify):
        added.add_argument("--allow-deletes", action="store_true", help="lift the delete guard for this run")
        added.set_defaults(reconcile=added is reconcile, verify=added is verify)
    text = "reconcile, or read in full, what differs or cannot be compared, and compare again"
    verify.add_argument("--repair", action="store_true", help=text)
    for added in (reconcile, verify):
        added.set_defaults(full=False)
    command("plan", _with_places(_plan), "show what a sync would read, and touch nothing", tables=True)
    command("status", _with_places(_status), "strategy, watermark, last run and counts of each table", tables=True)
    command("check", _with_places(_check), "check configuration and connections, all problems at once")
    collect = command("gc", _with_places(_gc), "remove what killed runs left in the stage and the log schema")
    collect.add_argument("--dry-run", action="store_true", help="show what would go, and remove nothing")
    collect.add_argument(
        "--older-than", type=_age, metavar="AGE", help="of attempts: 12h, 3d (default: 2d); younger ones may still run"
    )
    text = "logical replication: set up, look after, take down (watermark_type: logical)"
    cli_cdc.add_to(commands.add_parser("cdc", help=text, description=text), _with_places)
    text = "which strategy suits each table of the source, and why; needs AURORA_DSN alone"
    cli_assess.add_to(command("assess", _locally(cli_assess.assess), text))
    text = "triggers that make a table easy to sync: plan, apply, verify, remove (watermark_type: outbox)"
    cli_triggers.add_to(commands.add_parser("triggers", help=text, description=text), _locally)
    command("schema", _schema, "print the JSON Schema of tables.yaml")
    demo = command("demo", _demo, "sync seven legacy tables of a local database, under concurrent writers")
    demo.add_argument("--seconds", type=float, default=10, help="how long the writers write (default: 10)")
    ui = command("ui", _ui, "start the Dagster UI, on the local stack where AURORA_DSN is not set")
    ui.add_argument("--port", type=int, default=3000)
    command("clean", _clean, "stop the local stack and remove its data")
    return parser


if __name__ == "__main__":
    sys.exit(main())
