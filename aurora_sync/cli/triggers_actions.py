"""Actions of ``aurora-sync triggers``: show, install, test and remove triggers of tables."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from aurora_sync.cli.printing import print_error_text, print_json, print_lines, print_note
from aurora_sync.cli.triggers_text import document, text_lines, trial_text
from aurora_sync.config.loader import expand, load
from aurora_sync.config.settings import owner_of, source_of
from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import AuroraSyncError, ConfigError
from aurora_sync.model.relation import SourceTable
from aurora_sync.provisioning.triggers.audit_columns import UPDATED
from aurora_sync.provisioning.triggers.backfill import backfill, done_step, rows_to_backfill
from aurora_sync.provisioning.triggers.fired import Trial, trials
from aurora_sync.provisioning.triggers.installed import TriggerKind, find_installed
from aurora_sync.provisioning.triggers.plan import missing_steps, removal_steps, warnings
from aurora_sync.provisioning.triggers.steps import TriggerStep, lock_holders, run_steps
from aurora_sync.source import catalogue, table_names
from aurora_sync.source.connection import connect
from aurora_sync.source.server_errors import translate
from aurora_sync.strategies import strategy_of

# Work for one table: connection, role that reads, table, and its entry in tables.yaml.
Work = Callable[[Connection, str, SourceTable, TableConfig | None], None]

_SAY_EVERY = 2.0  # seconds between lines of progress
_THEN = {
    TriggerKind.outbox: "watermark_type: outbox",
    TriggerKind.audit_columns: f"watermark_type: timestamp, watermark_col: {UPDATED}",
}


def plan(arguments: argparse.Namespace) -> int:
    kind = TriggerKind(arguments.kind)
    found: dict[str, Any] = {}

    def look(connection: Connection, reader: str, table: SourceTable, config: TableConfig | None) -> None:
        steps = _steps(connection, reader, table, config, kind)
        held = list(lock_holders(connection, table)) if steps else []
        unfilled = rows_to_backfill(connection, table, kind)
        found[table.qualified_name] = document(connection, kind, steps) | {
            "backfill_rows": unfilled,
            "warnings": warnings(connection, table, kind) if steps or unfilled else [],
            "in_use": held,
        }

    failed = _each(arguments, look)
    if arguments.json:
        print_json(found | failed)
    elif found:
        for number, (name, each) in enumerate(found.items()):
            print_lines(*([""] if number else []), *text_lines(name, each))
    missing = any(each["steps"] or each["backfill_rows"] for each in found.values())
    if missing and not arguments.json:
        print_lines("", "Nothing was changed; `aurora-sync triggers apply` runs these statements.")
    return 1 if missing or failed else 0


def apply(arguments: argparse.Namespace) -> int:
    kind = TriggerKind(arguments.kind)
    found: dict[str, Any] = {}

    def make(connection: Connection, reader: str, table: SourceTable, config: TableConfig | None) -> None:
        name = table.qualified_name
        steps = _steps(connection, reader, table, config, kind)
        _say(arguments, name if steps else f"{name}: nothing is missing")
        found[name] = {"kind": kind, "steps": _run(arguments, connection, name, steps), "backfilled": 0}
        if rows_to_backfill(connection, table, kind):
            found[name]["backfilled"] = _backfill(arguments, connection, table)
            found[name]["steps"] += _run(arguments, connection, name, [done_step(table)])
        _say(arguments, f"  next: `aurora-sync triggers verify {name}`; in tables.yaml {_THEN[kind]}")

    failed = _each(arguments, make)
    if arguments.json:
        print_json(found | failed)
    return 1 if failed else 0


def verify(arguments: argparse.Namespace) -> int:
    found: dict[str, dict[TriggerKind, list[Trial]]] = {}

    def attempt(connection: Connection, _reader: str, table: SourceTable, _config: TableConfig | None) -> None:
        name, kinds = table.qualified_name, find_installed(connection, table).kinds
        if not kinds:
            raise ConfigError(
                "it has no triggers of aurora_sync",
                where=name,
                hint="`aurora-sync triggers plan` shows what is missing",
            )
        found[name] = {kind: list(trials(connection, table, kind)) for kind in kinds}
        for kind, each in found[name].items():
            _say(arguments, f"{name}: {kind}", *map(trial_text, each))

    failed = _each(arguments, attempt)
    _say(arguments, "", "All these writes were rolled back.")
    if arguments.json:
        tried = {n: {kind: list(map(vars, each)) for kind, each in kinds.items()} for n, kinds in found.items()}
        print_json(tried | failed)
    silent = any(t.fired is False for kinds in found.values() for each in kinds.values() for t in each)
    return 1 if silent or failed else 0


def remove(arguments: argparse.Namespace) -> int:
    found: dict[str, Any] = {}

    def remove(connection: Connection, _reader: str, table: SourceTable, _config: TableConfig | None) -> None:
        name, steps = table.qualified_name, removal_steps(connection, table)
        if not arguments.dry_run:
            _say(arguments, name if steps else f"{name}: it has no triggers of aurora_sync")
            found[name] = {"steps": _run(arguments, connection, name, steps)}
            return
        found[name] = document(connection, None, steps)
        if not arguments.json:
            print_lines(*text_lines(name, found[name]))

    failed = _each(arguments, remove)
    if arguments.dry_run:
        _say(arguments, "", "Nothing was changed.")
    if arguments.json:
        print_json(found | failed)
    return 1 if failed else 0


def _each(arguments: argparse.Namespace, work: Work) -> dict[str, dict[str, str]]:
    """Do the work for each chosen table in turn. Print and return the errors by table.

    An error does not stop the work for the other tables. Raises what psycopg2 raises if the connection is lost.
    """
    failed: dict[str, dict[str, str]] = {}
    with _connected() as (connection, reader):
        for name, table, config in _chosen(arguments, connection):
            try:
                if table is None:
                    raise ConfigError(f"the database has no table {name}")
                work(connection, reader, table, config)
            except (AuroraSyncError, psycopg2.Error) as error:
                if connection.closed:
                    raise
                said = error if isinstance(error, AuroraSyncError) else translate(error, where=name)
                print_error_text(str(said))
                failed[name] = {"error": str(said), "error_kind": said.kind.value}
                with connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
    return failed


def _steps(
    connection: Connection, reader: str, table: SourceTable, config: TableConfig | None, kind: TriggerKind
) -> list[TriggerStep]:
    key = config.primary_key if config else None
    return missing_steps(connection, table, kind, reader=reader, key=key)


@contextmanager
def _connected() -> Iterator[tuple[Connection, str]]:
    """Connect as the owner of the tables. Yield the connection and the role that reads; empty if that is the owner."""
    dsn, owner = source_of(os.environ), owner_of(os.environ)
    reader = ""
    if owner != dsn:
        with connect(dsn) as reading, reading.cursor() as cursor:
            cursor.execute("SELECT current_user")
            ((reader,),) = cursor.fetchall()
    with connect(owner, variable="AURORA_DSN" if owner == dsn else "AURORA_OWNER_DSN") as connection:
        yield connection, reader


def _chosen(
    arguments: argparse.Namespace, connection: Connection
) -> list[tuple[str, SourceTable | None, TableConfig | None]]:
    """Return the chosen tables: name, table (None if it does not exist), and entry in tables.yaml if there is one.

    Raises ConfigError.
    """
    path = Path(os.environ.get("AURORA_SYNC_TABLES") or "tables.yaml")
    existing = table_names.existing(connection)
    configured = {}
    if path.exists():
        configured = {(t.schema_, t.table_name): t for t in expand(load(path), existing)}
    if not arguments.tables and arguments.kind == TriggerKind.audit_columns:
        raise ConfigError("--kind audit_columns needs the names of tables, or a glob such as 'legacy.*'")
    if arguments.tables:
        names = table_names.matching(existing, arguments.tables)
    else:
        names = [name for name, t in configured.items() if strategy_of(t).needs_triggers]
        if not names:
            raise ConfigError(
                "no table has watermark_type: outbox", where=str(path), hint="name the tables that get an outbox"
            )
    described = catalogue.load(connection, names)
    return [(name, described.get(name), configured.get(pair)) for pair in names for name in [".".join(pair)]]


def _run(
    arguments: argparse.Namespace, connection: Connection, name: str, steps: Sequence[TriggerStep]
) -> list[dict[str, Any]]:
    def wait(step: TriggerStep, attempt: int) -> None:
        tried = f"attempt {attempt} of {arguments.attempts}"
        text = f"{name}: {step.what}: no lock within {arguments.lock_timeout}, {tried}"
        print_note(text)

    done: list[dict[str, Any]] = []
    for each in run_steps(
        connection, steps, lock_timeout=arguments.lock_timeout, attempts=arguments.attempts, on_wait=wait
    ):
        done.append({"what": each.step.what, "attempts": each.attempts, "seconds": round(each.seconds, 6)})
        _say(arguments, f"  {each.step.what}: {each.seconds * 1000:,.0f} ms")
    if done:
        _say(arguments, f"  no other session waited longer than {max(s['seconds'] for s in done) * 1000:,.0f} ms")
    return done


def _backfill(arguments: argparse.Namespace, connection: Connection, table: SourceTable) -> int:
    rows, said = 0, 0.0
    for progress in backfill(connection, table, batch_rows=arguments.batch, busy=arguments.busy):
        rows = progress.rows
        done = progress.pages == progress.of
        if not arguments.json and (done or time.monotonic() - said > _SAY_EVERY):
            said, share = time.monotonic(), progress.pages / max(progress.of, 1)
            text = f"  backfill {progress.leaf}: {share:4.0%}, {rows:,} rows"
            print_note(text)
    return rows


def _say(arguments: argparse.Namespace, *lines: str) -> None:
    if not arguments.json:
        print_lines(*lines, flush=True)
