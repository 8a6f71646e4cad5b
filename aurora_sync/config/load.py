"""The model of ``load:`` of a table: how a table is read that is too large for one snapshot."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Annotated

from pydantic import Field, StringConstraints

from aurora_sync.config.field_types import BIGINT, StrictModel

# 2**31 - 1 milliseconds, the longest statement_timeout of PostgreSQL, in minutes.
LONGEST_SNAPSHOT = 35_791
# A table of fewer chunks is read in one snapshot.
FEWEST_CHUNKS = 2

_HOUR = "([01][0-9]|2[0-3]):[0-5][0-9]"
Window = Annotated[str, StringConstraints(pattern=f"^{_HOUR}-{_HOUR}$")]


class LoadOptions(StrictModel):
    """How the whole of a large table is read: in chunks, each in a short snapshot of its own. A load that was
    interrupted goes on with the chunks that are left."""

    chunk_bytes: int = Field(
        1_000_000_000,
        ge=8192,
        le=BIGINT,
        description="Size of a chunk in bytes, heap and TOAST. A table of less than two chunks is read in one "
        "snapshot. No load has more than 1,000 chunks: those of a larger table are larger.",
    )
    parallel: int = Field(1, ge=1, le=64, description="Processes that load chunks at the same time.")
    window: Window | None = Field(
        None,
        description="Time of day in UTC in which chunks may be read, such as '22:00-06:00'. No chunk begins that would "
        "not end in it, judged by the chunks before. Default: at any time.",
    )
    max_chunk_minutes: int = Field(
        30,
        ge=1,
        le=LONGEST_SNAPSHOT,
        description="Limit for the time that the read of a chunk holds its snapshot on the source. A longer read is "
        "stopped.",
    )

    def left_of_window(self, now: datetime) -> timedelta | None:
        """Return how long chunks may still be read; 0 outside of the window, None without one. ``now`` is UTC."""
        if self.window is None:
            return None
        begin, end = (time.fromisoformat(part) for part in self.window.split("-"))
        since_begin, length = (_between(begin, other) for other in (now.timetz().replace(tzinfo=None), end))
        length = length or timedelta(days=1)
        return max(timedelta(0), length - since_begin)

    @property
    def opens(self) -> str:
        """The time at which the window begins, for people."""
        return f"{self.window.partition('-')[0]} UTC" if self.window else ""


def _between(begin: time, end: time) -> timedelta:
    """Return the time from ``begin`` to ``end``, of the next day if need be."""
    day = datetime.now(UTC).date()
    length = datetime.combine(day, end) - datetime.combine(day, begin)
    return length % timedelta(days=1)
