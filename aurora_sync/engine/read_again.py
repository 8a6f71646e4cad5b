"""Widen an increment by rows that a person asks to read again (decision 23).

The run stays an increment: the rows are read in its snapshot, merged in its transaction, and the watermark and the
certificate are those of the increment. What the strategy cannot combine with an increment is refused, with the command
that does it.
"""

from __future__ import annotations

import dataclasses
import difflib
import shlex

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, GuardError
from aurora_sync.model.certificate import Action
from aurora_sync.model.column import Column
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.reload import Reload, RowRange, between, since
from aurora_sync.model.state import State
from aurora_sync.source.reading import Reading
from aurora_sync.source.row_range import predicate
from aurora_sync.strategies import strategy_of
from aurora_sync.strategies.base import ReadPlan
from aurora_sync.strategies.identity import Verdict
from aurora_sync.warehouse.types import type_rule


def resolved(
    request: Reload,
    config: TableConfig,
    table: SourceTable,
    columns: tuple[Column, ...],
    key: tuple[str, ...],
    state: State,
) -> RowRange:
    """Return the range that is requested. Raises ConfigError when it does not fit the table, or when the table cannot
    be read in part now."""
    name = config.qualified_name
    if found := problem(config, key) or _state_problem(state):
        what, command = found
        raise ConfigError(what, where=name, hint=f"run `aurora-sync {command} {shlex.quote(name)}`")
    try:
        if request.since:
            return since(request.since, _time_column(request, config, table), request.names)
        column = next(column for column in columns if column.name == key[0])
        asked = between(request.lower, request.upper, column, request.names)
    except ConfigError as error:
        raise ConfigError(error.problems, where=name, hint=error.hint) from None
    if column.base_type != "uuid" and type_rule(column).is_text:
        raise ConfigError(
            f"{request.names.lower}, {request.names.upper}: the first key column {column.name} ({column.type_name}) is"
            " a text in the warehouse, which orders it in another way; give a time with"
            f" {request.names.since}, or run a reconcile",
            where=name,
        )
    return asked


def widened(
    read: ReadPlan, again: RowRange, request: Reload, config: TableConfig, reading: Reading, verdict: Verdict
) -> ReadPlan:
    """Return the plan of the increment, which also reads the range. Counts its rows in the snapshot, and raises
    GuardError if they are more than the request allows."""
    name = config.qualified_name
    if read.where is None:
        reasons = [found.text for found in verdict.findings if found.action is Action.RESEED] + list(read.reasons)
        raise ConfigError(
            f"a part cannot be read again now: {'; '.join(reasons)}",
            where=name,
            hint=f"run `aurora-sync sync {shlex.quote(name)}`",
        )
    where = predicate(again)
    again = dataclasses.replace(again, rows=reading.count(where))
    if again.rows > request.max_rows:
        limit = request.names.max_rows
        raise GuardError(
            f"found {again.rows:,} rows with {again}; expected at most {request.max_rows:,} ({limit})",
            where=name,
            hint=f"nothing was read; raise {limit}, or read a smaller range",
        )
    warnings = () if again.is_key else (f"rows that were deleted at the source are not found by {again.column}",)
    return dataclasses.replace(
        read,
        where=sql.SQL("(({}) OR {})").format(read.where, where),
        warnings=(*read.warnings, *warnings),
        again=again,
    )


def problem(config: TableConfig, key: tuple[str, ...]) -> tuple[str, str] | None:
    """Return why no part of the table can be read again, and the command to run instead."""
    strategy = strategy_of(config)
    if strategy.reads_whole:
        return "each sync reads the whole table, so there is no part to read again", "sync"
    if not strategy.keeps_xmin:
        return (
            f"rows that are read again would be newer than the position of the stream ({strategy.name}), and older"
            " changes in it would overwrite them; a reconcile reads again what differs, and keeps the position",
            "reconcile",
        )
    if not key:
        return "the table has no merge key, so rows that are read again would be added a second time", "sync --full"
    return None


def _state_problem(state: State) -> tuple[str, str] | None:
    """Return why no part of the target can be replaced, and the command to run first."""
    if not state.run_sequence:
        return "the table was never synced, so there is no part to read again", "sync"
    if state.load:
        return "a load in chunks is not finished", "sync"
    if state.watermark is None:
        what = f"the target was modified outside of aurora_sync, so the whole table must be read: {state.edited}"
        return what, "sync --full"
    return None


def _time_column(request: Reload, config: TableConfig, table: SourceTable) -> Column:
    """Return the column of ``since``: the requested one, or that of the strategy."""
    name = request.column or strategy_of(config).clock_column(config)
    if not name:
        raise ConfigError(
            f"{request.names.since}: found no column; watermark_type {config.watermark_type.value} has none of its own;"
            f" set {request.names.column} to the name of a column"
        )
    if (column := table.column(name)) is None:
        names = [column.name for column in table.columns]
        near = difflib.get_close_matches(name, names, n=1)
        found = f"did you mean {near[0]}?" if near else f"it has {', '.join(names)}"
        raise ConfigError(f"{request.names.column}: the table has no column {name}; {found}")
    return column
