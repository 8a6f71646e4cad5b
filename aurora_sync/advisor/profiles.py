"""Properties of each strategy that only the advisor uses: the points it begins with, and how a run reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from aurora_sync.config.tables import TableConfig


class Access(Enum):
    """Data that a run reads to find the changed rows."""

    WHOLE = "the table, out of line too"
    SCAN = "the table's heap"
    LOG = "the changes in the WAL"
    RANGE = "new rows, which an index has side by side"
    KEYS = "changed rows, each found by an index"


@dataclass(frozen=True)
class Profile:
    """Properties of one option.

    An option begins with ``points``, before any rule. ``access`` assumes an index on the watermark column; without an
    index, a run scans the heap.
    """

    points: int
    access: Access


# The keys are the names of options: the strategy, or append_only for xmin without a key.
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
    """Return the name of the option that a configuration belongs to."""
    return "append_only" if config.append_only else config.watermark_type.value
