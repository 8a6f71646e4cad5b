"""The parts shared by the dispositions, which define what an increment does to its target in the transaction of the
merge.

Each disposition is one function, ``write``, that takes a staged increment: in upsert.py, append.py, replace.py and
changes.py. apply.py calls it between the compare-and-set and the row of the sync log.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import datetime

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import GuardError
from aurora_sync.model.load import Load
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.reload import RowRange
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.bounds import Bound
from aurora_sync.warehouse.ddl import Layout
from aurora_sync.warehouse.sync_log import Count


@dataclass(frozen=True)
class Merging:
    """A staged increment in the transaction that merges it."""

    session: Session
    config: TableConfig
    layout: Layout
    manifest: Manifest
    sequence: int
    now: datetime
    before: Count  # of the target
    allow_deletes: bool
    bounds: tuple[Bound, ...]
    load: Load | None = None  # the load in chunks that the target was left in
    unchecked: bool = False  # the rows are checked while they are written

    @property
    def within(self) -> str:
        """The bounds of the staged keys, as a condition on the target ``t``; empty when there are none."""
        return " AND ".join(bound.on("t") for bound in self.bounds)

    @property
    def written(self) -> tuple[int, str]:
        """The parameters of a statement that writes rows."""
        return self.sequence, sync_log.as_text(self.now)

    @property
    def marking(self) -> tuple[int, str] | tuple[()]:
        """The parameters of a statement that deletes or marks rows."""
        return self.written if self.layout.soft else ()

    def count(self) -> Count:
        return sync_log.count(self.session, self.layout.target, marks=self.layout.marks)


@dataclass(frozen=True)
class Written:
    """The numbers of rows that a disposition inserted and updated, and of those that are no longer present."""

    inserted: int
    updated: int = 0
    deleted: int = 0
    removed: int = 0  # the deleted rows that were removed, not marked
    left: int | None = None  # what is left of the written rows, if a later part rewrote or deleted some of them
    whole: int | None = None  # the number of present rows that the target must hold now; None: not known


def guard_deletes(merging: Merging, removed: int) -> None:
    """Raise GuardError when more rows are removed than the table's delete guard allows, or when the source is empty."""
    if merging.allow_deletes or (merging.load and not merging.load.replaces):
        return  # every row of the target was read by the load itself
    manifest, target, present = merging.manifest, merging.layout.target, merging.before.present
    allowed = merging.config.delete_guard.allowed(present)
    if present and not (manifest.source_rows if manifest.repaired else manifest.rows):
        raise GuardError(
            f"the source is empty, so this run would empty {target}, which has {present} rows",
            where=manifest.table,
            hint=f"nothing was applied; if the source is empty on purpose, {_allowing(manifest)}",
        )
    if removed > allowed:
        raise GuardError(
            f"this run would remove {removed} of the {present} rows of {target}, but delete_guard allows {allowed}",
            where=manifest.table,
            hint=f"nothing was applied; if the rows were deleted on purpose, {_allowing(manifest)}, or raise"
            " delete_guard (max_rows, max_share) in tables.yaml",
        )


def guard_range(merging: Merging, rows: RowRange, removed: int) -> None:
    """Raise GuardError when a range that was read again loses more rows than the delete guard of the table allows."""
    allowed = merging.config.delete_guard.allowed(merging.before.present)
    if removed > allowed and not merging.allow_deletes:
        raise GuardError(
            f"the source does not have {removed} rows that {merging.layout.target} has with {rows}, but delete_guard"
            f" allows {allowed} deletes",
            where=merging.manifest.table,
            hint="nothing was applied; if the rows were deleted on purpose, reload with --allow-deletes (in Dagster:"
            " allow_deletes in the launchpad)",
        )


def modified_outside(manifest: Manifest) -> str:
    """Return the hint for a target that was dropped, restored or edited since the last run."""
    command = f"aurora-sync sync --full {shlex.quote(manifest.table)}"
    return f"the target was modified outside of aurora_sync; `{command}` reads the whole table again"


def _allowing(manifest: Manifest) -> str:
    """Return the command that allows all deletes of one run."""
    command = "reconcile" if manifest.repaired else "sync"
    table = shlex.quote(manifest.table)
    return f"run `aurora-sync {command} --allow-deletes {table}` once (in Dagster: allow_deletes in the launchpad)"
