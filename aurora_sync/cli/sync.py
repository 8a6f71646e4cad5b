"""``aurora-sync sync | reconcile | verify``: sync tables, and show the receipt of each run."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_tables
from aurora_sync.cli.printing import print_error, print_json, print_lines, print_note
from aurora_sync.cli.progress import RunProgress
from aurora_sync.errors import AuroraSyncError, NotComparedError

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.config.tables import TableConfig
    from aurora_sync.engine.batch import Batch
    from aurora_sync.engine.places import Places
    from aurora_sync.model.receipt import Receipt

Show = Callable[..., None]


class _Run(NamedTuple):
    tables: tuple[str, ...]
    start: Callable[[RunProgress, Show], None]
    batch: Batch | None = None  # set if the run may be one of several in one transaction


def add_to(commands: Commands) -> None:
    command = on_places(_sync)
    sync = add_command(commands, "sync", command, "bring targets up to date")
    sync.add_argument("--full", action="store_true", help="read whole tables, regardless of their watermarks")
    sync.add_argument("--parallel", type=_processes, metavar="N", help="processes that load chunks of a large table")
    text = "bring targets up to date, compare them with the source, and repair what differs"
    reconcile = add_command(commands, "reconcile", command, text)
    text = "apply new changes, then compare the content of targets with the source; repairs nothing without --repair"
    verify = add_command(commands, "verify", command, text)
    for added in (sync, reconcile, verify):
        add_tables(added)
        added.add_argument("--allow-deletes", action="store_true", help="disable the delete guard for this run")
        added.set_defaults(reconcile=added is reconcile, verify=added is verify)
    text = "reconcile or fully read each table that differs or cannot be compared, then compare it again"
    verify.add_argument("--repair", action="store_true", help=text)
    for added in (reconcile, verify):
        added.set_defaults(full=False, parallel=None)


def _sync(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.receipt_text import receipt_text
    from aurora_sync.engine.retries import retrying

    receipts: dict[tuple[str, str], Receipt] = {}  # keys: target, and the step of `verify --repair`
    failed: list[dict[str, str]] = []
    runs = retrying(partial(_runs, arguments, settings, places))
    progress = _progress(runs, arguments)

    def show(receipt: Receipt, step: str = "") -> None:
        receipts[receipt.target, step] = receipt
        if not arguments.json:
            progress.clear()
            print_lines(*receipt_text(receipt), flush=True)

    with progress:
        runs = _left(runs, places, arguments, progress, show)
    progress = _progress(runs, arguments)
    with progress:
        for run in runs:
            names = ", ".join(run.tables)
            progress.begin(run.tables)
            try:
                retrying(partial(run.start, progress, show))
            except AuroraSyncError as error:
                print_error(error, arguments, where=names)
                failed.append({"table": names, "error": str(error), "kind": error.kind.value})
    if arguments.json:
        print_json({"receipts": [receipt.to_json() for receipt in receipts.values()], "failed": failed})
    last = {receipt.target: receipt.verification for receipt in receipts.values()}
    unequal = [found for found in last.values() if found and not found.equal]
    return 1 if failed or unequal else 0


def _progress(runs: Sequence[_Run], arguments: argparse.Namespace) -> RunProgress:
    return RunProgress(sum(len(run.tables) for run in runs), quiet=arguments.json)


def _left(
    runs: list[_Run], places: Places, arguments: argparse.Namespace, progress: RunProgress, show: Show
) -> list[_Run]:
    """Sync the tables whose small increments share one transaction, and return the other runs."""
    from aurora_sync.engine import batch

    batches = [run.batch for run in runs if run.batch]
    left = batch.run_together(
        batches,
        places,
        show,
        allow_deletes=arguments.allow_deletes,
        on_table=lambda table: progress.begin((table,)),
    )
    return [run for run in runs if not run.batch or run.batch in left]


def _processes(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 64:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 64; found {text!r}")
    return int(text)


def _runs(arguments: argparse.Namespace, settings: Settings, places: Places) -> list[_Run]:
    """Return the runs to make. With ``--full``, ``reconcile`` and ``verify``, each table is a run of its own."""
    from aurora_sync.engine.selection import select_batches, select_tables

    if arguments.full or arguments.reconcile or arguments.verify:
        one = _verify_table if arguments.verify else _scan_table
        chosen = [_in_parallel(each, arguments) for each in select_tables(settings, places.source, arguments.tables)]
        return [_Run((table.qualified_name,), partial(one, table, places, arguments)) for table in chosen]
    return [
        _Run(tuple(table.qualified_name for table in each), partial(_run_batch, each, places, arguments), each)
        for batch in select_batches(settings, places.source, arguments.tables)
        for each in [tuple(_in_parallel(table, arguments) for table in batch)]
    ]


def _in_parallel(table: TableConfig, arguments: argparse.Namespace) -> TableConfig:
    """Return the table with the option ``--parallel``."""
    if arguments.parallel is None:
        return table
    return table.model_copy(update={"load": table.load.model_copy(update={"parallel": arguments.parallel})})


def _scan_table(
    table: TableConfig, places: Places, arguments: argparse.Namespace, progress: RunProgress, show: Show
) -> None:
    from aurora_sync.engine.sync import run

    receipt = run(
        table,
        places,
        full=arguments.full,
        reconcile=arguments.reconcile,
        allow_deletes=arguments.allow_deletes,
        on_progress=progress,
    )
    show(receipt)


def _verify_table(
    table: TableConfig, places: Places, arguments: argparse.Namespace, progress: RunProgress, show: Show
) -> None:
    from aurora_sync.engine import batch

    found = None
    try:
        receipt = batch.verify(table, places, on_progress=progress)
    except NotComparedError as error:
        if not arguments.repair:
            raise
        print_note(f"{error.where}: {error.what}")
    else:
        show(receipt)
        found = receipt.verification
        assert found
        if found.equal or not arguments.repair:
            return
    repaired = batch.repair(table, places, found, allow_deletes=arguments.allow_deletes, on_progress=progress)
    show(repaired, "repair")
    again = batch.verify(table, places, on_progress=progress)
    show(again, "verified again")


def _run_batch(each: Batch, places: Places, arguments: argparse.Namespace, progress: RunProgress, show: Show) -> None:
    from aurora_sync.engine import batch

    batch.run(each, places, show, allow_deletes=arguments.allow_deletes, on_progress=progress)
