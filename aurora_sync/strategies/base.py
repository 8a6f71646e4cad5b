"""The interface of a strategy: eligibility, what to read, what to remember. Pure functions of values.

A strategy owns no connection, file, warehouse SQL, retry or log. What it needs to know of the source at
the moment of the read is in :class:`~aurora_sync.model.observation.Observation`, which the source fills in a fixed
order: the fence first, then the snapshot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.fences import FenceRequest
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.model.watermark import Token, Watermark
from aurora_sync.strategies import horizon

# Why a table is scanned whose changes come from elsewhere, when the versions of its columns are others.
ALTERED = "a column, or the type of one, was altered since the last run"
ROLES = (
    "a column has names of roles (regrole), which a stream brings as they were when the row was written; nothing that"
    " this role may read says whether a role was renamed and renamed back"
)
_REGROLE = "4096"  # the oid of the type, in every database


@dataclass(frozen=True)
class ReadPlan:
    """Which rows to read (``where`` None: all), what they mean, and how sure that is.

    ``method`` says in words how the rows are found; ``warnings`` what it cannot see, or rests on. ``reasons`` say why
    another method was taken than the strategy's own, a slower one: they are printed with each run. ``doubts`` say what
    the read rests on without proof, and what would prove it: with one, the increment is not certified. ``bound`` says
    up to what the rows are complete, where that is not the snapshot. ``renews``: the watermark is stored even if
    nothing changed, for the next run need not scan then.
    """

    where: sql.Composable | None
    disposition: Disposition
    method: str
    warnings: tuple[str, ...] = ()
    scope: sql.Composable | None = None  # which rows the target should hold afterwards; None: all
    doubts: tuple[str, ...] = ()
    bound: str = ""
    renews: bool = False
    outbox: Outbox | None = None  # whose keys are read, those of rows that are gone as well: disposition CHANGES
    reasons: tuple[str, ...] = ()
    log_position: int = 0  # LSN up to which the snapshot saw, where a stream goes on from there

    def because(self, reason: str) -> ReadPlan:
        return replace(self, reasons=(reason, *self.reasons))


@dataclass(frozen=True)
class Since:
    """Where to go on from: a watermark that identity.py found valid for today's source."""

    watermark: Watermark
    restarted: bool = False  # the server was restarted since: only the horizon, less a margin, is safe
    only_scan: str = ""  # why no list of changes is enough, whoever keeps it: what happened to the table since

    def horizon_scan(self, at: Observation) -> sql.Composable:
        """Every row that the watermark's snapshot had not seen decided: right for any strategy's watermark."""
        margin = horizon.RESTART_MARGIN if self.restarted else 0
        where = horizon.written_since(self.watermark.snapshot.xmin - margin, at.snapshot)
        return self.with_new_members(where, at)

    def with_new_members(self, where: sql.Composable, at: Observation) -> sql.Composable:
        """``where``, and every row of partitions that the watermark does not know."""
        return horizon.or_new_members(where, horizon.new_members(self.watermark.token.members, at))

    def same_files(self, at: Observation) -> bool:
        """Whether the table's files and partitions are those of the watermark."""
        then = self.watermark.token
        return not (then.rewritten(at.token) or then.reattached(at.token))

    def unusable(self, at: Observation, *, missing: str, same: bool, witnesses: str) -> str:
        """Why the fence that the watermark has may not be used, in words; empty where it may. ``missing`` says that it
        has none; ``same``: the ``witnesses`` of what sets the column are those of the watermark."""
        if self.restarted:
            return "the server was restarted since the last run"
        if missing:
            return missing
        if not (same and self.same_files(at)):
            return f"{witnesses}, files or partitions of the table are not those of the last run"
        return ""


def outdated(then: Token, now: Token) -> str:
    """Why the texts that others list may not be those which the columns print now; empty where they are."""
    if then.columns != now.columns:
        return ALTERED
    return ROLES if _REGROLE in (now.types or {}) else ""


class Strategy(ABC):
    """One way of finding changed rows. Stateless; every method is a pure function of its arguments."""

    name: str  # the watermark_type
    sees_updates: bool
    sees_deletes: bool
    keeps_xmin: bool = True  # each row of the target has the xmin of its source row
    reads_whole: bool = False  # its own increment is the whole table
    uses_slot: bool = False  # its changes leave the source through a replication slot
    needs_triggers: bool = False  # triggers of the outbox write its changes down
    version: int = 1  # raised when it reads a table differently than before: part of the asset's code version

    @abstractmethod
    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        """Why this strategy cannot run on this table: full sentences; empty when it can."""

    def fence(self, config: TableConfig) -> FenceRequest | None:
        """What must be looked at around the snapshot: :meth:`Observation.seen` has the answer."""
        return None

    def clock_column(self, config: TableConfig) -> str | None:
        """The column whose time says which rows are new; None where none does."""
        return None

    def doubts(self, config: TableConfig, table: SourceTable) -> tuple[str, ...]:
        """What the strategy's own way of reading rests on without proof (:class:`ReadPlan`), where it can be used."""
        return ()

    @abstractmethod
    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        """What to read. ``since`` None (first run or reseed) reads everything, disposition REPLACE."""

    @abstractmethod
    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """``Watermark.value`` once the rows of :meth:`plan` are in the target. Never ahead of the snapshot."""

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        """What the certificate names of a ``Watermark.value``: what the increment rests on, by its kind."""
        return {}

    def acknowledgement(self, value: Mapping[str, Any]) -> str:
        """What the source may forget once the target has this ``Watermark.value``: a snapshot as ``pg_snapshot`` prints
        it, whose rows are to be taken out of the table's outbox. Empty: nothing."""
        return ""

    def shown(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """The parts of a ``Watermark.value`` that a person wants to see. Empty: the horizon says it all."""
        return {}


def scan(since: Since | None, at: Observation) -> ReadPlan:
    """By the horizon, or of everything: what a strategy plans that finds its changes elsewhere."""
    if since is None:
        return ReadPlan(None, Disposition.REPLACE, "whole table")
    return ReadPlan(since.horizon_scan(at), Disposition.UPSERT, "horizon scan")


def or_null(bound: sql.Composable, name: str, table: SourceTable) -> sql.Composable:
    """``bound`` on a watermark column, and its NULLs, which no bound ever selects."""
    column = table.column(name)
    if column is not None and column.not_null:
        return bound
    return sql.SQL("({} OR {} IS NULL)").format(bound, sql.Identifier(name))


def scanning(objections: tuple[str, ...]) -> tuple[str, ...]:
    """The reasons of a run that falls back from its fence to the horizon."""
    return tuple(f"scanning by the horizon: {objection}" for objection in objections)


def not_a_heap(table: SourceTable, because: str) -> list[str]:
    """The problem that views, foreign tables and tables with foreign partitions have with a cursor."""
    if table.is_heap:
        return []
    kind = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}.get(
        table.kind, "a table with foreign partitions"
    )
    return [f"{table.qualified_name} is {kind}: {because}; use watermark_type: full_snapshot"]
