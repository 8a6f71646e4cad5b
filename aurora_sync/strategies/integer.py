"""``watermark_type: integer``: new rows by a growing number, for tables that only get inserts.

There are three methods. A run uses the first one whose preconditions are met:

lock fence
    Reads by an index on the column. The database must generate the numbers one at a time (GENERATED ALWAYS AS IDENTITY,
    or declared so, with CACHE 1). Take M = max(column) first, and then the set H of transactions that hold a write lock
    on the table: every number <= M was assigned to a member of H or to a transaction that has ended. When all of H have
    ended, all numbers <= M are decided, and the next read may start above M. GENERATED ALWAYS applies to INSERT only:
    COPY, which every data-only restore uses, and OVERRIDING SYSTEM VALUE set numbers that the sequence did not assign,
    and the catalogue has no trace of that. So a run by this fence alone is not certified; with a reconcile it is
    bounded by the time since the last one.
lookback
    Reads ``column > W - lookback``, filtered by the horizon. It is for numbers that an application generates, when the
    user states how far out of order they can be. Numbers further back are not found.
horizon scan
    Assumes nothing about the numbers, but needs a sequential scan.

Updates and deletes are not found. Every watermark also has the horizon, so a run that cannot use the fence falls back
to it without a gap.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.fences import LockFence, LockRequest
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import ColumnSequence, SourceTable
from aurora_sync.strategies import horizon
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap, or_null, scanning

_TYPES = ("int2", "int4", "int8")

# The limit is safe: dropping an undecided fence only delays the watermark. On a busy table one of the fences is decided
# within a few runs.
_MOST_PENDING = 50
_UNDECIDED = "transactions that wrote to the table during the last runs may have ended after the reads"


class Integer(Strategy):
    name = "integer"
    sees_updates = False
    sees_deletes = False

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        column = table.column(config.watermark_col or "")
        if column is not None and column.base_type not in _TYPES:
            return [
                f"watermark_col {column.name} is {column.type_name}; watermark_type integer needs smallint,"
                " integer or bigint"
            ]
        return not_a_heap(table, "locks do not show which transactions still write to it")

    def fence(self, config: TableConfig) -> LockRequest:
        return LockRequest(str(config.watermark_col))

    def doubts(self, config: TableConfig, table: SourceTable) -> tuple[str, ...]:
        """Return the assumption of the lock fence that nothing proves."""
        if config.watermark_set_by != "database":
            return (
                f"rows whose {config.watermark_col} was set by COPY or OVERRIDING SYSTEM VALUE, below the numbers that"
                " were read, are not found; to certify it, run a reconcile or use watermark_type: xmin",
            )
        return (
            f"{config.watermark_col} is declared as made by the database, one at a time, but this is not checked; to"
            " certify it, use GENERATED ALWAYS AS IDENTITY and remove watermark_set_by, or run a reconcile",
        )

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        objections = _objections(config, table, at)
        remarks = _remarks(config)
        if since is None:
            return ReadPlan(None, Disposition.REPLACE, "whole table", (*objections, *remarks))
        passed, _ = _stored_fences(config, table, since, at)
        if not objections and passed is not None:
            return ReadPlan(
                since.with_new_members(_above(config, table, passed), at),
                Disposition.UPSERT,
                "lock fence",
                remarks,
                doubts=self.doubts(config, table),
            )
        reached = since.watermark.value.get("reached")
        bounded = not since.restarted and _same_numbers(config, table, since) and since.same_files(at)
        if objections and config.lookback and bounded and isinstance(reached, int):
            window = sql.SQL("{} AND ({} OR {})").format(
                _above(config, table, reached - config.lookback),
                _above(config, table, reached),
                horizon.written_since(since.watermark.snapshot.xmin, at.snapshot),
            )
            where = since.with_new_members(window, at)
            doubt = (
                f"numbers more than lookback = {config.lookback} below {reached} are not read; to certify it,"
                " remove lookback (the table is then scanned), or run a reconcile"
            )
            return ReadPlan(where, Disposition.UPSERT, "lookback", objections, doubts=(doubt,))
        return ReadPlan(
            since.horizon_scan(at),
            Disposition.UPSERT,
            "horizon scan",
            remarks,
            reasons=scanning(objections or (_unusable(config, table, since, at) or _UNDECIDED,)),
        )

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        seen = at.seen(LockFence)
        value: dict[str, object] = {
            "column": config.watermark_col,
            "fence": None,
            "pending": [],
            "reached": seen.high_water,
            "sequence": _version(config, table),
        }
        if _objections(config, table, at) or seen.high_water is None:
            return value
        passed, pending = _stored_fences(config, table, since, at)
        waiting = [*pending, [seen.high_water, list(seen.holders)]]
        decided = [high for high, holders in waiting if _gone(holders, seen)]
        undecided = [entry for entry in waiting if not _gone(entry[1], seen)]
        return {
            **value,
            "fence": max([*decided, *([passed] if passed is not None else [])], default=None),
            "pending": undecided[-_MOST_PENDING:],
        }

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        return {"fence": str(value["fence"])} if value.get("fence") else {}

    def shown(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {"fence": value["fence"]} if value.get("fence") else {}


def _above(config: TableConfig, table: SourceTable, low: int) -> sql.Composable:
    name = str(config.watermark_col)
    return or_null(sql.SQL("{} > {}").format(sql.Identifier(name), sql.Literal(low)), name, table)


def _version(config: TableConfig, table: SourceTable) -> str:
    sequence = table.sequences.get(str(config.watermark_col))
    return sequence.version if sequence else ""


def _stored_fences(
    config: TableConfig, table: SourceTable, since: Since | None, at: Observation
) -> tuple[int | None, list[Any]]:
    """Return the stored fence and the pending fences. The fence is None when none is decided yet or it may not be
    used."""
    if since is None or _unusable(config, table, since, at):
        return None, []
    return since.watermark.value["fence"], since.watermark.value["pending"]


def _unusable(config: TableConfig, table: SourceTable, since: Since, at: Observation) -> str:
    """Return in words why the stored fence may not be used; empty when it may, or when none is decided yet."""
    other = since.watermark.strategy
    if why := since.unusable(
        at,
        missing="" if other == Integer.name else f"the last run used the strategy {other}",
        same=_same_numbers(config, table, since),
        witnesses="column, sequence",
    ):
        return why
    fence, pending = since.watermark.value["fence"], since.watermark.value["pending"]
    reached = max([high for high, _ in pending], default=fence)
    seen = at.seen(LockFence)
    newest = seen.last_value if seen.last_value is not None else seen.high_water
    if newest is None:
        return "the table is empty"
    if reached is not None and newest < reached:
        return "the numbers were set back since the last run, and are assigned again"
    return ""


def _same_numbers(config: TableConfig, table: SourceTable, since: Since) -> bool:
    """Return whether the column and its sequence are the same as in the watermark.

    The fence needs the same files and partitions as well: ALTER SEQUENCE RESTART and TRUNCATE RESTART IDENTITY assign
    numbers a second time, and a detached partition may have got any number. setval() leaves no trace in the catalogue:
    :func:`_unusable` notices it only until the sequence has passed the old numbers again.
    """
    value: dict[str, Any] = since.watermark.value
    return (value.get("column"), value.get("sequence")) == (config.watermark_col, _version(config, table))


def _gone(holders: list[str], now: LockFence) -> bool:
    """Return whether every transaction of a fence has ended. PREPARE TRANSACTION changes its virtual id from 3/45 to
    -1/xid, so no fence is decided while a prepared transaction holds a lock on the table."""
    prepared = any(holder.startswith("-1/") for holder in now.holders)
    return not prepared and not set(holders) & set(now.holders)


def _objections(config: TableConfig, table: SourceTable, at: Observation) -> tuple[str, ...]:
    """Return in words the preconditions of the lock fence that are not met."""
    name = str(config.watermark_col)
    found = []
    if at.token.in_recovery:
        found.append("the source is a reader, which does not show the writer's locks")
    if config.watermark_set_by == "application":
        found.append(f"{name} is made by the application")
    if config.watermark_set_by is None:
        found += unproven(name, table)
    sequence = table.sequences.get(name)
    if sequence is not None:
        if at.seen(LockFence).last_value is None:
            found.append(
                f"whether sequence {sequence.name} was set back cannot be seen"
                f" (GRANT SELECT ON SEQUENCE {sequence.name} to this role)"
            )
        found += out_of_order(sequence)
    return tuple(found)


def out_of_order(sequence: ColumnSequence) -> list[str]:
    """Return why a sequence may assign numbers out of order; empty when it does not."""
    found = []
    if sequence.cache > 1:
        found.append(
            f"sequence {sequence.name} has CACHE {sequence.cache}: sessions hold numbers back"
            f" (ALTER SEQUENCE {sequence.name} CACHE 1 avoids this)"
        )
    if sequence.cycle or sequence.increment < 0:
        found.append(f"sequence {sequence.name} cycles or has a negative increment")
    return found


def unproven(name: str, table: SourceTable) -> list[str]:
    """Return why the catalogue does not prove that the database alone generates the numbers of a column; empty when it
    does."""
    sequence = table.sequences.get(name)
    if sequence is None:
        return [f"{name} has no identity and no nextval default: its numbers are made by the application"]
    found = []
    column = table.column(name)
    if column is not None and column.identity != "a":
        found.append(
            f"{name} is not GENERATED ALWAYS AS IDENTITY: an application may call nextval() itself long before it"
            " inserts, or use numbers of its own; if no application does this, declare watermark_set_by: database"
        )
    # A trigger with a WHEN clause has on_insert and on_update False, and may still fire on an insert.
    if any((t.on_insert or not t.on_update) and t.may_write(name) for t in table.triggers):
        found.append(f"a trigger of the table may set {name}")
    if sequence.increment > 1:
        found.append(
            f"sequence {sequence.name} grows by {sequence.increment}, as if applications allocate blocks of numbers"
        )
    if table.subscribed:
        found.append("a subscription writes the table, and its numbers are assigned at the publisher")
    if table.kind == "p" or table.inherits:
        found.append(f"a direct insert into a partition may not use the default of {name}")
    return found


def _remarks(config: TableConfig) -> tuple[str, ...]:
    if config.watermark_set_by == "database":
        return (f"{config.watermark_col} is declared as set by the database: this is not checked",)
    return ()
