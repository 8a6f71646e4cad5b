"""The model of ``advisor:`` in tables.yaml: limits for the proposals of ``aurora-sync assess``."""

from __future__ import annotations

from pydantic import Field

from aurora_sync.config.field_types import Cron, Duration, Size, StrictModel, size


class Advisor(StrictModel):
    """What ``aurora-sync assess`` may propose, and when it is asked in Dagster."""

    replication: bool = Field(True, description="Whether a replication slot may be used.")
    ddl: bool = Field(True, description="Whether tables may be given triggers.")
    deletes_at_once: bool = Field(False, description="Whether deletes must come with the next run, not by reconcile.")
    freshness: Duration = Field("1h", description="How often a table that changes is synced.")
    max_read_per_day: Size | None = Field(
        None, description="What the sync of one table may read at the source in a day, such as 50GB."
    )

    schedule: Cron = Field("0 6 * * *", description="When the asset in Dagster assesses the tables (cron, UTC).")
    prove: bool = Field(
        False, description="Whether that asset scans tables that go by a timestamp, for rows whose timestamp lies."
    )

    @property
    def most_read_per_day(self) -> int | None:
        """``max_read_per_day`` in bytes; None when there is no limit."""
        return None if self.max_read_per_day is None else size(self.max_read_per_day)
