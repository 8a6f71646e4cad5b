"""The plan of one run, decided in the open snapshot before any row is moved."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight, read_again
from aurora_sync.errors import ConfigError
from aurora_sync.model.certificate import Action, Certificate, Finding, Reconciled
from aurora_sync.model.column import Column
from aurora_sync.model.comments import digest
from aurora_sync.model.load import Load
from aurora_sync.model.manifest import Disposition, Evolution, TakenFile
from aurora_sync.model.observation import Observation
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.reload import Reload
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Canary, Watermark
from aurora_sync.source.reading import Reading
from aurora_sync.strategies import loading, strategy_of
from aurora_sync.strategies import schema_changes as schema
from aurora_sync.strategies.base import ReadPlan, Strategy
from aurora_sync.strategies.certificate import certify
from aurora_sync.strategies.identity import Verdict, covers, judge
from aurora_sync.strategies.position import Position
from aurora_sync.strategies.schema_changes import UNCHANGED, SchemaChanges
from aurora_sync.warehouse.types import type_rule

_CHANGE_COLUMNS = (Action.ADAPT, Action.BACKFILL, Action.RESEED)


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that a person or a schedule sets, beyond bringing the target up to date."""

    full: bool = False
    reconcile: bool = False
    allow_deletes: bool = False
    verify: bool = False
    because: str = ""  # why the run reads the whole table, if that was not requested
    as_text: frozenset[str] = frozenset()  # arrays to read as the text that PostgreSQL prints
    taken: tuple[TakenFile, ...] = ()  # external files whose changes the snapshot contains
    catch_up: bool = False  # read what was written while chunks were loaded, and compare nothing yet
    reload: Reload | None = None  # rows to read besides those of the increment
    max_minutes: int | None = None  # for which the snapshot may be open; default: max_snapshot_minutes of the table


@dataclass(frozen=True)
class Plan:
    """The plan of a run. ``due`` is the reason why a reconcile is requested or due. ``reconcile``: this run compares
    the target with the source in its snapshot, and repairs the target."""

    strategy: Strategy
    columns: tuple[Column, ...]
    comment: str | None  # on the source table
    key: tuple[str, ...]
    at: Observation
    verdict: Verdict
    read: ReadPlan
    due: str
    reconcile: bool
    verifies: bool  # a verification, which repairs nothing
    # Whether more deletes than allowed fail the run, as for a reconcile that was requested or is due, or after a
    # TRUNCATE. Else such deletes are left in the target, with a warning.
    enforce_guard: bool
    certificate: Certificate
    watermark: Watermark  # after the increment; its canaries are known after the export
    evolution: Evolution  # changes of the target's columns
    load: Load | None = None  # the unfinished load in chunks that this run continues

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
        """The reasons why more is read than the strategy's own increment; the warnings include them all, except rows
        that a person asked to read again."""
        reseeds = tuple(found.text for found in self.verdict.findings if found.action is Action.RESEED)
        again = (f"{self.read.again.rows:,} rows with {self.read.again} are read again",) if self.read.again else ()
        return (() if self.strategy.reads_whole else reseeds) + self.read.reasons + again

    def because(self, reason: str) -> Plan:
        return dataclasses.replace(self, read=self.read.because(reason))

    def after(self, canaries: tuple[Canary, ...]) -> Watermark:
        return dataclasses.replace(self.watermark, canaries=canaries)


def plan_increment(config: TableConfig, reading: Reading, state: State, options: RunOptions) -> Plan:
    """Open the snapshot, decide what to read and what to remember, and return the plan. Raises ConfigError when table
    and configuration do not fit."""
    strategy, table = strategy_of(config), reading.table
    if problems := preflight.problems(config, table, strategy):
        raise ConfigError(problems, where=config.qualified_name)
    columns, key = preflight.selected_columns(config, table), preflight.merge_key(config, table)
    again = read_again.resolved(options.reload, config, table, columns, key, state) if options.reload else None
    token = state.watermark.token if state.watermark else None
    minutes = options.max_minutes or config.max_snapshot_minutes
    at = reading.observe(strategy.fence(config), max_minutes=minutes, last=token)

    due = "" if options.verify else why_due(config, state)
    if options.reconcile:
        due = "a reconcile was requested"
    # Rows without a key can only be compared by reading them all, as a load that is open does.
    loads = state.watermark is not None and state.watermark.load is not None
    stored = None if options.full or (due and not key and not loads) else state.watermark
    columns = schema.read_as_text(columns, state.watermark, at, options.as_text)
    columns, changes = _schema_changes(config, columns, key, state.watermark, at, reading, options)
    changes = dataclasses.replace(changes, findings=schema.table_renamed(config, state, at) + changes.findings)
    verdict, at = _judged(config, columns, key, stored, changes, at, reading)
    load = stored.load if stored else None
    if load:
        verdict, load = loading.judged(verdict, load, at)
    if due and verdict.since:
        verdict = dataclasses.replace(verdict, since=dataclasses.replace(verdict.since, only_scan=due))
    read, reconcile = _read(config, table, columns, state, options, verdict, at)
    if again and options.reload:
        read = read_again.widened(read, again, options.reload, config, reading, verdict)
    if read.disposition is Disposition.REPLACE:
        load = None  # the strategy cannot go on from the snapshot of the load
    reconcile = reconcile or (bool(due or load) and read.disposition is Disposition.UPSERT)
    catches_up = load is not None and options.catch_up
    reconcile = reconcile and not catches_up
    value = strategy.advance(config, table, verdict.since, at)
    compared = reconcile or read.where is None
    inherited = verdict.since.watermark.doubts if verdict.since else ()
    doubts = () if compared else tuple(dict.fromkeys((*inherited, *read.doubts)))
    read = dataclasses.replace(read, doubts=doubts)
    whole = compared or (load is not None and not catches_up)
    last = Reconciled(state.run_sequence + 1, at.snapshot.taken_at) if whole else state.reconciled
    certificate = certify(config, strategy, read, at, value, reconciled=last, now=compared)
    if catches_up:
        certificate = loading.before_last_run(certificate)
    return Plan(
        strategy=strategy,
        columns=columns,
        comment=table.comment,
        key=key,
        at=at,
        verdict=verdict,
        read=read,
        due=due,
        reconcile=reconcile,
        verifies=options.verify,
        enforce_guard=(bool(due) and not state.edited) or verdict.rows_are_gone or strategy.sees_deletes or bool(load),
        certificate=dataclasses.replace(certificate, findings=verdict.findings),
        watermark=loading.after_pass(
            load if catches_up else None,
            Watermark(
                strategy.name,
                value,
                at.snapshot,
                at.token,
                covers(config, strategy),
                columns=schema.known_columns(columns, key),
                doubts=doubts,
                comments=_comments(state, table.comment, columns, whole=read.where is None, changes=changes.findings),
            ),
        ),
        evolution=changes.evolution,
        load=load,
    )


def plan_of_stream(config: TableConfig, plan: Plan, state: State, position: Position) -> Plan:
    """Return the plan of a scan changed to the plan of a stream that is applied up to ``position``. A position with a
    gap makes the next run a scan, so nothing is certified."""
    doubts = (position.gap,) if position.gap else ()
    read = ReadPlan(None, Disposition.CHANGES, position.method, bound=position.bound, doubts=doubts)
    value = position.to_value()
    certificate = certify(config, plan.strategy, read, plan.at, value, reconciled=state.reconciled, now=False)
    return dataclasses.replace(
        plan,
        read=read,
        reconcile=False,
        certificate=dataclasses.replace(certificate, findings=plan.verdict.findings),
        watermark=dataclasses.replace(
            plan.watermark,
            value=value,
            lags=bool(position.bound),
            comments=_comments(state, plan.comment, plan.columns, whole=False, changes=plan.verdict.findings),
        ),
    )


def _comments(
    state: State, comment: str | None, columns: tuple[Column, ...], *, whole: bool, changes: tuple[Finding, ...]
) -> str:
    """Return the digest of the comments that the target has after the run. They are set when the target is made, and
    follow the source when the run reads the whole table or changes the target's columns."""
    before = state.watermark.comments if state.watermark else None
    follows = whole or any(found.action in _CHANGE_COLUMNS for found in changes)
    return digest(comment, columns) if before is None or (before and follows) else before


def _read(
    config: TableConfig,
    table: SourceTable,
    columns: tuple[Column, ...],
    state: State,
    options: RunOptions,
    verdict: Verdict,
    at: Observation,
) -> tuple[ReadPlan, bool]:
    """Return what to read, and whether the findings require comparing the target with the source."""
    strategy, since = strategy_of(config), verdict.since
    read = strategy.plan(config, table, since, at)
    lags = since is not None and since.watermark.lags
    doubted = since is not None and bool(since.watermark.doubts)
    uncompared = _uncompared(strategy, columns) if options.reconcile or state.edited or lags or doubted else ()
    if uncompared and read.disposition is Disposition.UPSERT:
        read = ReadPlan(None, Disposition.REPLACE, "whole table", log_position=read.log_position).because(
            f"reading the whole table: sums cannot compare {', '.join(uncompared)}"
        )
    text = options.because
    if state.watermark is None and state.run_sequence:
        text = f"the target was modified outside of aurora_sync: {state.edited}; reading the whole table again"
    if text or state.edited:
        read = read.because(text or state.edited)
    # A strategy that sees deletes in its increments would miss them when it scans instead.
    reconcile = lags or verdict.reconcile or strategy.sees_deletes
    return read, reconcile and read.disposition is Disposition.UPSERT


def _uncompared(strategy: Strategy, columns: tuple[Column, ...]) -> tuple[str, ...]:
    """Return the columns in which a reconcile sees no difference. A reconcile sums versions when the target has them,
    else contents; source and warehouse do not print the contents of these columns alike."""
    return () if strategy.keeps_xmin else tuple(column.name for column in columns if not type_rule(column).form)


def why_due(config: TableConfig, state: State) -> str:
    """Return why this run must compare the target with the source: the target was changed since its last run, or
    ``reconcile: {every: k}`` is due, k runs after the last reconcile or full read. Empty when it need not."""
    return state.edited or ("a reconcile is due" if runs_until_reconcile(config, state) == 0 else "")


def runs_until_reconcile(config: TableConfig, state: State) -> int | None:
    """Return the number of runs before the next one that reconciles, idle runs included; None when runs are not
    counted."""
    if config.reconcile is None or config.reconcile.every is None:
        return None
    last = state.reconciled.run_sequence if state.reconciled else 0
    return max(0, config.reconcile.every - (state.run_sequence - last + state.idle_runs + 1))


def source_count(config: TableConfig, state: State, reading: Reading, plan: Plan) -> int | None:
    """Return the number of rows that the target must hold after the run, counted in the same snapshot; None unless
    checks.row_count is due."""
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
    """Return the verdict on the stored watermark. Its canaries are read with the columns that they were made from;
    then, for the next watermark, with today's columns."""
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
    """Return today's columns, and how they changed since the watermark, as far as schema_changes allows."""
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
