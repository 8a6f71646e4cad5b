"""``watermark_type: full_snapshot``: every run reads the whole relation; the warehouse finds the changes.

The strategy sees inserts, updates and deletes, and works for every relation that a SELECT can read. Without a merge key
the target becomes the same multiset of rows.
"""

from __future__ import annotations

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.strategies.base import ReadPlan, Since, Strategy


class FullSnapshot(Strategy):
    name = "full_snapshot"
    sees_updates = True
    sees_deletes = True
    reads_whole = True

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        return []

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        return ReadPlan(None, Disposition.REPLACE, "whole table")

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        return {}
