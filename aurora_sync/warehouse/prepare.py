"""Preparation of a staged increment: its rows in a staging table, checked, and a target that can take them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import WarehouseError
from aurora_sync.model import foreign_text
from aurora_sync.model.certificate import Finding
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.receipt import Adjusted
from aurora_sync.model.watermark import Left
from aurora_sync.warehouse import convert, ddl, evolve, history, located, policies, sync_log, targets
from aurora_sync.warehouse.base import Objects, ReportedColumn, Session
from aurora_sync.warehouse.bounds import Bound
from aurora_sync.warehouse.ddl import Layout, TableName
from aurora_sync.warehouse.existing import refuse_foreign_rows
from aurora_sync.warehouse.staged import Checked, assert_staged

_log = foreign_text.logger(__name__)

# Stages further rows of the increment after the manifest's files, and returns the manifest that includes them: the
# differences that a comparison found (engine/reconcile.py), or external files (engine/runners/files.py).
Complete = Callable[[Session, Layout], Manifest]


@dataclass(frozen=True)
class StagedIncrement:
    """One table's part of the increments that are applied together."""

    config: TableConfig
    manifest: Manifest
    strategy: str
    complete: Complete | None = None
    as_found: bool = False  # accept edited rows of the target, because they are going to be compared


@dataclass
class Prepared:
    """A staged increment whose target is ready for it."""

    increment: StagedIncrement
    layout: Layout
    manifest: Manifest
    existing: dict[str, str]  # columns of the target; empty: there is no target yet
    found: dict[str, str]  # ``existing`` before this run adapted the target
    reported: Mapping[str, ReportedColumn]  # ``found``, with the names that the columns get
    adjusted: tuple[Adjusted, ...] = ()
    changes: tuple[Finding, ...] = ()
    bounds: tuple[Bound, ...] = ()
    unchecked: bool = False  # its rows are checked while they are written, and its target is made then

    def check(self, checked: Checked) -> None:
        self.layout, self.adjusted, self.bounds = checked.layout, checked.adjusted, checked.bounds

    def usable_bounds(self) -> tuple[Bound, ...]:
        """Return the bounds of the columns that have the type of the staged values: a column may have become text."""
        rules = {column.name: column.rule for column in self.layout.key}
        return tuple(bound for bound in self.bounds if bound.column.rule == rules[bound.column.name])


def staging(session: Session, increment: StagedIncrement, log_schema: str) -> Prepared:
    """Prepare the sync log, and return the increment with the layout that its rows will be staged in."""
    config, manifest = increment.config, increment.manifest
    if manifest.expected_sequence == 0 or increment.complete:  # ``complete`` cannot be repeated
        sync_log.make(session, ddl.target_name(config), log_schema)
    target, described = located.find_target(session, config)
    reported = convert.settled(session, target, described)
    if reported and manifest.expected_sequence == 0:
        targets.refuse_iceberg(session, target)
    if manifest.taken:
        sync_log.prepare_taken(session, log_schema)
    existing = {name: column.type for name, column in reported.items()}
    to_rename = evolve.renames(existing, manifest, config.names)
    named = {to_rename.get(name, name): column for name, column in reported.items()}
    types = {name: column.type for name, column in named.items()}
    lengths = {name: column.length for name, column in named.items()}
    layout = ddl.layout(config, manifest, log_schema, types, lengths, target=target)
    policies.refuse(config, layout, manifest, named)
    return Prepared(increment, layout, manifest, existing, dict(existing), named)


def prepare(
    session: Session, p: Prepared, objects: Objects, log_schema: str, *, may_be_unchecked: bool = False
) -> None:
    """Stage the rows and make the target ready for them. All DDL happens here, because in Snowflake it commits. With
    ``may_be_unchecked``, the rows of a first load may be left for :func:`check_after_all`."""
    config = p.increment.config
    session.query(ddl.create_staging(p.layout))
    loaded = session.load(p.layout.staging.sql, p.manifest, objects)
    if may_be_unchecked and session.dialect.reads_files and _is_plain_first_load(p, loaded):
        p.unchecked = True
        return
    p.check(assert_staged(session, config, p.layout, p.manifest, loaded))
    if p.existing:
        targets.drop_former_key(session, p.layout, p.manifest)
        p.layout, p.changes = evolve.adapt_target(session, config, p.layout, p.existing, p.manifest)
        if evolve.left_behind(p.existing, p.manifest, config.names):
            evolution = dataclasses.replace(p.manifest.evolution, rekeyed=True)
            p.manifest = dataclasses.replace(p.manifest, evolution=evolution)
        targets.follow_comments(session, p.layout, p.manifest)
        if p.manifest.expected_sequence == 0:
            refuse_foreign_rows(session, p.layout.target, log_schema, marks=p.layout.marks, where=p.manifest.table)
            p.changes += policies.look(session, config, p.layout.match)
    if config.history:
        p.layout = history.prepare(session, p.layout, p.manifest, objects)
    if p.increment.complete:
        staged, p.manifest = p.manifest.rows, p.increment.complete(session, p.layout)
        loaded += p.manifest.rows - staged
        p.check(assert_staged(session, config, p.layout, p.manifest, loaded))
        policies.refuse(config, p.layout, p.manifest, p.reported)
        if p.existing:
            p.layout, more = evolve.adapt_target(session, config, p.layout, p.existing, p.manifest)
            p.changes += more
    if not p.existing:  # last: a refused first load must leave no table
        targets.make(session, config, p.layout, p.manifest)


def _is_plain_first_load(p: Prepared, loaded: int) -> bool:
    """Return whether the staged rows will be the only rows of a new target, and nothing else uses them."""
    if p.existing or p.increment.config.history or p.increment.complete or p.manifest.fill:
        return False
    numbers = {loaded, p.manifest.rows, p.manifest.source_rows} - {None}
    return p.manifest.disposition is Disposition.REPLACE and len(numbers) == 1


def check_after_all(session: Session, p: Prepared) -> None:
    """Check rows that were to be checked while they are written, but could not all be written. Raises an error that
    names them, or makes the target that can take them."""
    p.check(assert_staged(session, p.increment.config, p.layout, p.manifest, p.manifest.rows))
    targets.make(session, p.increment.config, p.layout, p.manifest)
    p.unchecked = False


def left(session: Session, p: Prepared, sums_of_rows: str) -> Left:
    """Return the state of the target after this run, by which the next run notices changes."""
    written = {name: p.existing.get(name) or evolve.as_reported(type_) for name, type_ in p.layout.types.items()}
    columns = p.found or p.layout.types  # a target that this run made
    if p.found and not (p.existing == p.found and written.keys() <= p.found.keys()):
        columns = ddl.existing_columns(session, p.layout.target)
    return Left(written, sums_of_rows, [name for name in columns if name in written])


def drop_staging(session: Session, tables: list[TableName]) -> None:
    """Drop staging tables, and only log failures: the increment is decided, and the next one drops the tables left
    behind."""
    for table in tables:
        try:
            session.query(ddl.drop_table(table))
        except WarehouseError as error:
            _log.warning("could not drop the staging table %s, which the next run drops: %s", table, error)
