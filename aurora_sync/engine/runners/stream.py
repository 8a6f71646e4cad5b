"""The runner of tables whose changes are listed elsewhere: in a slot, a topic or files."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import sync
from aurora_sync.engine.attempts import Start, repeated
from aurora_sync.engine.load import chunk_bounds
from aurora_sync.engine.look import Look, looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, plan_of_stream
from aurora_sync.engine.runners.base import OnProgress, OnReceipt, Runner
from aurora_sync.engine.runners.member import Member, compared, scanned
from aurora_sync.engine.verify import not_compared
from aurora_sync.errors import AuroraSyncError, values_shown
from aurora_sync.model.manifest import TakenFile
from aurora_sync.model.receipt import Receipt
from aurora_sync.strategies.position import Position
from aurora_sync.strategies.streaming import Streaming

M = TypeVar("M", bound=Member)
Scan = tuple[TableConfig, str]  # a table that must be scanned, and the reason


class InChunks(str):
    """The reason of a scan that reads a large table in chunks, which may take days."""


class StreamRunner(Runner, Generic[M]):
    """A runner of tables whose changes are listed elsewhere: in a slot, a topic or files. Tables whose changes are not
    all listed are scanned by SELECT."""

    def run(
        self,
        batch: Sequence[TableConfig],
        places: Places,
        on_receipt: OnReceipt,
        *,
        allow_deletes: bool = False,
        on_progress: OnProgress = None,
    ) -> None:
        """Bring the batch up to date. ``allow_deletes`` disables the delete guard of scans; a stream has no guard
        because it names each deleted row. The error of one table is raised after all other tables have their
        receipts."""
        scan = partial(sync.run, places=places, allow_deletes=allow_deletes, on_progress=on_progress)
        with values_shown(all(config.show_values for config in batch)):
            self.prepare(batch, places)
            shared = self.shared_with(batch[0])
            once = partial(self._attempt, batch, places, on_receipt, scan)
            repeated(once, RunOptions(), f"slot {shared}" if shared else batch[0].qualified_name)

    def verify(self, config: TableConfig, places: Places, *, on_progress: OnProgress = None) -> Receipt:
        self.assert_readable(config, places)
        with looking(config, places, RunOptions(verify=True)) as found:
            member = self.member_or_scan(found, places)
            if isinstance(member, str):
                raise not_compared(config, member)
            self.restrict_to_snapshot(member)
            receipts, scans = self.apply([member], places, may_forget=False)
            if member.fault:
                raise member.fault
            if scans:
                raise not_compared(config, scans[0][1])
            (receipt,) = receipts
            if why := self.missing_after(member, receipt):
                raise not_compared(config, why)
            return compared(member, places, receipt)

    def preview(self, found: Look) -> tuple[Plan, str | None]:
        position, why = self.position(found)
        if position is None:
            return found.plan.because(f"scanned, not streamed: {why}"), None
        return plan_of_stream(found.config, found.plan, found.state, position), position.statement

    def prepare(self, batch: Sequence[TableConfig], places: Places) -> None:
        """Raise ConfigError when the source is not prepared for a run."""

    def assert_readable(self, config: TableConfig, places: Places) -> None:
        """Raise NotComparedError or ConfigError when nothing can be streamed. Changes nothing."""

    def position(self, found: Look) -> tuple[Position | None, str]:
        """Return the target's position in the stream; or None and the reason why the table must be scanned."""
        strategy, plan = found.plan.strategy, found.plan
        assert isinstance(strategy, Streaming)
        since = plan.verdict.since.watermark if plan.verdict.since else None
        why = strategy.why_scan(found.config, found.reading.table, since, plan.verdict.findings, plan.at) or plan.due
        return (None, why) if why else (strategy.position_in(since), "")

    @abstractmethod
    def member_or_scan(self, found: Look, places: Places) -> M | str:
        """Return the member that the stream brings up to date, or the reason why the table must be scanned."""

    @abstractmethod
    def apply(self, members: Sequence[M], places: Places, *, may_forget: bool) -> tuple[list[Receipt], list[Scan]]:
        """Apply the changes of the members, and return the receipts and the members that must be scanned instead.
        The error of one member becomes its ``fault``. ``may_forget``: the stream may discard changes that all
        targets have."""

    def restrict_to_snapshot(self, member: M) -> None:
        """Exclude changes that the member's snapshot does not see."""

    def missing_after(self, member: M, receipt: Receipt) -> str:
        """Return why the target may lack changes that the snapshot sees, after one run; empty when it has them all."""
        return ""

    def discard(self, tables: Sequence[TableConfig], places: Places) -> None:
        """Discard what the stream has so far, for tables that are all going to be scanned."""

    def files_before_scan(self, config: TableConfig) -> tuple[TakenFile, ...]:
        """Return the external files that exist before a scan begins; the scan therefore contains their changes."""
        return ()

    def _attempt(
        self,
        batch: Sequence[TableConfig],
        places: Places,
        on_receipt: OnReceipt,
        scan: Callable[..., Receipt],
        start: Start,
    ) -> None:
        members, scans, loads, failed = self._looked(batch, places, start)

        def scan_all(tables: Sequence[Scan]) -> None:
            for config, why in tables:
                full = config.qualified_name in start.changed
                try:
                    receipt = scan(config, full=full, taken=self.files_before_scan(config))
                except AuroraSyncError as error:
                    failed.append(error)
                else:
                    on_receipt(scanned(receipt, why))

        scan_all(scans)
        if members:
            receipts, unreadable = self.apply(members, places, may_forget=not (scans or failed))
            for receipt in receipts:
                on_receipt(receipt)
            scan_all(unreadable)
            failed += [member.fault for member in members if member.fault]
        # Last: the stream must flow meanwhile. It may discard the changes of a table that is being loaded, because the
        # last run of the load begins with a snapshot of its own.
        if loads and not (members or scans or failed):
            self.discard([config for config, _ in loads], places)
        scan_all(loads)
        _raise_first(failed)

    def _looked(
        self, batch: Sequence[TableConfig], places: Places, start: Start
    ) -> tuple[list[M], list[Scan], list[Scan], list[AuroraSyncError]]:
        """Return the members that the stream brings up to date, the tables to scan, those to read in chunks, and the
        errors of tables that wait for a person. Raises an error that allows a retry."""
        members: list[M] = []
        scans: list[Scan] = []
        loads: list[Scan] = []
        failed: list[AuroraSyncError] = []
        for config in batch:
            try:
                found = self._look(config, places, start)
            except AuroraSyncError as error:
                if error.kind.retry:
                    raise
                failed.append(error)  # this table waits for a person; the others go on
                continue
            if isinstance(found, InChunks):
                loads.append((config, found))
            elif isinstance(found, str):
                scans.append((config, found))
            else:
                members.append(found)
        return members, scans, loads, failed

    def _look(self, config: TableConfig, places: Places, start: Start, *, by_log: bool = False) -> M | str:
        """Return the table as a member, or the reason why it must be scanned. A reason that rests on a hint is checked
        against the sync log."""
        if config.qualified_name in start.changed:
            return "the target was modified outside of aurora_sync"
        with looking(config, places, RunOptions(), trust_hint=start.trust_hint and not by_log) as found:
            member = _in_chunks(found) or self.member_or_scan(found, places)
        return self._look(config, places, start, by_log=True) if found.hinted and isinstance(member, str) else member


def _in_chunks(found: Look) -> InChunks | None:
    """Return the reason why the table is read in chunks now; None when it is not."""
    if found.plan.load:
        return InChunks("a load in chunks is not finished")
    if chunk_bounds(found, RunOptions()):
        return InChunks("; ".join(found.plan.reasons) or "the target has no rows yet")
    return None


def _raise_first(failed: Sequence[AuroraSyncError]) -> None:
    """Raise the first error, with the others as its notes; return where there is none."""
    if failed:
        for other in failed[1:]:
            failed[0].add_note(str(other))
        raise failed[0]
