"""``watermark_type: composite``: rows by a timestamp and further columns that distinguish rows of one timestamp.

A cursor on the combination is not safe: a transaction that commits late writes an earlier combination. The clock fence
on the first column is safe. Each run reads every row from the fence on again, so the other columns are not needed to
distinguish rows. The first column limits the read, and an index on (first, ...) serves it. The other columns only have
to exist.
"""

from __future__ import annotations

from aurora_sync.config.tables import TableConfig
from aurora_sync.strategies.timestamp import Timestamp


class Composite(Timestamp):
    name = "composite"

    def clock_column(self, config: TableConfig) -> str:
        return (config.watermark_cols or [""])[0]
