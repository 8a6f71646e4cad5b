"""Reconcile: find and repair what a strategy cannot see, such as deletes, lost rows and stale rows.

After an increment is staged, two things show the same logical instant: the target as the merge will leave it, and the
source's snapshot that the increment was read in. Every difference is therefore real (correctness.md, section 6). Both
sides sum the versions (xmin) of their rows over buckets of the key. Buckets that differ are split and summed again. The
rows of the remaining buckets are read from the same snapshot, staged beside the increment, and applied in its
transaction. In those buckets, a target row that is not staged is not in the source.

A stream does not show which subtransaction wrote a row, so tables of streams are compared by content.

A reconcile by version does not see a row that was edited in the target with _SRC_XMIN unchanged; verify does.
"""

from __future__ import annotations

import dataclasses
import shlex

from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.difference import by_content, by_version, comparable
from aurora_sync.engine.plan import Plan
from aurora_sync.model import foreign_text
from aurora_sync.model.buckets import Buckets
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.receipt import Repair
from aurora_sync.source.reading import Reading
from aurora_sync.source.sums import within
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse import sums
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import Layout

logger = foreign_text.logger(__name__)


class Reconciliation:
    """The comparison that warehouse/apply.py calls between staging an increment and its transaction; for one use.

    It needs a merge key. The source's snapshot must stay open until it has been called.
    """

    def __init__(self, config: TableConfig, stage: Stage, reading: Reading, plan: Plan, manifest: Manifest) -> None:
        self.manifest = manifest
        self.warnings: tuple[str, ...] = ()
        self._config = config
        self.uri: str | None = None
        self.repair: Repair | None = None
        self._stage, self._reading, self._plan = stage, reading, plan

    def __call__(self, session: Session, layout: Layout) -> Manifest:
        """Compare, stage the rows that differ, and commit and return the manifest of everything staged."""
        strategy = self._plan.strategy
        # Every row of a load in chunks was read by SELECT, and so has the xmin of its source row.
        versions = strategy.keeps_xmin or self._plan.load or not comparable(layout)
        compare = by_version if versions else by_content
        found = compare(session, layout, self._reading, self._plan)
        lost = stale = 0
        before = self.manifest.rows
        if found.buckets:
            counted = session.query(sums.count_differences(layout, found.buckets))[0]
            self._stage_rows(session, layout, found.buckets)
            now = session.query(sums.count_differences(layout, found.buckets))[0]
            lost, stale = int(now[0]) - int(counted[0]), int(now[1]) - int(counted[1])
        ghosts = found.target_rows + lost - found.source_rows
        self.repair = Repair(found.compared, found.differing, self.manifest.rows - before, lost, stale, ghosts)
        if ghosts > self._config.delete_guard.allowed(found.target_rows) and not self._plan.enforce_guard:
            self._leave_ghosts(ghosts)
        else:
            self.manifest = dataclasses.replace(self.manifest, source_rows=found.source_rows, repaired=found.buckets)
        self.uri = self._stage.commit(self.manifest)
        return self.manifest

    def _leave_ghosts(self, ghosts: int) -> None:
        """Leave the deletes out of this run, with a warning. Nobody requested this reconcile, for example after a
        restart of the server, so the guard must not stop the table."""
        self.warnings = (
            f"{ghosts:,} rows of the target are not in the source, and were kept because delete_guard allows fewer"
            " deletes; to remove them run"
            f" `aurora-sync reconcile --allow-deletes {shlex.quote(self._config.qualified_name)}`",
        )
        seen = tuple(change for change in self.manifest.certificate.changes if change != "deletes")
        certificate = dataclasses.replace(self.manifest.certificate, changes=seen)
        self.manifest = dataclasses.replace(self.manifest, certificate=certificate)

    def _stage_rows(self, session: Session, layout: Layout, found: Buckets) -> None:
        """Stage every row of these buckets that the increment does not already contain."""
        table, increment = self._reading.table, self._plan.read.where
        assert increment is not None  # a whole read needs no repair
        where = sql.SQL("({}) AND ({}) IS NOT TRUE").format(within(table, self._plan.key, found), increment)
        with self._stage.more(self.manifest) as attempt:
            exported = self._reading.export(self._reading.statement(self._plan.columns, where), attempt)
        self._reading.long_values(self._plan.columns, self._plan.key, where, longest_row=exported.longest)
        more = dataclasses.replace(self.manifest, files=attempt.files)
        session.load(layout.staging.sql, more, self._stage.store)
        self.manifest = dataclasses.replace(self.manifest, files=self.manifest.files + attempt.files)
