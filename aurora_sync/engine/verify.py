"""Prove that source and target are equal by content as of one snapshot, or show the first rows that differ.

A verification applies the strategy's own increment first, and compares in the snapshot of that increment. When a run
would scan, reconcile or read the whole table instead, nothing is compared, because those repair what a verification
must find (decision 12). Rows that are equal are not moved: both sides sum a digest of every row over buckets of the
key. Only rows of buckets that differ are read, and compared one by one, typed, in the warehouse. Two cases are always
compared one by one: columns that the two sides do not print alike (floats, jsonb, arrays, columns whose policy changes
values), and tables without a merge key.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.difference import by_content, comparable
from aurora_sync.engine.hints import Known
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan
from aurora_sync.errors import NotComparedError, RivalRunError
from aurora_sync.model import tracing
from aurora_sync.model.buckets import Buckets
from aurora_sync.model.certificate import Action
from aurora_sync.model.manifest import Disposition, Evolution, Manifest
from aurora_sync.model.receipt import QueryRef, find_rows
from aurora_sync.model.verification import RowDifference, Verification
from aurora_sync.source.reading import Reading
from aurora_sync.source.sums import within
from aurora_sync.stage.layout import new_load_id
from aurora_sync.warehouse import comparison, ddl, located, policies, resume
from aurora_sync.warehouse.base import Row, Session
from aurora_sync.warehouse.ddl import Layout
from aurora_sync.warehouse.query_tag import QueryTag

EXAMPLES = 5


@tracing.span("compare")
def compare_contents(
    config: TableConfig,
    places: Places,
    reading: Reading,
    plan: Plan,
    manifest: Manifest,
    run_sequence: int,
    queries: list[QueryRef],
) -> Verification:
    """Compare the target, as run ``run_sequence`` left it, with the snapshot that is open in ``reading``.
    Adds its statements to ``queries``.

    Raises RivalRunError when another run was applied meanwhile: source and target are then not of the same moment.
    """
    caveat = ""
    if plan.strategy.reads_whole and manifest.watermark_before:
        caveat = (
            "the differences include changes at the source since"
            f" {manifest.watermark_before.snapshot.taken_at:%Y-%m-%d %H:%M:%S} UTC: the increment of this strategy is a"
            " full read, which a verification does not do"
        )
    elif plan.read.bound:
        caveat = f"the target has {plan.read.bound}: the differences include later changes"
    with places.warehouse.session(query_tag=QueryTag.of(config, "verify")) as session:
        found = _Sides(session, config, places, reading, plan, manifest).compare(run_sequence)
        now = resume.read_state(session, config, log_schema=places.log_schema)
        queries += session.queries()
        if now.run_sequence != run_sequence:
            raise RivalRunError(
                f"run {now.run_sequence} was applied while run {run_sequence} was verified",
                where=config.qualified_name,
                hint=f"run `aurora-sync verify {shlex.quote(config.qualified_name)}` again",
            )
    if not found.equal:
        found = replace(found, repair=_repair(found, plan), caveat=caveat)
    return found


def state_as_found(config: TableConfig, places: Places) -> Known:
    """Return the state to verify from. Raises NotComparedError when there is no state."""
    with places.warehouse.reading(query_tag=QueryTag.of(config, "verify")) as session:
        state = resume.read_state(session, config, log_schema=places.log_schema, as_found=True)
        queries = session.queries()
    if not state.run_sequence:
        raise not_compared(config, "the table was never synced")
    if state.watermark is None:
        raise not_compared(config, state.edited)
    if state.load:
        raise not_compared(config, "a load in chunks is not finished")
    return Known(state, queries=queries)


def assert_comparable(config: TableConfig, plan: Plan) -> None:
    """Raise NotComparedError when the increment is not the strategy's own. For strategies that read the table
    itself."""
    findings = plan.verdict.findings
    if plan.strategy.reads_whole:
        reasons = [found.text for found in findings if found.is_schema_change]
    elif plan.reconcile or plan.read.disposition is Disposition.REPLACE:
        reasons = [found.text for found in findings if found.action is not Action.GO_ON]
        reasons += [reason for reason in plan.reasons if reason not in reasons]
    else:
        return
    if reasons or not plan.strategy.reads_whole:
        raise not_compared(config, "; ".join(reasons))


def not_compared(config: TableConfig, why: str) -> NotComparedError:
    # Not two commands: on the local stack each command restarts the server, and the next cannot compare either.
    command = f"aurora-sync verify --repair {shlex.quote(config.qualified_name)}"
    return NotComparedError(
        f"cannot be compared: {why}",
        where=config.qualified_name,
        hint=f"run `{command}`, which repairs the table and then compares it",
    )


def _repair(found: Verification, plan: Plan) -> str:
    """Return the cheapest command that repairs the differences."""
    if plan.strategy.reads_whole:
        return "sync"
    return "sync --full" if found.same_version else "reconcile"


@dataclass(frozen=True)
class _Sides:
    session: Session
    config: TableConfig
    places: Places
    reading: Reading
    plan: Plan
    manifest: Manifest

    def compare(self, run_sequence: int) -> Verification:
        layout = self._layout(self.manifest)
        names, alike = [column.name for column in self.plan.columns], comparable(layout)
        unlike = [name for name in names if name not in alike]
        found = Verification(
            table=self.config.qualified_name,
            run_sequence=run_sequence,
            as_of=self.plan.at.snapshot.taken_at,
            method=f"content sums, and {', '.join(unlike)} of every row" if unlike else "content sums",
        )
        if not self.plan.key or not alike:
            return self._row_by_row(replace(found, method="every row"), names)
        sides = by_content(self.session, layout, self.reading, self.plan, merged=False)
        found = replace(found, buckets_compared=sides.compared)
        if sides.buckets:
            found = self._row_by_row(found, names, sides.buckets)
        if unlike and found.equal:
            found = self._row_by_row(found, [*self.plan.key, *unlike])
            if (
                not self.plan.strategy.keeps_xmin and not self.plan.strategy.reads_whole
            ):  # a reconcile then compares the sums, which are equal
                found = replace(found, same_version=found.different)
        return replace(found, source_rows=sides.source_rows, target_rows=sides.target_rows)

    def _row_by_row(self, found: Verification, names: Sequence[str], among: Buckets | None = None) -> Verification:
        """Stage these columns of the source's rows and compare them with the target's. Removes what it staged."""
        columns = tuple(column for column in self.plan.columns if column.name in names)
        where = within(self.reading.table, self.plan.key, among) if among else None
        load_id, stage = new_load_id(), self.places.stage
        with stage.attempt(found.table, load_id) as attempt:
            exported = self.reading.export(self.reading.statement(columns, where), attempt)
        staged = replace(
            self.manifest,
            load_id=load_id,
            prefix=attempt.prefix,
            disposition=Disposition.UPSERT,
            files=attempt.files,
            columns=columns,
        )
        layout = self._layout(staged)
        try:
            with _staging_table(self.session, layout):
                self.session.load(layout.staging.sql, staged, stage.store)
                ((in_target, missing, ghosts, different, same),) = self.session.query(comparison.count(layout, among))
                examples = self.session.query(comparison.examples(layout, among, EXAMPLES))
        finally:
            stage.store.delete([attempt.prefix + file.name for file in attempt.files])
        return replace(
            found,
            source_rows=exported.rows,
            target_rows=int(in_target),
            rows_moved=found.rows_moved + exported.rows,
            missing=int(missing),
            ghosts=int(ghosts),
            different=int(different),
            same_version=int(same) if self.plan.key and self._by_version else 0,
            examples=tuple(_example(self.config, layout, row) for row in examples),
        )

    @property
    def _by_version(self) -> bool:
        """Return whether a repair finds rows by their versions (xmin)."""
        return self.plan.strategy.keeps_xmin and not self.plan.strategy.reads_whole

    def _layout(self, manifest: Manifest) -> Layout:
        """Return the layout of the target as it is now: the changes of its columns are already made."""
        target, columns = located.find_target(self.session, self.config)
        existing = {name: column.type for name, column in columns.items()}
        lengths = {name: column.length for name, column in columns.items()}
        settled = replace(manifest, evolution=Evolution())
        layout = ddl.layout(self.config, settled, self.places.log_schema, existing, lengths, target=target)
        policies.refuse_comparison(self.config, layout, columns)
        return layout


@contextmanager
def _staging_table(session: Session, layout: Layout) -> Iterator[None]:
    session.query(ddl.create_staging(layout))
    try:
        yield
    finally:
        session.query(ddl.drop_table(layout.staging))


def _example(config: TableConfig, layout: Layout, row: Row) -> RowDifference:
    """Return the difference from a row of comparison.examples(): whether each side has the row, its xmin on each side,
    then each column's value in source and target."""
    in_source, in_target, source_xmin, target_xmin, *values = row
    names = [column.name for column in layout.columns]
    pairs = list(zip(values[::2], values[1::2], strict=True))
    keys = {column.name for column in layout.key}
    shown = {
        name: pair
        for name, pair in zip(names, pairs, strict=True)
        if name in keys or not (in_source and in_target) or pair[0] != pair[1]
    }
    key = tuple(str(pair[0] if in_source else pair[1]) for name, pair in zip(names, pairs, strict=True) if name in keys)
    found = RowDifference(
        key=key,
        source={name: _text(pair[0]) for name, pair in shown.items()} if in_source else None,
        target={name: _text(pair[1]) for name, pair in shown.items()} if in_target else None,
        find=_find(config, source_xmin) if in_source else _find_in_target(layout, target_xmin),
    )
    return found if config.show_values else found.without_values(keys)


def _find(config: TableConfig, xmin: object) -> str:
    return find_rows(config.sql, [int(str(xmin))] if xmin else [])


def _find_in_target(layout: Layout, xmin: object) -> str:
    return f'SELECT * FROM {layout.target.sql} WHERE "{ddl.SRC_XMIN}" = {xmin}' if xmin else ""  # noqa: S608


def _text(value: object) -> str | None:
    return None if value is None else str(value)
