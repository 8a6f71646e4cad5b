"""The state of a table in the sync log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from aurora_sync.model.certificate import Reconciled
from aurora_sync.model.load import Load
from aurora_sync.model.watermark import Watermark


@dataclass(frozen=True)
class State:
    """The newest row of the sync log for a table, from which the next run resumes."""

    run_sequence: int  # 0: no increment was ever applied
    watermark: Watermark | None
    load_id: str = ""  # of the attempt that was applied as this run
    target_rows: int = 0
    applied_at: datetime | None = None
    reconciled: Reconciled | None = None
    idle_runs: int = 0  # runs without changes since the last applied one; only a hint has the number
    source_table: str = ""  # schema.table from which the increment was read; only the sync log has it
    size: tuple[int | str, ...] | None = None  # of the target: Session.size; hints of older releases lack its last part
    target: tuple[str, str] | None = None  # schema and table in the warehouse; None when they are not known
    edited: str = ""  # how the target was modified since the last run, so that it must be compared with the source

    @property
    def load(self) -> Load | None:
        """The load in chunks that is not finished."""
        return self.watermark.load if self.watermark else None
