"""The state of a table in the sync log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aurora_sync.model.certificate import Reconciled
from aurora_sync.model.watermark import Watermark


@dataclass(frozen=True)
class State:
    """The newest row of the sync log for a table: the truth to resume from."""

    run_sequence: int  # 0: never applied
    watermark: Watermark | None
    load_id: str = ""  # of the attempt that made this run sequence
    target_rows: int = 0
    applied_at: datetime | None = None
    reconciled: Reconciled | None = None
    idle_runs: int = 0  # since the last applied one; a hint alone knows
    source_table: str = ""  # schema.table that the increment was read from; only the log knows
    edited: str = ""  # why the target is to be compared with the source: it is not as it was left
