"""What the advisor knows of each strategy beyond what the strategy says of itself: its rank, and how a run reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from aurora_sync.config.tables import TableConfig


class Access(Enum):
    """What a run reads to find its rows."""

    WHOLE = "the table, out of line too"
    SCAN = "the table's heap"
    LOG = "the changes in the WAL"
    RANGE = "new rows, which an index has side by side"
    KEYS = "changed rows, each found by an index"


@dataclass(frozen=True)
class Profile:
    """``points`` are what an option begins with, before any rule. ``access`` is that with an index on the watermark
    column; without it, the column is found by a scan."""

    points: int
    access: Access


# By option: the strategy, but append_only for xmin without a key.
PROFILES = {
    "full_snapshot": Profile(20, Access.WHOLE),
    "xmin": Profile(40, Access.SCAN),
    "append_only": Profile(45, Access.SCAN),
    "integer": Profile(45, Access.RANGE),
    "timestamp": Profile(40, Access.KEYS),
    "logical": Profile(40, Access.LOG),
    "outbox": Profile(35, Access.KEYS),
}


def option_name(config: TableConfig) -> str:
    """What an option of this configuration is called."""
    return "append_only" if config.append_only else config.watermark_type.value
