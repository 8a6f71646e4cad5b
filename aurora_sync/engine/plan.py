"""What one run is going to do, decided in the open snapshot before a row has moved."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight
from aurora_sync.errors import ConfigError
from aurora_sync.model.certificate import Action, Certificate, Reconciled
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Evolution, TakenFile
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Canary, Watermark
from aurora_sync.source.reading import Reading
from aurora_sync.strategies import schema_changes as schema
from aurora_sync.strategies import strategy_of
from aurora_sync.strategies.base import ReadPlan, Strategy
from aurora_sync.strategies.certificate import certify
from aurora_sync.strategies.identity import Verdict, covers, judge
from aurora_sync.strategies.position import Position
from aurora_sync.strategies.schema_changes import UNCHANGED, SchemaChanges
from aurora_sync.warehouse.types import type_rule


@dataclass(frozen=True)
class RunOptions:
    """What a person or a schedule asked of a run, beyond bringing the target up to date."""

    full: bool = False
    reconcile: bool = False
    allow_deletes: bool = False
    verify: bool = False
    because: str = ""  # why the run reads the whole table, when it was not asked to
    as_text: frozenset[str] = frozenset()  # arrays that are read as the text which PostgreSQL prints
    taken: tuple[TakenFile, ...] = ()  # files of others whose changes the snapshot has


@dataclass(frozen=True)
class Plan:
    """``due`` says why a reconcile is wished or due, ``reconcile`` whether the target is to be compared with the
    source, and repaired, in this run's snapshot."""

    strategy: Strategy
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    at: Observation
    verdict: Verdict
    read: ReadPlan
    due: str
    reconcile: bool
    verifies: bool  # and repairs nothing
    enforce_guard: (
        bool  # a reconcile that a person, the schedule or a TRUNCATE asks for: more deletes than allowed fail it
    )
    certificate: Certificate
    watermark: Watermark  # once the increment is applied; its canaries are known after the export
    evolution: Evolution  # of the target's columns

    @property
    def warnings(self) -> tuple[str, ...]:
        found = tuple(finding.text for finding in self.verdict.findings)
        return (
            found
            + self.read.reasons
            + self.read.warnings
            + tuple(f"not certified: {doubt}" for doubt in self.read.doubts)
        )

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why more is read than the strategy's own increment; all of them are among the warnings."""
        reseeds = tuple(found.text for found in self.verdict.findings if found.action is Action.RESEED)
        return (() if self.strategy.reads_whole else reseeds) + self.read.reasons

    def because(self, reason: str) -> Plan:
        return dataclasses.replace(self, read=self.read.because(reason))

    def after(self, canaries: tuple[Canary, ...]) -> Watermark:
        return dataclasses.replace(self.watermark, canaries=canaries)


def plan_increment(config: TableConfig, reading: Reading, state: State, options: RunOptions) -> Plan:
    """Open the snapshot and decide what to read and what to remember. Raises ConfigError when table and
    configuration do not fit."""
    strategy, table = strategy_of(config), reading.table
    if problems := preflight.problems(config, table, strategy):
        raise ConfigError(problems, where=config.qualified_name)
    columns, key = preflight.selected_columns(config, table), preflight.merge_key(config, table)
    token = state.watermark.token if state.watermark else None
    at = reading.observe(strategy.fence(config), max_minutes=config.max_snapshot_minutes, last=token)

    due = "" if options.verify else why_due(config, state)
    if options.reconcile:
        due = "a reconcile was asked for"
    # Rows without a key are compared by reading them.
    stored = None if options.full or (due and not key) else state.watermark
    columns = schema.read_as_text(columns, state.watermark, at, options.as_text)
    columns, changes = _schema_changes(config, columns, key, state.watermark, at, reading, options)
    changes = dataclasses.replace(changes, findings=schema.table_renamed(config, state, at) + changes.findings)
    verdict, at = _judged(config, columns, key, stored, changes, at, reading)
    if due and verdict.since:
        verdict = dataclasses.replace(verdict, since=dataclasses.replace(verdict.since, only_scan=due))
    read, reconcile = _read(config, table, columns, state, options, verdict, at)
    reconcile = reconcile or (bool(due) and read.disposition is Disposition.UPSERT)
    value = strategy.advance(config, table, verdict.since, at)
    compared = reconcile or read.where is None
    inherited = verdict.since.watermark.doubts if verdict.since else ()
    doubts = () if compared else tuple(dict.fromkeys((*inherited, *read.doubts)))
    read = dataclasses.replace(read, doubts=doubts)
    last = Reconciled(state.run_sequence + 1, at.snapshot.taken_at) if compared else state.reconciled
    certificate = certify(config, strategy, read, at, value, reconciled=last, now=compared)
    return Plan(
        strategy=strategy,
        columns=columns,
        key=key,
        at=at,
        verdict=verdict,
        read=read,
        due=due,
        reconcile=reconcile,
        verifies=options.verify,
        enforce_guard=(bool(due) and not state.edited) or verdict.rows_are_gone or strategy.sees_deletes,
        certificate=dataclasses.replace(certificate, findings=verdict.findings),
        watermark=Watermark(
            strategy.name,
            value,
            at.snapshot,
            at.token,
            covers(config, strategy),
            columns=schema.known_columns(columns, key),
            doubts=doubts,
        ),
        evolution=changes.evolution,
    )


def plan_of_stream(config: TableConfig, plan: Plan, state: State, position: Position) -> Plan:
    """The plan of a scan as that of a stream which is applied as far as the position. With a gap, of which the next
    run makes a scan, nothing is certified."""
    doubts = (position.gap,) if position.gap else ()
    read = ReadPlan(None, Disposition.CHANGES, position.method, bound=position.bound, doubts=doubts)
    value = position.to_value()
    certificate = certify(config, plan.strategy, read, plan.at, value, reconciled=state.reconciled, now=False)
    return dataclasses.replace(
        plan,
        read=read,
        reconcile=False,
        certificate=dataclasses.replace(certificate, findings=plan.verdict.findings),
        watermark=dataclasses.replace(plan.watermark, value=value, lags=bool(position.bound)),
    )


def _read(
    config: TableConfig,
    table: SourceTable,
    columns: tuple[Column, ...],
    state: State,
    options: RunOptions,
    verdict: Verdict,
    at: Observation,
) -> tuple[ReadPlan, bool]:
    """What to read, and whether what was found calls for a comparison of the target with the source."""
    strategy, since = strategy_of(config), verdict.since
    read = strategy.plan(config, table, since, at)
    lags = since is not None and since.watermark.lags
    doubted = since is not None and bool(since.watermark.doubts)
    uncompared = _uncompared(strategy, columns) if options.reconcile or state.edited or lags or doubted else ()
    if uncompared and read.disposition is Disposition.UPSERT:
        read = ReadPlan(None, Disposition.REPLACE, "whole table", log_position=read.log_position).because(
            f"reading the whole table: sums do not compare {', '.join(uncompared)}"
        )
    text = options.because
    if state.watermark is None and state.run_sequence:
        text = f"the target is not as it was left: {state.edited}; reading the whole table again"
    if text or state.edited:
        read = read.because(text or state.edited)
    # What sees deletes elsewhere would miss those that a scan passes over.
    reconcile = lags or verdict.reconcile or strategy.sees_deletes
    return read, reconcile and read.disposition is Disposition.UPSERT


def _uncompared(strategy: Strategy, columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Columns in which a reconcile finds no difference. It sums versions where the target has them, else contents, and
    source and warehouse print these in different forms."""
    return () if strategy.keeps_xmin else tuple(column.name for column in columns if not type_rule(column).form)


def why_due(config: TableConfig, state: State) -> str:
    """Why this run is to compare the target with the source: the target is not as it was left, or this is the k-th run
    since the last reconcile, or full read, of ``reconcile: {every: k}``. Empty where it is not."""
    return state.edited or ("a reconcile is due" if runs_until_reconcile(config, state) == 0 else "")


def runs_until_reconcile(config: TableConfig, state: State) -> int | None:
    """How many runs come before the one that is due, idle ones included; None where they are not counted."""
    if config.reconcile is None or config.reconcile.every is None:
        return None
    last = state.reconciled.run_sequence if state.reconciled else 0
    return max(0, config.reconcile.every - (state.run_sequence - last + state.idle_runs + 1))


def source_count(config: TableConfig, state: State, reading: Reading, plan: Plan) -> int | None:
    """What the target should hold afterwards, counted in the same snapshot, at every k-th run as configured."""
    check = config.checks.row_count
    if not check.enabled or (state.run_sequence + 1) % check.every:
        return None
    return reading.count(plan.read.scope)


def _judged(
    config: TableConfig,
    columns: tuple[Column, ...],
    key: tuple[str, ...],
    stored: Watermark | None,
    changes: SchemaChanges,
    at: Observation,
    reading: Reading,
) -> tuple[Verdict, Observation]:
    """The verdict on the stored watermark; its canaries are read with the columns that they were made of, and then,
    for those of the next watermark, with today's."""
    if stored is None:
        return judge(None, at, "", changes), at
    known = schema.still_synced(stored, columns, at)
    if not changes.evolution.rekeyed:
        at = dataclasses.replace(at, canaries=reading.recall(known, key, stored.canaries))
    verdict = judge(stored, at, covers(config, strategy_of(config)), changes)
    if not changes.evolution.rekeyed and (known != columns or not changes.texts_stay):
        at = dataclasses.replace(at, canaries=reading.recall(columns, key, stored.canaries))
    return verdict, at


def _schema_changes(
    config: TableConfig,
    columns: tuple[Column, ...],
    key: tuple[str, ...],
    stored: Watermark | None,
    at: Observation,
    reading: Reading,
    options: RunOptions,
) -> tuple[tuple[Column, ...], SchemaChanges]:
    """Today's columns and what became of them since the watermark, as schema_changes allows."""
    if stored is None:
        return columns, UNCHANGED
    mode = "apply" if options.full and not options.because else config.schema_changes
    if mode == "ignore":
        columns = schema.still_synced(stored, columns, at)
    changes = schema.compare(
        schema.known_as_text(stored, options.as_text),
        columns,
        key,
        at,
        in_source=reading.table.columns,
        older=lambda added: reading.held_by_older_rows(added, stored.token.members),
    )
    return columns, schema.allowed(changes, mode, config.qualified_name)
