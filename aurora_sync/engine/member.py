"""A table that a stream of changes brings up to date: from the look at it to its receipt.

runners/slot.py does this for all tables of a replication slot at once, runners/topic.py for one table of Kafka.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import hints, sync
from aurora_sync.engine.finish import receipt_of, with_adjusted
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan
from aurora_sync.engine.stopwatch import Stopwatch
from aurora_sync.engine.verify import verify
from aurora_sync.errors import RivalRunError, SourceError, TargetChangedError, values_shown
from aurora_sync.model import foreign_text
from aurora_sync.model.manifest import Disposition, Manifest, Part, TakenFile
from aurora_sync.model.receipt import Adjusted, Applied, Receipt
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.state import State
from aurora_sync.source.decoding import is_utf8, shown
from aurora_sync.source.net_changes import NetChanges, NotUtf8Error
from aurora_sync.source.reading import Reading
from aurora_sync.stage.layout import new_load_id
from aurora_sync.stage.writer import Attempt
from aurora_sync.strategies import identity, streaming
from aurora_sync.strategies.base import ReadPlan
from aurora_sync.strategies.certificate import certify
from aurora_sync.strategies.streaming import Streaming
from aurora_sync.warehouse.apply import StagedIncrement, apply_all

logger = foreign_text.logger(__name__)
T = TypeVar("T")


class Position(Protocol):
    """How far into a stream a target is."""

    @property
    def method(self) -> str: ...

    @property
    def bound(self) -> str: ...

    @property
    def gap(self) -> str: ...

    def to_value(self) -> dict[str, Any]: ...


# Of pending changes in memory; past that, those of the largest table are staged as a part of their own.
PENDING_BYTES = 256_000_000


@dataclass(kw_only=True)
class Member:
    """One table. ``plan`` is that of a scan, and becomes that of a stream with :meth:`reach`."""

    config: TableConfig
    state: State
    hinted: datetime | None
    plan: Plan
    as_found: bool = False  # to be compared, whatever rows its target holds
    load_id: str = field(default_factory=new_load_id)
    manifest: Manifest | None = None
    uri: str | None = None

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        """Values that were others before they came to the warehouse."""
        return ()

    def reach(self, position: Position) -> None:
        """The stream was read up to there."""
        self.plan = plan_of_stream(self.config, self.plan, self.state, position)

    def manifest_of(self, **what: Any) -> Manifest:
        """Without a ``prefix`` it is written nowhere, and the watermark stays."""
        plan, state = self.plan, self.state
        after = plan.after(identity.canaries(state.watermark, plan.at, ()))
        return Manifest(
            **{"prefix": "", "files": (), **what},
            table=self.config.qualified_name,
            load_id=self.load_id,
            disposition=Disposition.CHANGES,
            columns=plan.columns,
            key=plan.key,
            watermark_before=state.watermark,
            watermark_after=after if what or state.watermark is None else state.watermark,
            expected_sequence=state.run_sequence,
            expected_load_id=state.load_id,
            certificate=plan.certificate,
        )

    def receipt(
        self,
        applied: Applied | None,
        places: Places,
        watch: Stopwatch,
        warnings: tuple[str, ...],
        oldest: datetime | None,
    ) -> Receipt:
        """Leaves a hint as well. ``oldest`` is when the first change that was not in the target was committed."""
        config, plan, manifest, state = self.config, self.plan, self.manifest, self.state
        if applied and manifest:
            applied, more = with_adjusted(config, applied, self.adjusted)
            warnings += more
            state = State(
                applied.run_sequence,
                manifest.watermark_after,
                self.load_id,
                applied.target_rows,
                datetime.now(UTC),
                state.reconciled,
            )
        else:
            state = dataclasses.replace(state, idle_runs=state.idle_runs + 1)
        every = config.reconcile and config.reconcile.every
        if not self.as_found and (applied or self.hinted is None or every):
            warnings += hints.leave_hint(config, places, state, self.uri, None if applied else self.hinted)
        manifest = manifest or self.manifest_of()
        receipt = receipt_of(config, plan, manifest, state, applied, None, None, self.uri, watch, warnings)
        if oldest is None:
            return receipt
        waited = (plan.at.snapshot.taken_at - oldest).total_seconds()
        return dataclasses.replace(receipt, waited_seconds=max(0.0, waited))


@dataclass(kw_only=True)
class Streamed(Member):
    """And what its stream has brought so far."""

    changes: NetChanges
    attempt: Attempt | None = None
    history: Attempt | None = None
    parts: list[Part] = field(default_factory=list)
    fault: SourceError | None = None  # why this table cannot go on, while the others of its slot do

    @property
    def adjusted(self) -> tuple[Adjusted, ...]:
        return self.changes.adjusted

    def write(self, places: Places, attempts: ExitStack) -> None:
        """Stage what is pending as a part of its own; throw it away once there is a fault."""
        try:
            if not self.fault:
                self.parts.append(self.changes.write(self._attempt(places, attempts).write, len(self.parts)))
        except NotUtf8Error as error:
            self.fault = self._not_utf8(error.row)
        if self.fault:
            self.changes.truncate()

    def record(self, places: Places, attempts: ExitStack, row: bytes) -> None:
        """Stage a change for the history."""
        if self.fault is None and not is_utf8(row):
            self.fault = self._not_utf8(row)
        if self.history is None:
            history = places.stage.history(self._attempt(places, attempts))
            self.history = attempts.enter_context(history)
        self.history.write(row)

    def _not_utf8(self, row: bytes) -> SourceError:
        """The error of a row of CSV that begins with the table's columns."""
        (values,) = csv.reader([row.decode("latin-1")])
        columns = [column.name for column in self.plan.columns]
        named = {name: value.encode("latin-1") for name, value in zip(columns, values, strict=False)}
        key = ", ".join(f"{name} {shown(named[name])}" for name in self.plan.key)
        found = ", ".join(name for name, value in named.items() if not is_utf8(value))
        return SourceError(
            f"a value of column {found} has bytes that are not UTF-8",
            where=self.config.qualified_name,
            hint="correct the value and run again (show_values: true in tables.yaml shows the key of its row); where"
            " the log still has it, as an older change of the history or of a key, `aurora-sync sync --full` goes on",
            values=key,
        )

    def close(self, places: Places, attempts: ExitStack) -> None:
        """Stage the rest, which may be nothing at all."""
        if self.changes or not self.parts:
            self.write(places, attempts)
        assert self.attempt is not None
        self.attempt.close()
        if self.history:
            self.history.close()

    def commit(self, places: Places) -> None:
        if self.fault:
            raise self.fault
        assert self.attempt is not None
        history = self.history.files if self.history else ()
        self.manifest = self.manifest_of(
            prefix=self.attempt.prefix, files=self.attempt.files, parts=tuple(self.parts), history=history
        )
        self.uri = places.stage.commit(self.manifest)

    def _attempt(self, places: Places, attempts: ExitStack) -> Attempt:
        if self.attempt is None:
            attempt = places.stage.attempt(self.config.qualified_name, self.load_id)
            self.attempt = attempts.enter_context(attempt)
        return self.attempt


def compared(member: Member, places: Places, reading: Reading, receipt: Receipt) -> Receipt:
    """The receipt of a member whose changes are applied, with its target compared in the snapshot of ``reading``."""
    manifest = member.manifest or member.manifest_of()
    found = verify(member.config, places, reading, member.plan, manifest, receipt.run_sequence)
    return dataclasses.replace(receipt, verification=found)


def starting_again(once: Callable[[set[str], bool], None], what: str) -> None:
    """Call ``once`` until no rival run and no changed target is in its way: twice at most for each table.

    It is given the tables whose target is not as their last run left it, and whether hints may be trusted.
    """
    changed: set[str] = set()
    trust_hint = True
    while True:
        try:
            once(changed, trust_hint)
            return
        except (RivalRunError, TargetChangedError) as error:
            rival = isinstance(error, RivalRunError)
            if error.where in changed or (rival and not trust_hint):
                raise
            logger.warning("%s: starting again from the sync log: %s", what, error)
            if not rival:  # a look at the target need not show it again: columns may have been added meanwhile
                changed.add(error.where)
        trust_hint = False


def follow(
    config: TableConfig,
    places: Places,
    on_receipt: Callable[[Receipt], object],
    look: Callable[[TableConfig, Places, bool], T | str],
    read: Callable[[T, Places], Receipt | str],
    *,
    lying: Callable[[], tuple[TakenFile, ...]] = tuple,
    **options: Any,
) -> None:
    """Bring one table up to date: by ``read``, or by a scan where ``look`` or ``read`` says why. ``look`` is told
    whether it may trust a hint; ``lying`` lists the files that lie there before a scan begins, and whose changes it
    therefore has; ``options`` are those of sync.run."""

    def once(changed: set[str], trust_hint: bool) -> None:
        full = config.qualified_name in changed
        found = "its target was changed" if full else look(config, places, trust_hint)
        done = found if isinstance(found, str) else read(found, places)
        if isinstance(done, str):
            done = scanned(sync.run(config, places, full=full, taken=lying(), **options), done)
        on_receipt(done)

    with values_shown(config.show_values):
        starting_again(once, config.qualified_name)


def scanned(receipt: Receipt, why: str) -> Receipt:
    """The receipt of a scan that took the place of the stream."""
    text = f"scanned, not streamed: {why}"
    more = receipt.because if receipt.because not in why else ""
    because = "; ".join(filter(None, (text, more)))
    return dataclasses.replace(receipt, because=because, warnings=(text, *receipt.warnings))


def where_to_stream_from(
    config: TableConfig, table: SourceTable, plan: Plan, state: State
) -> tuple[streaming.StreamPosition | None, str]:
    """The target's position in the stream, or None and why the table must be scanned."""
    strategy, since = plan.strategy, plan.verdict.since.watermark if plan.verdict.since else None
    assert isinstance(strategy, Streaming)
    why = strategy.why_scan(config, table, since, plan.verdict.findings, plan.at)
    why = why or plan.due
    return (None, why) if why else (strategy.position_in(since), "")


def plan_of_stream(config: TableConfig, plan: Plan, state: State, position: Position) -> Plan:
    """The plan of a scan as that of a stream which is applied as far as the position. With a gap, of which the next
    run makes a scan, nothing is certified."""
    doubts = (position.gap,) if position.gap else ()
    read = ReadPlan(None, Disposition.CHANGES, position.method, bound=position.bound, doubts=doubts)
    value = position.to_value()
    return dataclasses.replace(
        plan,
        read=read,
        reconcile=False,
        certificate=certify(
            config,
            plan.strategy,
            read,
            plan.at,
            plan.verdict.findings,
            value,
            reconciled=state.reconciled,
            now=False,
        ),
        watermark=dataclasses.replace(plan.watermark, value=value, lags=bool(position.bound)),
    )


def apply_streamed(moved: Sequence[Streamed], places: Places, query_tag: str) -> dict[str, Applied]:
    """All or none, in one transaction. By load id."""
    increments = [
        StagedIncrement(each.config, each.manifest, each.plan.strategy.name, as_found=each.as_found)
        for each in moved
        if each.manifest
    ]
    if not increments:
        return {}
    with places.warehouse.session(query_tag=query_tag) as session:
        applied = apply_all(session, increments, places.stage.store, log_schema=places.log_schema)
    return {increment.manifest.load_id: done for increment, done in zip(increments, applied, strict=True)}
