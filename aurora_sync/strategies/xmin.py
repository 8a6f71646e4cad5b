"""``watermark_type: xmin``: rows by the transaction that wrote them. It needs no column, no trigger and no index.

The strategy finds inserts and updates. It does not find deletes, nor the old key after an update of the primary key:
such a row leaves nothing to read. engine/reconcile.py finds both.

A table without a key can be synced when it is ``append_only``. Each increment is then the disjoint window
[last horizon, this horizon), so that every row version is exported exactly once.
"""

from __future__ import annotations

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Watermark
from aurora_sync.strategies import horizon
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap, scan


class Xmin(Strategy):
    name = "xmin"
    sees_updates = True
    sees_deletes = False

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        return not_a_heap(table, "its rows have no transaction id (xmin)")

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        if config.append_only:
            return self._plan_append(since, at)
        return scan(since, at)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        return {"horizon": at.snapshot.xmin}

    def _plan_append(self, since: Since | None, at: Observation) -> ReadPlan:
        upper = horizon.decided_before(at.snapshot)
        doubt = _would_repeat(since, at) if since else ""
        if since is None or doubt:
            reasons = (f"reading the whole table: {doubt}",) if doubt else ()
            if _ids_were_used_up(at):  # old rows may then look undecided: read all rows; no window follows
                return ReadPlan(None, Disposition.REPLACE, "whole table", reasons=reasons)
            return ReadPlan(upper, Disposition.REPLACE, "whole table", reasons=reasons, scope=upper)
        lower = horizon.written_since(since.watermark.snapshot.xmin, at.snapshot)
        window = sql.SQL("{} AND {}").format(lower, upper)
        return ReadPlan(window, Disposition.APPEND, "horizon window", scope=upper)


def _would_repeat(since: Since, at: Observation) -> str:
    """Return why an append could repeat or miss a row; empty when it cannot. Unlike a merge, an append cannot repair
    that later."""
    watermark: Watermark = since.watermark
    if watermark.strategy != Xmin.name:
        return f"the last run used the strategy {watermark.strategy}"
    if since.restarted:
        return "the server was restarted, and transaction ids may have been used twice"
    if watermark.token.members.keys() != at.token.members.keys():
        return "partitions were attached or detached"
    if watermark.token.members != at.token.members:
        return "the table was rewritten or truncated"
    if _ids_were_used_up(at):
        return "this server has used 2^32 transaction ids, so very old rows look new"
    return ""


def _ids_were_used_up(at: Observation) -> bool:
    return at.snapshot.xmax > 2**32
