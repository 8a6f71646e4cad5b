"""``watermark_type: dms``: every change, deletes included, out of the files that an AWS DMS task writes to S3.

Files are read by engine/runners/files.py, each once: the ledger of those that were taken stands beside the sync log.
What this strategy plans is the scan that comes where the files do not say everything: a reconcile, a load that was
repeated, lost files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.certificate import Finding
from aurora_sync.model.dms_columns import BEFORE, OP, SEQUENCE, TIMESTAMP
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Snapshot, Token, Watermark
from aurora_sync.strategies.base import ReadPlan, Since, Strategy, not_a_heap, outdated, scan

# What files go on over. TRUNCATE is no change that a task sends, and a task knows tables by their names.
_GO_ON = {"long transaction", "restart"}


@dataclass(frozen=True)
class FilesPosition:
    """The target has every file of the folder that runs after ``since`` have in the ledger; when all were, the listing
    had this ``digest``, and so many files of the full load. ``rescan`` says what they did not tell, ``sequence`` is
    that of the newest change.

    The task may lag behind a scan that was made because the table was altered or truncated. What it writes of changes
    that were committed before ``altered_until`` has the values from before: such changes lead to another scan.
    ``altered_xmax``: transactions below it may still be open that wrote with labels of before."""

    folder: str
    since: int
    digest: str = ""
    loads: int = 0
    rescan: str = ""
    fields: str = ""  # digest of the names of what rows without a header have
    sequence: str = ""  # an earlier release did not write it: the next change is then the first
    altered_until: str = ""  # by the source's clock; earlier releases did not write it
    altered_xmax: int = 0

    @property
    def method(self) -> str:
        return f"files of {self.folder}"

    @property
    def statement(self) -> str:
        """What a run reads."""
        return f"{self.method} that the ledger does not have"

    @property
    def gap(self) -> str:
        return self.rescan

    @property
    def bound(self) -> str:
        return f"every change that the DMS task had written to {self.folder} when this run began"

    def to_value(self) -> dict[str, Any]:
        return dict(vars(self))

    def seen_at(self, snapshot: Snapshot) -> FilesPosition:
        """The position of a run with this snapshot."""
        if not self.altered_xmax:
            return self
        xmax = self.altered_xmax if snapshot.xmin < self.altered_xmax else 0
        return replace(self, altered_until=snapshot.taken_at.isoformat(), altered_xmax=xmax)


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
        value = replace(before, rescan="", loads=0).to_value() if before else {}
        if since is None or _is_altered(since.watermark.token, at.token):
            # No table is altered while a transaction has written it; a type may be.
            open_ = at.token.is_named and at.snapshot.xmin < at.snapshot.xmax
            value["altered_until"] = at.snapshot.taken_at.isoformat()
            value["altered_xmax"] = at.snapshot.xmax if open_ else 0
        return value

    def evidence(self, value: Mapping[str, Any], read: ReadPlan, at: Observation) -> dict[str, str]:
        if "folder" not in value:
            return {}
        upto = f", changes up to sequence {value['sequence']}" if value.get("sequence") else ""
        return {"files": f"folder {value['folder']}, every file in the ledger{upto}"}


def _is_altered(then: Token, now: Token) -> bool:
    """Whether something happened to the table that is no change of a row."""
    before, after = ((token.columns, token.named, token.members, token.attached) for token in (then, now))
    return before != after


def position_in(config: TableConfig, watermark: Watermark | None) -> FilesPosition | None:
    """None where nothing of the folder was taken yet."""
    if watermark is None or watermark.strategy != Dms.name or watermark.value.get("folder") != folder_of(config):
        return None
    return FilesPosition(**watermark.value)


def position_after_scan(config: TableConfig, watermark: Watermark | None, since: int) -> FilesPosition:
    """Where a run begins that is the first to take files."""
    value = watermark.value if watermark and watermark.strategy == Dms.name else {}
    altered = {name: value[name] for name in ("altered_until", "altered_xmax") if name in value}
    return FilesPosition(folder_of(config), since, **altered)


def folder_of(config: TableConfig) -> str:
    return f"{config.files}, {config.cdc_path}" if config.cdc_path else config.files or ""


def why_scan(
    position: FilesPosition | None, watermark: Watermark | None, findings: tuple[Finding, ...], token: Token
) -> str:
    """Why the files alone do not bring the target up to date; empty where they do. ``watermark`` is None where there is
    nothing to go on from: the files then begin with a full load. ``token`` is that of today."""
    if position and position.rescan:
        return position.rescan
    if watermark and watermark.strategy != Dms.name:
        return "no files were taken yet"
    if watermark and (why := outdated(watermark.token, token)):
        return why
    if watermark and watermark.token.named != token.named:
        # A task that was started meanwhile sent nothing of the table.
        return "the table was renamed, or had another name for a while"
    return next((found.text for found in findings if found.event not in _GO_ON), "")
