"""Actions of ``aurora-sync cdc``: show, create and remove the slots, publications and settings of change streams."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

from psycopg2.extensions import connection as Connection
from psycopg2.extensions import parse_dsn

from aurora_sync.cli.printing import Alert, Verbatim, print_error_text, print_json, print_lines
from aurora_sync.config.settings import Settings
from aurora_sync.engine.batch import Batch
from aurora_sync.engine.places import Places
from aurora_sync.engine.selection import all_tables
from aurora_sync.engine.survey import SetupStep, Survey, survey
from aurora_sync.errors import AuroraSyncError, ConfigError
from aurora_sync.model.receipt import Slot
from aurora_sync.provisioning import replication
from aurora_sync.provisioning.connector import ConnectorSource, connector_config
from aurora_sync.provisioning.dms_task import task_settings
from aurora_sync.source.connection import connect, write
from aurora_sync.source.logical import publication, slot
from aurora_sync.strategies import strategy_of, tables_of
from aurora_sync.strategies.debezium import Debezium, topic
from aurora_sync.strategies.dms import Dms


def setup(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    found: dict[str, Any] = {}

    def make(name: str, tables: Batch) -> None:
        with connect(places.source.dsn) as connection:
            needed = survey(connection, tables, stream_from=places.source.dsn)
            _show(arguments, connection, name, needed, "OK: nothing is missing")
            shown = [_document(step, connection) for step in needed.steps]
        found[name] = {"steps": shown, "notes": list(needed.notes), "applied": False}
        if arguments.apply and shown:
            done = replication.set_up(places.source.dsn, tables, timeout=arguments.timeout)
            if not arguments.json:
                print(f"  done: {len(done)} statements")
        found[name]["applied"] = bool(arguments.apply)

    failed = _each(_slots(arguments, settings, places), make)
    if arguments.json:
        print_json(_with_errors(found, failed))
    missing = any(slot_found["steps"] and not slot_found["applied"] for slot_found in found.values())
    if missing and not arguments.json and not arguments.apply:
        print_lines("", "Nothing was changed; --apply runs these statements.")
    return 1 if missing or failed else 0


def status(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    found: dict[str, Any] = {}

    def look(name: str, tables: Batch) -> None:
        with connect(places.source.dsn) as connection:
            needed = survey(connection, tables, stream_from=places.source.dsn)
            needed = dataclasses.replace(needed, notes=needed.notes + _compacted(places, tables))
            found[name] = {
                "slot": needed.slot and vars(needed.slot),
                "tables": list(needed.tables),
                "missing": [step.what for step in needed.steps],
                "notes": list(needed.notes),
            }
            _show(arguments, connection, name, needed, _state(needed.slot))

    failed = _each(_slots(arguments, settings, places), look)
    if arguments.json:
        print_json(_with_errors(found, failed))
    return 1 if failed or any(each["missing"] for each in found.values()) else 0


def _each(slots: dict[str, Batch], work: Callable[[str, Batch], None]) -> dict[str, AuroraSyncError]:
    """Do the work for each slot. Print and return the errors by slot; an error does not stop the other slots."""
    failed: dict[str, AuroraSyncError] = {}
    for name, tables in slots.items():
        try:
            work(name, tables)
        except AuroraSyncError as error:
            print_error_text(str(error))
            failed[name] = error
    return failed


def _with_errors(found: dict[str, Any], failed: dict[str, AuroraSyncError]) -> dict[str, Any]:
    said = {name: {"error": str(error), "error_kind": error.kind.value} for name, error in failed.items()}
    return {name: found.get(name, {}) | said.get(name, {}) for name in {**found, **said}}


def _compacted(places: Places, tables: Batch) -> tuple[str, ...]:
    """Return notes on compacted topics; empty if no brokers are configured or none answers."""
    topics = [topic(table) for table in tables_of(Debezium, tables)]
    if not topics or not places.source.kafka.servers:
        return ()
    policies = places.source.kafka.cleanup_policies(topics)
    return tuple(
        f"topic {name} has cleanup.policy={policy}: changes are removed before they are read, and its table is scanned"
        " each time; set cleanup.policy=delete"
        for name, policy in policies.items()
        if "compact" in policy
    )


def teardown(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    found: dict[str, Any] = {}
    for name in _slots(arguments, settings, places):
        with connect(places.source.dsn) as connection, connection.cursor() as cursor:
            steps = replication.teardown(name, slot.look(connection, name), publication.publication(connection, name))
            found[name] = {"steps": [_document(step, connection) for step in steps], "applied": bool(arguments.apply)}
            if not arguments.json:
                lines = (
                    [f"slot {name}", *_lines(steps, connection)]
                    if steps
                    else [f"slot {name}: there is nothing to drop"]
                )
                print_lines(*lines)
            if arguments.apply:
                for statement in [step.statement for step in steps if step.statement]:
                    write(cursor, statement)
    if arguments.json:
        print_json(found)
    if not arguments.json and not arguments.apply:
        print_lines("", "Nothing was changed; --apply runs these statements.")
    return 0


def connector(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    """Print one JSON document for each connector; with ``--json``, one document for all connectors."""
    parts = parse_dsn(settings.dsn)
    source = ConnectorSource(parts.get("host", "localhost"), places.source.database, int(parts.get("port", 5432)))
    found = {}
    for name, tables in _slots(arguments, settings, places).items():
        if tables_of(Debezium, tables[:1]):
            found[name] = connector_config(tables, source)
    if not found:
        raise ConfigError("no table has watermark_type: debezium", where=str(settings.tables))
    for document in [found] if arguments.json else found.values():
        print(json.dumps(document, indent=2))
    return 0


def dms_settings(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    """Print the settings of the DMS tasks as one JSON document: folder -> settings."""
    folders: dict[str, Batch] = {}
    for table in tables_of(Dms, all_tables(settings, places.source)):
        if table.files:
            folders[table.files] = (*folders.get(table.files, ()), table)
    if not folders:
        raise ConfigError("no table has watermark_type: dms", where=str(settings.tables))
    print(json.dumps({folder: task_settings(tables) for folder, tables in folders.items()}, indent=2))
    return 0


def _slots(arguments: argparse.Namespace, settings: Settings, places: Places) -> dict[str, Batch]:
    """Return slot name -> tables, for the slots that the command chose. Raises ConfigError if there are none."""
    found: dict[str, Batch] = {}
    for table in all_tables(settings, places.source):
        name = table.slot_name
        if strategy_of(table).uses_slot and arguments.slot in (None, name):
            found[name] = (*found.get(name, ()), table)
    if not found:
        what = f"slot {arguments.slot}" if arguments.slot else "watermark_type: logical or debezium"
        raise ConfigError(f"no table has {what}", where=str(settings.tables))
    return found


def _show(arguments: argparse.Namespace, connection: Connection, name: str, survey: Survey, well: str) -> None:
    if arguments.json:
        return
    lines = [f"slot {name}: {', '.join(survey.tables)}"]
    lines += _lines(survey.steps, connection) if survey.steps else [f"  {well}"]
    lines += [f"  note: {note}" for note in survey.notes]
    print_lines(*lines)


def _lines(steps: Iterable[SetupStep], connection: Connection) -> list[str]:
    lines: list[str] = []
    for number, step in enumerate(steps, 1):
        lines += [Alert(f"  {number}. {step.what}"), f"     {step.because}"]
        if step.statement:
            lines.append(Verbatim(f"     {step.statement.as_string(connection)};"))
        else:
            lines.append("     --apply does not do this; do it yourself")
    return lines


def _document(step: SetupStep, connection: Connection) -> dict[str, str | None]:
    statement = step.statement.as_string(connection) if step.statement else None
    return {"what": step.what, "because": step.because, "statement": statement}


def _state(found: Slot | None) -> str:
    if found is None:
        return "the slot does not exist"
    parts = [
        f"{found.wal_status}",
        f"{found.retained_bytes / 1e6:,.1f} MB of WAL are retained for it",
        f"{found.lag_bytes / 1e6:,.1f} MB are not confirmed",
    ]
    if found.safe_bytes is not None:
        parts.append(f"{found.safe_bytes / 1e6:,.1f} MB of WAL can still be written before the slot may be lost")
    if found.active_pid is not None:
        parts.append(f"read by process {found.active_pid}")
    return "; ".join(parts)
