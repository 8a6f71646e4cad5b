"""The last runs of every target, in the short columns of the sync log."""

# ruff: noqa: S608 - every name went through identifier()

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.sync_log import log_table


@dataclass(frozen=True)
class Run:
    """An applied run, and the rows of the target that it changed."""

    run_sequence: int
    applied_at: datetime
    changed: int


def select_recent(log_schema: str, runs: int) -> str:
    """Return the statement that selects the last runs of every target. Run sequences have no gaps."""
    log = log_table(log_schema).sql
    return (
        'SELECT e."TARGET", e."RUN_SEQUENCE", e."APPLIED_AT", e."INSERTED" + e."UPDATED" + e."DELETED"'
        f" FROM {log} AS e"
        f' JOIN (SELECT "TARGET" AS T, MAX("RUN_SEQUENCE") AS R FROM {log} GROUP BY 1) AS n'
        f' ON e."TARGET" = n.T AND e."RUN_SEQUENCE" > n.R - {runs} ORDER BY 1, 2'
    )


def recent_runs(session: Session, log_schema: str, runs: int) -> dict[str, list[Run]]:
    """Return the last runs of every target, the newest last: target -> runs. The sync log must exist."""
    found: dict[str, list[Run]] = {}
    for target, run_sequence, applied_at, changed in session.query(select_recent(log_schema, runs)):
        found.setdefault(target, []).append(Run(int(run_sequence), applied_at.replace(tzinfo=UTC), int(changed)))
    return found
