"""``watermark_type: timestamp``: rows by a column that the database sets at every insert and update.

The strategy finds inserts and updates. It does not find deletes: a deleted row leaves nothing to read. clock.py
explains why no row of an open transaction is lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.fences import ClockRequest
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.strategies import clock
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap


class Timestamp(Strategy):
    name = "timestamp"
    sees_updates = True
    sees_deletes = False

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        return clock.problems(self.clock_column(config), table) + not_a_heap(
            table, "this server does not show when its open transactions began"
        )

    def fence(self, config: TableConfig) -> ClockRequest:
        return ClockRequest()

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        return clock.plan(config, self.clock_column(config), table, since, at)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        return clock.advance(config, self.clock_column(config), table, since, at)

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        return clock.evidence(value, read, at)

    def shown(self, value: Mapping[str, Any]) -> dict[str, Any]:
        return {"fence": value["fence"]} if value.get("fence") else {}

    def doubts(self, config: TableConfig, table: SourceTable) -> tuple[str, ...]:
        column = self.clock_column(config)
        is_kept = config.watermark_set_by or clock.kept_by_trigger(column, table)
        return clock.doubts(config, column, table) if is_kept else ()

    def clock_column(self, config: TableConfig) -> str:
        return str(config.watermark_col)
