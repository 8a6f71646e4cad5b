"""Checks of an increment's staged rows before the target changes: all rows are there, keys are unique, values fit their
types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import DefectError, GuardError, Kind, WarehouseError
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.receipt import Adjusted, find_rows
from aurora_sync.warehouse import bounds, ddl, merge
from aurora_sync.warehouse.base import Row, Session
from aurora_sync.warehouse.bounds import Bound
from aurora_sync.warehouse.ddl import Layout, TargetColumn, identifier

# The number of values shown of a column whose values do not fit its type.
EXAMPLES = 3


@dataclass(frozen=True)
class Checked:
    """A staged increment whose rows were checked: the layout whose types hold all values, the values that are adjusted
    in the target, and the bounds of its keys."""

    layout: Layout
    adjusted: tuple[Adjusted, ...]
    bounds: tuple[Bound, ...]


def assert_staged(session: Session, config: TableConfig, layout: Layout, manifest: Manifest, loaded: int) -> Checked:
    """Check that the staged rows are the exported rows and have a unique key. Raises WarehouseError, GuardError or
    DefectError."""
    if not layout.key and manifest.disposition in (Disposition.UPSERT, Disposition.CHANGES):
        raise DefectError(f"{manifest.disposition.name} needs a merge key", where=manifest.table)
    further = bounds.select(layout, manifest.rows) if session.dialect.prunes else []
    ((rows, doubled, *counts),) = session.query(merge.count_staged(layout, further))
    _assert_counts(layout, manifest, loaded, rows, counts)
    typed = [column for column in layout.columns if column.misfit]
    places = slice(len(layout.key), len(layout.key) + len(typed))
    found = bounds.read(layout, manifest.rows, iter(counts[places.stop :])) if further else ()
    misfits = {
        column: int(number)
        for column, number in zip(typed, counts[places], strict=True)
        if number or _misfits_older_rows(session, column, manifest)
    }
    examples = {column: _examples(session, config, layout, column) for column in misfits}
    _refuse_misfits(misfits, examples, manifest)
    adjusted = tuple(Adjusted(c.source.name, c.rule.policy, number, *examples[c]) for c, number in misfits.items())
    wide = [column for column in misfits if column.rule.policy == "exact"]
    ddl.refuse_json((column.source for column in wide), manifest.table)
    layout = layout.widened([column.name for column in wide])
    if doubled:
        _refuse_doubled(session, config, layout, manifest)
    return Checked(
        layout,
        tuple(found for found in adjusted if found.policy != "exact"),
        tuple(bound for bound in found if bound.column not in misfits),
    )


def _assert_counts(layout: Layout, manifest: Manifest, loaded: int, rows: int, nulls: Sequence[int]) -> None:
    """Check that every row of the files is staged and has a merge key. ``nulls`` begins with the number of NULLs in
    each key column."""
    if not rows == loaded == manifest.rows:
        taken = "" if loaded == manifest.rows else f"{loaded} were loaded, and "
        raise WarehouseError(
            f"the manifest counts {manifest.rows} rows, but {taken}the staging table has {rows}",
            where=f"{manifest.table}, {manifest.prefix}",
            hint="the warehouse received other data than was exported, and nothing was applied; run again",
            kind=Kind.TRANSIENT,
        )
    if manifest.disposition is Disposition.REPLACE and manifest.source_rows not in (None, rows):
        raise GuardError(
            f"the export has {rows} rows, but the source counted {manifest.source_rows} rows in the same snapshot",
            where=manifest.table,
            hint="nothing was applied; row-level security or an incomplete export can cause this",
        )
    if empty := [f"{n} rows have no value in {c.name}" for c, n in zip(layout.key, nulls, strict=False) if n]:
        raise GuardError(
            f"{' and '.join(empty)} of the merge key, and would be lost",
            where=manifest.table,
            hint="choose a primary_key whose columns are never NULL",
        )


def _refuse_doubled(session: Session, config: TableConfig, layout: Layout, manifest: Manifest) -> None:
    if duplicates := session.query(merge.duplicate_keys(layout)):
        raise doubled_keys(config, manifest, duplicates)


def doubled_keys(config: TableConfig, manifest: Manifest, duplicates: Sequence[Row]) -> GuardError:
    """Return the error for a merge key that is not unique. ``duplicates`` are keys, each with its number of rows."""
    named = ", ".join(identifier(name) for name in manifest.key)
    find = f"SELECT {named}, count(*) FROM {config.sql} GROUP BY {named} HAVING count(*) > 1"  # noqa: S608
    return GuardError(
        f"the merge key ({', '.join(manifest.key)}) is not unique, so rows would be lost",
        where=manifest.table,
        hint=f"choose a primary_key that is unique; to find the duplicates: {find}",
        values="; ".join(f"{', '.join(map(str, key))} ({count} rows)" for *key, count in duplicates),
    )


def _misfits_older_rows(session: Session, column: TargetColumn, manifest: Manifest) -> bool:
    """Return whether older rows, which are not staged, get a value in a new column that does not fit its type."""
    text = manifest.fill.get(column.source.name)
    return text is not None and session.query(merge.misfits(column), (text,)) != [(0,)]


def _examples(
    session: Session, config: TableConfig, layout: Layout, column: TargetColumn
) -> tuple[tuple[str, ...], str]:
    """Return some values that do not fit, and a statement that finds their rows."""
    rows = session.query(merge.example_misfits(layout, column, EXAMPLES))
    examples = tuple(f"{value!r}{' of ' + ', '.join(map(str, key)) if key else ''}" for _, *key, value in rows)
    return examples, find_rows(config.sql, sorted({int(xmin or 0) for xmin, *_ in rows} - {0}))


def _refuse_misfits(
    misfits: Mapping[TargetColumn, int],
    examples: Mapping[TargetColumn, tuple[tuple[str, ...], str]],
    manifest: Manifest,
) -> None:
    """Raise GuardError when a column has misfits and its policy is ``fail``."""
    found, values, finds = [], [], []
    failing = [column for column in misfits if column.rule.policy == "fail"]
    for column in failing:
        name, number, (some, find) = column.source.name, misfits[column], examples[column]
        what = f"{number} values of column {name}" if number else f"the value of older rows in the new column {name}"
        found.append(f"{what}: {column.rule.target} cannot hold {'them' if number else 'it'}")
        values.append(", ".join(some) or repr(manifest.fill[name]))
        finds += [find] if find else []
    if found:
        exact = ", ".join(f"{column.source.name}: exact" for column in failing)
        raise GuardError(
            "; ".join(found),
            where=manifest.table,
            hint=f"in tables.yaml choose another policy, such as column_types: {{{exact}}}"
            + (f"; to find the rows: {'; '.join(dict.fromkeys(finds))}" if finds else ""),
            values="; ".join(values),
        )
