"""``watermark_type: dms``: every change, deletes included, from the files that an AWS DMS task writes to S3.

engine/runners/files.py reads each file once: a ledger beside the sync log lists the files that were read. This strategy
plans the scan for the cases in which the files do not have every change: a reconcile, a repeated full load, lost files.
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

# Findings after which the files are still complete. A task does not send TRUNCATE, and knows tables by name.
_GO_ON = {"long transaction", "restart"}


@dataclass(frozen=True)
class FilesPosition:
    """A position in the files of a task: the target has every file that the ledger lists for runs after ``since``.

    When the ledger had all files of the folder, their listing had this ``digest``, and ``loads`` of them were files of
    the full load. ``rescan`` says which changes the files did not have; ``sequence`` belongs to the newest change.

    The task may lag behind a scan that was made because the table was altered or truncated. For changes that were
    committed before ``altered_until`` it writes values from before the ALTER: such changes lead to another scan.
    ``altered_xmax``: transactions below it may still be open, and may have written with old labels or attributes of a
    type.
    """

    folder: str
    since: int
    digest: str = ""
    loads: int = 0
    rescan: str = ""
    fields: str = ""  # digest of the column names, for files without a header
    sequence: str = ""  # empty when an earlier release wrote the position: the next change then counts as the first
    altered_until: str = ""  # time by the source's clock; earlier releases did not write it
    altered_xmax: int = 0

    @property
    def method(self) -> str:
        return f"files of {self.folder}"

    @property
    def statement(self) -> str:
        """The files that a run reads, in words."""
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
        """Return the position for a run with this snapshot: while a transaction below ``altered_xmax`` may still be
        open, ``altered_until`` moves on to the time of the snapshot."""
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
        found = not_a_heap(table, "DMS does not send its changes")
        arrays = [column.name for column in table.columns if column.is_array]
        if arrays:
            found.append(
                f"{table.qualified_name} has arrays, whose text DMS changes: exclude {', '.join(arrays)} under"
                " columns: exclude, or use watermark_type: logical"
            )
        added = {name.lower() for name in (OP, SEQUENCE, TIMESTAMP)}  # not every engine distinguishes case
        ours = [c.name for c in table.columns if c.name.lower() in added or c.name.lower().startswith(BEFORE)]
        if ours:
            found.append(
                f"{table.qualified_name} has columns with names that the DMS task adds to its files: {', '.join(ours)}"
            )
        return found

    def plan(self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation) -> ReadPlan:
        return scan(since, at)

    def advance(
        self, config: TableConfig, table: SourceTable, since: Since | None, at: Observation
    ) -> dict[str, object]:
        """Return the position after a scan, which reads no files. It stays where it was; after the first read of the
        table, or an ALTER, ``altered_until`` is the time of the snapshot."""
        before = position_in(config, since.watermark if since else None)
        value = replace(before, rescan="", loads=0).to_value() if before else {}
        if since is None or _is_altered(since.watermark.token, at.token):
            # ALTER TABLE waits for transactions that have written the table; ALTER TYPE does not.
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
    """Return whether the columns, the name, the files or the partitions of the table changed."""
    before, after = ((token.columns, token.named, token.members, token.attached) for token in (then, now))
    return before != after


def position_in(config: TableConfig, watermark: Watermark | None) -> FilesPosition | None:
    """Return the position in a watermark, None when no file of the table's folder was read yet."""
    if watermark is None or watermark.strategy != Dms.name or watermark.value.get("folder") != folder_of(config):
        return None
    return FilesPosition(**watermark.value)


def position_after_scan(config: TableConfig, watermark: Watermark | None, since: int) -> FilesPosition:
    """Return the position for the first run that reads files; the ledger counts for runs after ``since``."""
    value = watermark.value if watermark and watermark.strategy == Dms.name else {}
    altered = {name: value[name] for name in ("altered_until", "altered_xmax") if name in value}
    return FilesPosition(folder_of(config), since, **altered)


def folder_of(config: TableConfig) -> str:
    return f"{config.files}, {config.cdc_path}" if config.cdc_path else config.files or ""


def why_scan(
    position: FilesPosition | None, watermark: Watermark | None, findings: tuple[Finding, ...], token: Token
) -> str:
    """Return why the files alone do not bring the target up to date; empty when they do. Without a valid ``watermark``
    the files have to begin with a full load. ``token`` is the current one."""
    if position and position.rescan:
        return position.rescan
    if watermark and watermark.strategy != Dms.name:
        return "no files were applied yet"
    if watermark and (why := outdated(watermark.token, token)):
        return why
    if watermark and watermark.token.named != token.named:
        # A task that was started while the table had the other name sent no changes of it.
        return "the table was renamed, or had another name for a while"
    return next((found.text for found in findings if found.event not in _GO_ON), "")
