"""The certificate of an increment: its guarantee in one sentence, and the facts on which it is based.

============ =====================================================================================
certified    nothing that was committed before the snapshot is missing, of the kinds of changes it names
bounded      nothing is missing except what a named lag covers: rows of transactions still open, the
             replay of a reader, or the time since the last reconcile
uncertified  it depends on an assumption that nothing checks; the text names the assumption, and what
             would certify the increment
============ =====================================================================================

The guarantee is for inserts, and for updates and deletes if the strategy sees them. A reconcile and a full read see all
three.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.certificate import Certificate, Level, Reconciled
from aurora_sync.model.observation import Observation
from aurora_sync.strategies.base import ReadPlan, Strategy


def certify(
    config: TableConfig,
    strategy: Strategy,
    plan: ReadPlan,
    at: Observation,
    value: Mapping[str, Any],
    *,
    reconciled: Reconciled | None,
    now: bool,
) -> Certificate:
    """Return the certificate of an increment that was read by ``plan``. ``value`` is the value of the watermark after
    it. ``reconciled`` is the last reconcile or full read; ``now``: it belongs to this increment."""
    snapshot = at.snapshot
    moment = f"{snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    seen = {"inserts": True, "updates": strategy.sees_updates or now, "deletes": strategy.sees_deletes or now}
    changes = tuple(change for change, sees in seen.items() if sees)
    level, text = Level.CERTIFIED, f"every change committed before {moment} is in the target: {', '.join(changes)}"
    if at.token.in_recovery:
        level, text = (
            Level.BOUNDED,
            f"every change that the reader had replayed by {moment} is in the target: {', '.join(changes)}",
        )
    elif plan.bound:
        level, text = Level.BOUNDED, f"{plan.bound} is in the target: {', '.join(changes)}"
    elif plan.scope is not None and at.oldest_writer:
        lag = (snapshot.taken_at - at.oldest_writer).total_seconds()
        text = f"rows written since {at.oldest_writer_name} began, {lag:,.0f} s before, are read after it ends"
        level = Level.BOUNDED
    if plan.doubts and not now:
        level, text = Level.UNCERTIFIED, "; ".join(plan.doubts)
        if reconciled and config.reconcile:
            lag = (snapshot.taken_at - reconciled.as_of).total_seconds()
            text = (
                f"complete as of run {reconciled.run_sequence}, {lag:,.0f} s before, and at the next reconcile: {text}"
            )
            level = Level.BOUNDED
    rests_on = {
        "method": plan.method,
        "snapshot": f"{snapshot.xmin}:{snapshot.xmax} at {moment}",
        "horizon": str(snapshot.xmin),
        "token": f"system {at.token.system_identifier or 'not shown'}, timeline {at.token.timeline}, table oid"
        f" {at.token.table_oid}, {len(at.canaries)} canaries unchanged",
    }
    rests_on |= strategy.evidence(value, plan, at)
    return Certificate(level, changes, text, rests_on, reconciled=reconciled)
