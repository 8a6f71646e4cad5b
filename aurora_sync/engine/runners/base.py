"""The interface of a runner: what is synced at once, and how.

A runner owns which tables go together, how their targets are brought up to date and compared, what the change sensor
looks at, and what `check` reports of their streams. It has no state: every method may be called again, and killed
anywhere, the next run ends at the same target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Generic, TypeVar

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import sync
from aurora_sync.engine.attempts import Start, repeated
from aurora_sync.engine.look import Look, looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan, RunOptions, plan_of_stream
from aurora_sync.engine.runners.member import Member, compared, scanned
from aurora_sync.engine.verify import not_compared
from aurora_sync.errors import AuroraSyncError, values_shown
from aurora_sync.model.manifest import TakenFile
from aurora_sync.model.receipt import Receipt
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.database import Source
from aurora_sync.strategies.position import Position
from aurora_sync.strategies.streaming import Streaming

OnReceipt = Callable[[Receipt], object]
OnProgress = Callable[[Progress], None] | None
M = TypeVar("M", bound=Member)
Scan = tuple[TableConfig, str]  # a table that must be scanned, and why


class Runner(ABC):
    marked_together = True  # whether one look shows the marks of many tables, or one look is for one table

    def shared_with(self, config: TableConfig) -> str | None:
        """The name of what brings the changes of several tables, which are therefore synced together: a replication
        slot. None: the table is synced by itself."""
        return None

    @abstractmethod
    def run(
        self,
        batch: Sequence[TableConfig],
        places: Places,
        on_receipt: OnReceipt,
        *,
        allow_deletes: bool = False,
        on_progress: OnProgress = None,
    ) -> None:
        """Bring the targets of tables that are synced together up to date; ``on_receipt`` is given one receipt for each
        table that was. Raises as :func:`aurora_sync.engine.sync.run` does."""

    @abstractmethod
    def verify(self, config: TableConfig, places: Places, *, on_progress: OnProgress = None) -> Receipt:
        """Apply the strategy's own increment and nothing else, and compare source and target in its snapshot. Raises
        NotComparedError where a run would scan or reconcile the table, or read it whole."""

    def preview(self, found: Look) -> tuple[Plan, str | None]:
        """What a run would do of which ``found`` is the look, and what it would ask a stream for; None where it would
        read the table."""
        return found.plan, None

    def marks(self, tables: Sequence[TableConfig], source: Source) -> dict[str, str]:
        """What tells, by table, whether others sent something new: another text than before. Empty where the source
        itself shows it. Raises SourceError, StageError or ConfigError."""
        return {}

    def problems(self, tables: Sequence[TableConfig], source: Source) -> Iterator[str]:
        """What is wrong with that which brings the tables' changes, a full sentence each."""
        yield from ()


class StreamRunner(Runner, Generic[M]):
    """A runner of tables whose changes others list: in a slot, a topic or files. What the list does not say is scanned,
    as a table by SELECT is."""

    def run(
        self,
        batch: Sequence[TableConfig],
        places: Places,
        on_receipt: OnReceipt,
        *,
        allow_deletes: bool = False,
        on_progress: OnProgress = None,
    ) -> None:
        """``allow_deletes`` lifts the delete guard of a scan; a stream has none, for it names what was deleted. What is
        wrong with one table is raised once all others have had their receipts."""
        scan = partial(sync.run, places=places, allow_deletes=allow_deletes, on_progress=on_progress)
        with values_shown(all(config.show_values for config in batch)):
            self.prepare(batch, places)
            shared = self.shared_with(batch[0])
            once = partial(self._attempt, batch, places, on_receipt, scan)
            repeated(once, RunOptions(), f"slot {shared}" if shared else batch[0].qualified_name)

    def verify(self, config: TableConfig, places: Places, *, on_progress: OnProgress = None) -> Receipt:
        self.assert_readable(config, places)
        with looking(config, places, RunOptions(verify=True)) as found:
            member = self.follow(found, places)
            if isinstance(member, str):
                raise not_compared(config, member)
            self.limit(member)
            receipts, scans = self.apply([member], places, may_forget=False)
            if member.fault:
                raise member.fault
            if scans:
                raise not_compared(config, scans[0][1])
            (receipt,) = receipts
            if why := self.left(member, receipt):
                raise not_compared(config, why)
            return compared(member, places, receipt)

    def preview(self, found: Look) -> tuple[Plan, str | None]:
        position, why = self.position(found)
        if position is None:
            return found.plan.because(f"scanned, not streamed: {why}"), None
        return plan_of_stream(found.config, found.plan, found.state, position), position.statement

    def prepare(self, batch: Sequence[TableConfig], places: Places) -> None:
        """Raise ConfigError where the source is not prepared for a run."""

    def assert_readable(self, config: TableConfig, places: Places) -> None:
        """Raise NotComparedError or ConfigError where nothing can be streamed, and change nothing."""

    def position(self, found: Look) -> tuple[Position | None, str]:
        """How far the target is in the stream; or None, and why the table must be scanned."""
        strategy, plan = found.plan.strategy, found.plan
        assert isinstance(strategy, Streaming)
        since = plan.verdict.since.watermark if plan.verdict.since else None
        why = strategy.why_scan(found.config, found.reading.table, since, plan.verdict.findings, plan.at) or plan.due
        return (None, why) if why else (strategy.position_in(since), "")

    @abstractmethod
    def follow(self, found: Look, places: Places) -> M | str:
        """The table as one that the stream brings up to date, or why it must be scanned."""

    @abstractmethod
    def apply(self, members: Sequence[M], places: Places, *, may_forget: bool) -> tuple[list[Receipt], list[Scan]]:
        """Apply the changes of all members but those that must be scanned, which it returns. What is wrong with one
        member is its ``fault``. ``may_forget``: whether the stream may forget what all targets have."""

    def limit(self, member: M) -> None:
        """Leave out of the member's changes what its snapshot does not see."""

    def left(self, member: M, receipt: Receipt) -> str:
        """Why the target may lack changes that the snapshot sees, after one run; empty where it lacks none."""
        return ""

    def lying(self, config: TableConfig) -> tuple[TakenFile, ...]:
        """Files of others that lie there before a scan begins, and whose changes it therefore has."""
        return ()

    def _attempt(
        self,
        batch: Sequence[TableConfig],
        places: Places,
        on_receipt: OnReceipt,
        scan: Callable[..., Receipt],
        start: Start,
    ) -> None:
        members: list[M] = []
        scans: list[Scan] = []
        failed: list[AuroraSyncError] = []
        for config in batch:
            try:
                found = self._look(config, places, start)
            except AuroraSyncError as error:
                if error.kind.retry:
                    raise
                failed.append(error)  # a person must mend this table, and the others do not wait for that
                continue
            if isinstance(found, str):
                scans.append((config, found))
            else:
                members.append(found)

        def scan_all(tables: Sequence[Scan]) -> None:
            for config, why in tables:
                full = config.qualified_name in start.changed
                try:
                    receipt = scan(config, full=full, taken=self.lying(config))
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
        if failed:
            for other in failed[1:]:
                failed[0].add_note(str(other))
            raise failed[0]

    def _look(self, config: TableConfig, places: Places, start: Start, *, by_log: bool = False) -> M | str:
        """The table as a member, or why it must be scanned; that never by a hint alone."""
        if config.qualified_name in start.changed:
            return "its target was changed"
        with looking(config, places, RunOptions(), trust_hint=start.trust_hint and not by_log) as found:
            member = self.follow(found, places)
        return self._look(config, places, start, by_log=True) if found.hinted and isinstance(member, str) else member


def problems_of(look: Callable[[], object]) -> list[str]:
    """What is wrong, as the error of ``look`` says: a line each. Empty where it ends without an error."""
    try:
        look()
    except AuroraSyncError as error:
        return str(error).split("\n")
    return []
