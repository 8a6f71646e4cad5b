"""The interface of a strategy: which tables it can sync, what it reads, and what it stores. Pure functions of values.

A strategy has no connection, file, warehouse SQL, retry or log. All facts about the source at the moment of the read
are in :class:`~aurora_sync.model.observation.Observation`, which the source fills in a fixed order: the fence first,
then the snapshot.
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
from aurora_sync.model.reload import RowRange
from aurora_sync.model.watermark import Token, Watermark
from aurora_sync.strategies import horizon

# Why a table is scanned although a stream or files list its changes: the versions of its columns changed.
ALTERED = "a column, or the type of one, was altered since the last run"
ROLES = (
    "a column has names of roles (regrole), which a stream sends as they were when the row was written; nothing that"
    " this role may read says whether a role was renamed and renamed back"
)
_REGROLE = "4096"  # the oid of the type, in every database


@dataclass(frozen=True)
class ReadPlan:
    """The rows to read (``where`` None: all), their disposition, and the limits of the method.

    ``method`` describes in words how the rows are found. ``warnings`` describe what the method cannot see, or assumes.
    ``reasons`` say why a slower method replaces the strategy's own; each run prints them. ``doubts`` name assumptions
    without proof, and what would prove them: with a doubt, the increment is not certified. ``bound`` describes up to
    which point the rows are complete, if not up to the snapshot. ``renews``: the watermark is stored even when nothing
    changed, so that the next run need not scan.
    """

    where: sql.Composable | None
    disposition: Disposition
    method: str
    warnings: tuple[str, ...] = ()
    scope: sql.Composable | None = None  # the rows that the target should have afterwards; None: all
    doubts: tuple[str, ...] = ()
    bound: str = ""
    renews: bool = False
    outbox: Outbox | None = None  # its keys are read, those of deleted rows as well; the disposition is then CHANGES
    reasons: tuple[str, ...] = ()
    log_position: int = 0  # LSN up to which the snapshot of a scan saw; a stream continues from there
    again: RowRange | None = None  # rows that a person asked to read again; ``where`` selects them as well

    def because(self, reason: str) -> ReadPlan:
        return replace(self, reasons=(reason, *self.reasons))


@dataclass(frozen=True)
class Since:
    """The watermark from which a run continues; identity.py found it valid for the current source."""

    watermark: Watermark
    restarted: bool = False  # the server was restarted since: only the horizon, less a margin, is safe
    only_scan: str = ""  # why a scan is needed even if there is an outbox; empty: the outbox is enough

    def horizon_scan(self, at: Observation) -> sql.Composable:
        """Return the predicate for every row whose transaction was not decided in the watermark's snapshot. It is
        complete for the watermark of any strategy."""
        margin = horizon.RESTART_MARGIN if self.restarted else 0
        where = horizon.written_since(self.watermark.snapshot.xmin - margin, at.snapshot)
        return self.with_new_members(where, at)

    def with_new_members(self, where: sql.Composable, at: Observation) -> sql.Composable:
        """Return a predicate for the rows of ``where`` and all rows of partitions that the watermark does not know."""
        return horizon.or_new_members(where, horizon.new_members(self.watermark.token.members, at))

    def same_files(self, at: Observation) -> bool:
        """Return whether the table has the same files and partitions as when the watermark was taken."""
        then = self.watermark.token
        return not (then.rewritten(at.token) or then.reattached(at.token))

    def unusable(self, at: Observation, *, missing: str, same: bool, witnesses: str) -> str:
        """Return in words why the fence in the watermark may not be used; empty when it may. ``missing``: the text for
        a watermark without a fence. ``same``: the ``witnesses`` (triggers, or column and sequence) are unchanged since
        the watermark."""
        if self.restarted:
            return "the server was restarted since the last run"
        if missing:
            return missing
        if not (same and self.same_files(at)):
            return f"{witnesses}, files or partitions of the table have changed since the last run"
        return ""


def outdated(then: Token, now: Token) -> str:
    """Return why a stream or file may have other texts than the columns print now; empty when the texts agree."""
    if then.columns != now.columns:
        return ALTERED
    return ROLES if _REGROLE in (now.types or {}) else ""


class Strategy(ABC):
    """A method of finding changed rows. Stateless; every method is a pure function of its arguments."""

    name: str  # the watermark_type
    sees_updates: bool
    sees_deletes: bool
    keeps_xmin: bool = True  # each row of the target has the xmin of its source row
    reads_whole: bool = False  # every increment is the whole table
    uses_slot: bool = False  # changes leave the source through a replication slot
    needs_triggers: bool = False  # triggers write the keys of changed rows to an outbox
    version: int = 1  # increased when the strategy reads a table differently; part of the asset's code version

    @abstractmethod
    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        """Return why this strategy cannot sync this table, in full sentences; empty when it can."""

    def fence(self, config: TableConfig) -> FenceRequest | None:
        """Return the request for facts from around the snapshot, None for none. :meth:`Observation.seen` has the
        answer."""
        return None

    def clock_column(self, config: TableConfig) -> str | None:
        """Return the column whose time decides which rows are new; None for strategies without such a column."""
        return None

    def doubts(self, config: TableConfig, table: SourceTable) -> tuple[str, ...]:
        """Return the assumptions without proof of the strategy's own method (:class:`ReadPlan`), if the table allows
        that method."""
        return ()

    @abstractmethod
    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        """Return what to read. When ``since`` is None (first run or reseed), that is the whole table with disposition
        REPLACE."""

    @abstractmethod
    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """Return the ``Watermark.value`` after the rows of :meth:`plan` are in the target. It is never ahead of the
        snapshot."""

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        """Return the facts of a ``Watermark.value`` that the certificate names as its basis, by kind ("fence",
        "stream", ...)."""
        return {}

    def acknowledgement(self, value: Mapping[str, Any]) -> str:
        """Return what the source may delete after the target has this ``Watermark.value``: a snapshot, as
        ``pg_snapshot`` prints it. All entries of the table's outbox that it sees are deleted. Empty: nothing."""
        return ""

    def shown(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts of a ``Watermark.value`` that are shown to people; empty when the horizon is enough."""
        return {}


def scan(since: Since | None, at: Observation) -> ReadPlan:
    """Return the plan of a scan: by the horizon, or of the whole table when ``since`` is None. xmin uses it always;
    strategies that read changes from an outbox, stream or files use it when those are not enough."""
    if since is None:
        return ReadPlan(None, Disposition.REPLACE, "whole table")
    return ReadPlan(since.horizon_scan(at), Disposition.UPSERT, "horizon scan")


def or_null(bound: sql.Composable, name: str, table: SourceTable) -> sql.Composable:
    """Return a predicate for the rows of ``bound``, a comparison of the column ``name``, and for the rows in which the
    column is NULL: a comparison never selects these."""
    column = table.column(name)
    if column is not None and column.not_null:
        return bound
    return sql.SQL("({} OR {} IS NULL)").format(bound, sql.Identifier(name))


def scanning(objections: tuple[str, ...]) -> tuple[str, ...]:
    """Return the reasons of a run that falls back from its fence to a horizon scan."""
    return tuple(f"scanning by the horizon: {objection}" for objection in objections)


def not_a_heap(table: SourceTable, because: str) -> list[str]:
    """Return the problem of a view, a foreign table or a table with foreign partitions: ``because`` says why the
    strategy does not work for it. Empty for other tables."""
    if table.is_heap:
        return []
    kind = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}.get(
        table.kind, "a table with foreign partitions"
    )
    return [f"{table.qualified_name} is {kind}: {because}; use watermark_type: full_snapshot"]
