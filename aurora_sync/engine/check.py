"""Check that everything can be reached and that every table can be synced. Reports all problems at once.

Changes nothing at the source. In a warehouse, what a run needs is tried: schemas that are missing are created, and
tables and objects of the trial are removed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners import RUNNERS, runner_of
from aurora_sync.engine.runners.base import problems_of
from aurora_sync.errors import AuroraSyncError, Kind, SourceError
from aurora_sync.source import tls
from aurora_sync.source.aurora_export import TRIAL_CSV, AuroraExport
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.stage.layout import new_load_id
from aurora_sync.strategies import strategy_of
from aurora_sync.warehouse import existing, policies
from aurora_sync.warehouse.base import Trial
from aurora_sync.warehouse.dialect import Dialect
from aurora_sync.warehouse.query_tag import QueryTag

# The number of tables named for one problem.
_NAMED = 5


def problems(tables: Callable[[], list[TableConfig]], places: Places) -> list[str]:
    """Return every problem of configuration, source, bucket and warehouse, one sentence each; empty when there is none.

    ``tables`` reads the configuration. When that fails, the connections are still checked.
    """
    store = places.stage.store
    return [
        *_tables(tables, places.source, places.warehouse.dialect),
        *problems_of(lambda: store.list(store.prefix, limit=1)),
        *problems_of(lambda: _try_aurora_export(tables, places)),
        *_warehouse(tables, places),
    ]


def look_at_targets(tables: Callable[[], list[TableConfig]], places: Places) -> tuple[list[str], list[str]]:
    """Return what runs would refuse about existing targets and their policies, and notes about what else is attached to
    targets. Call it when :func:`problems` found none."""
    found: list[str] = []
    notes: list[str] = []
    configured = tables()
    described = places.source.catalogue((table.schema_, table.table_name) for table in configured)
    with places.warehouse.session(query_tag=QueryTag("check")) as session:
        for config in configured:
            if table := described.get(config.qualified_name):
                synced = [column.name for column in preflight.selected_columns(config, table)]
                found += existing.problems(session, config, synced, places.log_schema)
            try:
                notes += [finding.text for finding in policies.look(session, config)]
            except AuroraSyncError as error:
                found.append(str(error))
    return found, notes


def _warehouse(tables: Callable[[], list[TableConfig]], places: Places) -> list[str]:
    try:
        targets = sorted(target for table in tables() for target in table.written_targets)
    except AuroraSyncError:  # reported by _tables
        targets = []
    schemas = dict.fromkeys(schema for schema, _ in targets)
    trial = Trial(places.stage.store, places.log_schema, tuple(schemas), tuple(targets))
    try:
        return places.warehouse.problems(trial)
    except AuroraSyncError as error:
        return str(error).split("\n")


def _tables(tables: Callable[[], list[TableConfig]], source: Source, dialect: Dialect) -> Iterator[str]:
    try:
        configured = tables()
        relations = source.existing()
        described = source.catalogue((table.schema_, table.table_name) for table in configured)
    except AuroraSyncError as error:
        yield from str(error).split("\n")
        return
    names = [f"{schema}.{name}" for schema, name in relations]
    fitting = []
    affected: dict[str, list[str]] = {}  # tables by problem; a wrong default gives many tables the same one
    for config in configured:
        table = described.get(config.qualified_name)
        found = preflight.problems(config, table, strategy_of(config))
        if table and not found:
            found = preflight.problems_of_case(preflight.selected_columns(config, table), dialect)
        fitting += [] if found else [config]
        for problem in found:
            near = difflib.get_close_matches(config.qualified_name, names, n=1) if table is None else []
            affected.setdefault(problem + (f"; did you mean {near[0]}?" if near else ""), []).append(
                config.qualified_name
            )
    for problem, tables_of_it in affected.items():
        more = f" and {len(tables_of_it) - _NAMED:,} more" if len(tables_of_it) > _NAMED else ""
        yield f"{', '.join(tables_of_it[:_NAMED])}{more}: {problem}"
    yield from problems_of(lambda: _assert_verified(source))
    for runner in RUNNERS:
        if own := [config for config in fitting if runner_of(config) is runner]:
            yield from runner.problems(own, source)


def _try_aurora_export(tables: Callable[[], list[TableConfig]], places: Places) -> None:
    """Let the server write one row to the stage, if a table has export: aurora, and read the row back."""
    try:
        wanted = any(table.export == "aurora" for table in tables())
    except AuroraSyncError:  # reported by _tables
        return
    if not wanted:
        return
    exporter, stage = places.source.exporters["aurora"], places.stage
    assert isinstance(exporter, AuroraExport)
    with connect(places.source.dsn) as connection, stage.attempt("aurora_sync.check", new_load_id()) as attempt:
        name = exporter.try_out(connection, attempt)
        found = stage.store.get(attempt.prefix + name)
        attempt.remove([name])
    if found != TRIAL_CSV:
        raise SourceError(
            f"aws_s3.query_export_to_s3 wrote {found!r}, expected {TRIAL_CSV!r}", where=attempt.uri + name
        )


def _assert_verified(source: Source) -> None:
    with connect(source.dsn) as connection:
        if problem := tls.problem(connection):
            raise SourceError(problem, where=source.describe(), kind=Kind.USER)
