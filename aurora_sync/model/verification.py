"""The result of comparing source and target by content."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from aurora_sync.model.as_json import as_json

# Replaces a value when the table has no show_values.
HIDDEN = "(hidden)"


@dataclass(frozen=True)
class RowDifference:
    """One row that differs between source and target. ``source`` and ``target`` have its key and the columns that
    differ, by name; None where that side does not have the row."""

    key: tuple[str, ...]  # empty when the table has no key, and without show_values
    source: dict[str, str | None] | None
    target: dict[str, str | None] | None
    find: str = ""  # a statement that finds the row, where it has an xmin

    def without_values(self, key: Collection[str]) -> RowDifference:
        """Return the difference with column names and no values. When both sides have the row, its ``key`` columns are
        left out."""
        alike = key if self.source and self.target else ()

        def hidden(side: dict[str, str | None] | None) -> dict[str, str | None] | None:
            return None if side is None else {name: HIDDEN for name in side if name not in alike}

        return dataclasses.replace(self, key=(), source=hidden(self.source), target=hidden(self.target))


@dataclass(frozen=True)
class Verification:
    """The result of comparing source and target by content, as of the snapshot of one increment."""

    table: str
    run_sequence: int
    as_of: datetime  # of the snapshot
    method: str
    source_rows: int = 0
    target_rows: int = 0
    buckets_compared: int = 0
    rows_moved: int = 0  # rows read from the source to be compared one by one
    missing: int = 0  # rows that the target lacks
    different: int = 0
    ghosts: int = 0  # rows that only the target has
    examples: tuple[RowDifference, ...] = ()
    same_version: int = 0  # different rows with the same version (xmin) as the source's row: a reconcile misses them
    repair: str = "reconcile"  # the command of aurora-sync that repairs the differences
    caveat: str = ""  # why some of the differences may be expected

    @property
    def equal(self) -> bool:
        return not (self.missing or self.different or self.ghosts)

    def to_json(self) -> dict[str, Any]:
        return {"equal": self.equal, **as_json(self)}
