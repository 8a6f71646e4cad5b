"""A table that a stream of changes brings up to date: its staged changes, and its receipt.

slot.py handles all tables of a replication slot at once, topic.py one topic of Kafka, files.py the files of one task.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

from aurora_sync.engine.finish import Outcome, finish
from aurora_sync.engine.look import Look
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import plan_of_stream
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.verify import compare_contents
from aurora_sync.errors import SourceError
from aurora_sync.model.manifest import Manifest, Part
from aurora_sync.model.receipt import Adjusted, Applied, Receipt
from aurora_sync.source.decoding import is_utf8, shown
from aurora_sync.source.net_changes import NetChanges, NotUtf8Error
from aurora_sync.stage.writer import Attempt
from aurora_sync.strategies.position import Position
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.query_tag import QueryTag

# The limit of pending changes in memory. Beyond it, the changes of the largest table are staged as a separate part.
PENDING_BYTES = 256_000_000


@dataclass(kw_only=True)
class Member(Look):
    """One table of a stream. ``plan`` is the plan of a scan until :meth:`reach` makes it that of the stream."""

    staged: Manifest | None = None  # the manifest of its staged changes
    uri: str | None = None
    fault: SourceError | None = None  # the error that stops this table, but not the others of its slot

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        """The values that were adjusted before they were staged."""
        return ()

    def reach(self, position: Position) -> None:
        """Make the plan that of a stream that was read up to ``position``."""
        self.plan = plan_of_stream(self.config, self.plan, self.state, position)

    def left_as_it_was(self) -> Manifest:
        """Return the manifest of a run that had nothing to stage. It is not written; its watermark is the one before
        the run."""
        manifest = self.manifest(prefix="", files=())
        before = self.state.watermark
        return manifest if before is None else dataclasses.replace(manifest, watermark_after=before)

    def receipt(
        self,
        applied: Applied | None,
        places: Places,
        watch: Stopwatch,
        warnings: tuple[str, ...],
        oldest: datetime | None,
    ) -> Receipt:
        """Finish the run and return its receipt. ``oldest`` is the commit time of the oldest change that was not in the
        target."""
        manifest = self.staged or self.left_as_it_was()
        outcome = Outcome(
            manifest=manifest,
            applied=applied if self.staged else None,
            uri=self.uri,
            watch=watch,
            warnings=warnings,
            adjusted=self.adjusted,
        )
        receipt = finish(self, places, outcome)
        if oldest is None:
            return receipt
        waited = (self.plan.at.snapshot.taken_at - oldest).total_seconds()
        return dataclasses.replace(receipt, waited_seconds=max(0.0, waited))


@dataclass(kw_only=True)
class ChangeMember(Member):
    """A table whose stream is read one change at a time and staged as net changes."""

    changes: NetChanges
    files: Attempt | None = None
    history: Attempt | None = None
    parts: list[Part] = field(default_factory=list)

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        return self.changes.adjusted

    def write(self, places: Places, attempts: ExitStack) -> None:
        """Stage the pending changes as a separate part; discard them once there is a fault."""
        try:
            if not self.fault:
                self.parts.append(self.changes.write(self._files(places, attempts).write, len(self.parts)))
        except NotUtf8Error as error:
            self.fault = self._not_utf8(error.row)
        if self.fault:
            self.changes.truncate()

    def record(self, places: Places, attempts: ExitStack, row: bytes) -> None:
        """Stage one row of the history."""
        if self.fault is None and not is_utf8(row):
            self.fault = self._not_utf8(row)
        if self.history is None:
            history = places.stage.history(self._files(places, attempts))
            self.history = attempts.enter_context(history)
        self.history.write(row)

    def _not_utf8(self, row: bytes) -> SourceError:
        """Return the error for a CSV row that begins with the table's columns."""
        (values,) = csv.reader([row.decode("latin-1")])
        columns = [column.name for column in self.plan.columns]
        named = {name: value.encode("latin-1") for name, value in zip(columns, values, strict=False)}
        key = ", ".join(f"{name} {shown(named[name])}" for name in self.plan.key)
        found = ", ".join(name for name, value in named.items() if not is_utf8(value))
        return SourceError(
            f"a value of column {found} has bytes that are not UTF-8",
            where=self.config.qualified_name,
            hint="correct the value and run again (show_values: true in tables.yaml shows the key of its row); if"
            " the log still has the old value, run `aurora-sync sync --full`",
            values=key,
        )

    def close(self, places: Places, attempts: ExitStack) -> None:
        """Stage the remaining changes as the last part, and one empty part when there were none at all."""
        if self.changes or not self.parts:
            self.write(places, attempts)
        assert self.files is not None
        self.files.close()
        if self.history:
            self.history.close()

    def commit(self, places: Places) -> None:
        if self.fault:
            raise self.fault
        assert self.files is not None
        history = self.history.files if self.history else ()
        self.staged = self.manifest(
            prefix=self.files.prefix, files=self.files.files, parts=tuple(self.parts), history=history
        )
        self.uri = places.stage.commit(self.staged)

    def _files(self, places: Places, attempts: ExitStack) -> Attempt:
        if self.files is None:
            attempt = places.stage.attempt(self.config.qualified_name, self.load_id)
            self.files = attempts.enter_context(attempt)
        return self.files


def compared(member: Member, places: Places, receipt: Receipt) -> Receipt:
    """Compare the target in the snapshot of the member's look, after its changes were applied. Returns ``receipt`` with
    the result."""
    manifest = member.staged or member.left_as_it_was()
    queries = [*receipt.queries]
    found = compare_contents(
        member.config, places, member.reading, member.plan, manifest, receipt.run_sequence, queries
    )
    return dataclasses.replace(receipt, verification=found, queries=tuple(queries))


def scanned(receipt: Receipt, why: str) -> Receipt:
    """Return the receipt of a scan that replaced the stream, with the reason."""
    text = f"scanned, not streamed: {why}"
    more = receipt.because if receipt.because not in why else ""
    because = "; ".join(filter(None, (text, more)))
    return dataclasses.replace(receipt, because=because, warnings=(text, *receipt.warnings))


def apply_changes(moved: Sequence[ChangeMember], places: Places) -> dict[str, Applied]:
    """Apply the changes of all members or of none, in one transaction. Returns the result by load id."""
    increments = [
        StagedIncrement(each.config, each.staged, each.plan.strategy.name, as_found=each.plan.verifies)
        for each in moved
        if each.staged
    ]
    if not increments:
        return {}
    with places.warehouse.session(query_tag=QueryTag("load")) as session:
        applied = apply_all(session, increments, places.stage.store, log_schema=places.log_schema)
    return {increment.manifest.load_id: done for increment, done in zip(increments, applied, strict=True)}
