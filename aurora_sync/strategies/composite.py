"""``watermark_type: composite``: a timestamp that several rows share, with columns that tell them apart.

The pair does not make a cursor safe (a transaction that commits late writes an earlier pair), the clock
fence on its first column does, and once every row from the fence on is read again there is no tie left to
break. So the first column bounds the read, served by an index on (first, ...), and the others only have to
exist.
"""

from __future__ import annotations

from aurora_sync.config.tables import TableConfig
from aurora_sync.strategies.timestamp import Timestamp


class Composite(Timestamp):
    name = "composite"

    def clock_column(self, config: TableConfig) -> str:
        return (config.watermark_cols or [""])[0]
