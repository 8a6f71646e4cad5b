"""``watermark_type: dms``: every change, deletes included, out of the files that an AWS DMS task writes to S3.

Files are read by dms.py, each once: the ledger of those that were taken stands beside the sync log. What this strategy
plans is the scan that comes where the files do not say everything: a reconcile, a load that was repeated, lost files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.dms_columns import BEFORE, OP, SEQUENCE, TIMESTAMP
from aurora_sync.increment import Finding, Watermark
from aurora_sync.relation import Observation, SourceTable
from aurora_sync.strategies.base import ALTERED, ReadPlan, Since, Strategy, not_a_heap, scan

# What files go on over. TRUNCATE is no change that a task sends.
_GO_ON = {"long transaction", "restart", "table renamed"}


@dataclass(frozen=True)
class FilesPosition:
    """The target has every file of the folder that runs after ``since`` have in the ledger; when all were, the listing
    had this ``digest``, and so many files of the full load. ``rescan`` says what they did not tell, ``sequence`` is
    that of the newest change."""

    folder: str
    since: int
    digest: str = ""
    loads: int = 0
    rescan: str = ""
    fields: str = ""  # digest of the names of what rows without a header have
    sequence: str = ""  # an earlier release did not write it: the next change is then the first

    @property
    def method(self) -> str:
        return f"files of {self.folder}"

    @property
    def gap(self) -> str:
        return self.rescan

    @property
    def bound(self) -> str:
        return f"every change that the DMS task had written to {self.folder} when this run began"

    def to_value(self) -> dict[str, Any]:
        return dict(vars(self))


class Dms(Strategy):
    name = "dms"
    sees_updates = True
    sees_deletes = True
    keeps_xmin = False

    def problems(self, config: TableConfig, table: SourceTable) -> list[str]:
        found = not_a_heap(table, "DMS sends no changes of it")
        arrays = [column.name for column in table.columns if column.is_array]
        if arrays:
            found.append(
                f"{table.qualified_name} has arrays, whose text DMS does not keep: leave out {', '.join(arrays)} under"
                " columns: exclude, or use watermark_type: logical"
            )
        added = {name.lower() for name in (OP, SEQUENCE, TIMESTAMP)}  # not every engine minds the case
        ours = [c.name for c in table.columns if c.name.lower() in added or c.name.lower().startswith(BEFORE)]
        if ours:
            found.append(f"{table.qualified_name} has a column that the task adds to its files, {', '.join(ours)}")
        return found

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        return scan(since, at)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """A scan takes no files; after the first one those that are older have nothing new."""
        before = position_in(config, since.watermark if since else None)
        return replace(before, rescan="", loads=0).to_value() if before else {}


def position_in(config: TableConfig, watermark: Watermark | None) -> FilesPosition | None:
    """None where nothing of the folder was taken yet."""
    if watermark is None or watermark.strategy != Dms.name or watermark.value.get("folder") != folder_of(config):
        return None
    return FilesPosition(**watermark.value)


def folder_of(config: TableConfig) -> str:
    return f"{config.files}, {config.cdc_path}" if config.cdc_path else config.files or ""


def why_scan(
    position: FilesPosition | None, watermark: Watermark | None, findings: tuple[Finding, ...], columns: str
) -> str:
    """Why the files alone do not bring the target up to date; empty where they do. ``watermark`` is None where there is
    nothing to go on from: the files then begin with a full load. ``columns`` are the token's of today."""
    if position and position.rescan:
        return position.rescan
    if watermark and watermark.strategy != Dms.name:
        return "no files were taken yet"
    if watermark and watermark.token.columns != columns:
        return ALTERED
    return next((found.text for found in findings if found.event not in _GO_ON), "")
