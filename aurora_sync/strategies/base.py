"""The interface of a strategy: eligibility, what to read, what to remember. Pure functions of values.

A strategy owns no connection, file, warehouse SQL, retry or log. What it needs to know of the source at
the moment of the read is in :class:`Observation`, which the source fills in a fixed order: the fence
first, then the snapshot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.increment import Disposition, Watermark
from aurora_sync.relation import Observation, SourceTable


@dataclass(frozen=True)
class ReadPlan:
    """Which rows to read (``where`` None: all), what they mean, and how sure that is.

    ``method`` says in words how the rows are found; ``warnings`` why a faster method was not used or what
    the chosen one cannot see.
    """

    where: sql.Composable | None
    disposition: Disposition
    method: str
    warnings: tuple[str, ...] = ()


class Strategy(ABC):
    """One way of finding changed rows. Stateless; every method is a pure function of its arguments."""

    name: str  # the watermark_type
    sees_updates: bool
    sees_deletes: bool

    @abstractmethod
    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        """Why this strategy cannot run on this table: full sentences; empty when it can."""

    @abstractmethod
    def plan(
        self, config: TableConfig, table: SourceTable, since: Watermark | None, at: Observation
    ) -> ReadPlan:
        """What to read. ``since`` None (first run or reseed) reads everything, disposition REPLACE."""

    @abstractmethod
    def advance(
        self, config: TableConfig, table: SourceTable, since: Watermark | None, at: Observation
    ) -> dict[str, object]:
        """``Watermark.value`` once the rows of :meth:`plan` are in the target. Never ahead of the snapshot."""
