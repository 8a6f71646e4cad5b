"""The model of ``advisor:`` in tables.yaml: limits for the proposals of ``aurora-sync assess``."""

from __future__ import annotations

from pydantic import Field

from aurora_sync.config.field_types import Cron, Duration, Size, StrictModel, size


class Advisor(StrictModel):
    """Limits for the proposals of ``aurora-sync assess``, and the schedule of the assessment in Dagster."""

    replication: bool = Field(True, description="Whether a replication slot may be used.")
    ddl: bool = Field(True, description="Whether triggers may be installed on tables.")
    deletes_at_once: bool = Field(
        False,
        description="Whether a delete at the source must reach the target with the next run, not only at a reconcile.",
    )
    freshness: Duration = Field("1h", description="How often a table that changes is synced.")
    max_read_per_day: Size | None = Field(
        None, description="Limit for the data that the sync of one table reads from the source in a day, such as 50GB."
    )

    schedule: Cron = Field("0 6 * * *", description="When the asset in Dagster assesses the tables (cron, UTC).")
    prove: bool = Field(
        False,
        description="Whether that asset scans tables with a timestamp strategy, to find rows with an unreliable "
        "timestamp.",
    )

    @property
    def most_read_per_day(self) -> int | None:
        """``max_read_per_day`` in bytes; None when there is no limit."""
        return None if self.max_read_per_day is None else size(self.max_read_per_day)
