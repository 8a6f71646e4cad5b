"""The history of a table, ``<TARGET>_HISTORY``: one row per change, written in the transaction that applies the change.

================== ================================================================================================
the columns        in PostgreSQL's text, so that a change of a type never affects older rows
``_OP``            I, U, D, T (truncated); R: a row that a scan read; D of a scan: the row is missing at the source
``_SRC_XMIN``      transaction id, 32 bits
``_LSN``           the LSN of the commit; for a scan, the LSN up to which its snapshot sees
``_COMMITTED_AT``  commit time in UTC; for a scan, the time of its snapshot
``_NO``            order within one run
``_UNCHANGED``     JSON array of columns that an update did not change and the stream did not repeat; NULL in this row
``_FORMER``        JSON array: the key of the row before an update that changed it
``_RUN_SEQ``       the run that applied it; ORDER BY _RUN_SEQ, _LSN, _NO is the order in which the target changed
================== ================================================================================================
"""

# ruff: noqa: S608 - every name went through identifier(), every value is a parameter

from __future__ import annotations

from dataclasses import replace

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.model.manifest import Manifest
from aurora_sync.warehouse import ddl, located, merge
from aurora_sync.warehouse.base import Objects, Session
from aurora_sync.warehouse.ddl import HISTORY_TYPES, RUN_SEQ, SRC_XMIN, SYNCED_AT, Layout, TableName, identifier
from aurora_sync.warehouse.dispositions.base import Merging
from aurora_sync.warehouse.types import TEXT, printed

_ADDED = HISTORY_TYPES | {name: ddl.ADDED_TYPES[name] for name in (RUN_SEQ, SYNCED_AT)}


def prepare(session: Session, layout: Layout, manifest: Manifest, objects: Objects) -> Layout:
    """Create the history, add the columns that it lacks, and stage the manifest's rows for it. This is DDL, which
    commits. Returns the layout with the name of the history and of its columns."""
    history, existing = located.located(session, layout.history)
    names = replace(layout.names, found=tuple(existing))
    recorded = tuple(names.of(column.source.name) for column in layout.columns)
    layout = replace(layout, history=history, recorded=recorded)
    if not existing:
        ddl.make_schema(session, history.schema)
        session.query(create(layout))
    for name in layout.recorded if existing else ():
        if name not in existing:
            session.query(ddl.add(history, name, TEXT))
    if not manifest.history:
        return layout
    session.query(create_staging(layout))
    staged, expected = _staging(layout), sum(file.rows for file in manifest.history)
    loaded = session.load(staged.sql, manifest.of_history(), objects)
    ((rows,),) = session.query(f"SELECT COUNT(*) FROM {staged.sql}")
    if not rows == loaded == expected:
        raise WarehouseError(
            f"the manifest counts {expected} changes, but {loaded} were loaded, and the staging table has {rows}",
            where=f"{manifest.table}, {manifest.prefix}",
            hint="the warehouse received other data than was exported, and nothing was applied; run again",
            kind=Kind.TRANSIENT,
        )
    return layout


def record_changes(merging: Merging) -> None:
    """Append the changes of a stream."""
    if merging.config.history and merging.manifest.history:
        merging.session.modify(append_changes(merging.layout), merging.written)


def record_scanned(merging: Merging) -> None:
    """Append the rows that a scan staged."""
    if merging.config.history:
        merging.session.modify(append_scanned(merging.layout, merging.manifest), merging.written)


def record_missing(merging: Merging, condition: str) -> None:
    """Append the rows that a scan did not find, which ``condition`` selects, before they are deleted."""
    if merging.config.history:
        present = f"{merge.PRESENT} AND " if merging.layout.marks else ""
        missing = append_missing(merging.layout, merging.manifest, present + condition)
        merging.session.modify(missing, merging.written)


def create(layout: Layout) -> str:
    return ddl.create_table(layout.history, dict.fromkeys(layout.recorded, TEXT) | _ADDED)


def create_staging(layout: Layout) -> str:
    names = [*(column.name for column in layout.columns), *HISTORY_TYPES]
    return ddl.create_staging_table(_staging(layout), names)


def append_changes(layout: Layout) -> str:
    """Append the staged changes of a stream. Two parameters, as in merge.py: run sequence and time."""
    fields = [f"s.{identifier(name)}" for name in HISTORY_TYPES]
    return _insert(layout, [column.staged for column in layout.columns], fields, f"{_staging(layout).sql} AS s")


def append_scanned(layout: Layout, manifest: Manifest) -> str:
    """Append the rows that a scan staged. Two parameters."""
    values = [column.staged for column in layout.columns]
    return _insert(layout, values, _found("R", f's."{SRC_XMIN}"', manifest), f"{layout.staging.sql} AS s")


def append_missing(layout: Layout, manifest: Manifest, condition: str) -> str:
    """Append the keys of the target's rows that a scan is about to delete, which ``condition`` selects. Two
    parameters."""
    target, key = layout.target.sql, {column.name for column in layout.key}
    values = [
        printed(c.rule.target, f"{target}.{c.sql}", c.source) if c.name in key else "NULL" for c in layout.columns
    ]
    return _insert(layout, values, _found("D", "NULL", manifest), f"{target} WHERE {condition}")


def _found(operation: str, xmin: str, manifest: Manifest) -> list[str]:
    """Return the fields of a scanned row, in the order of HISTORY_TYPES."""
    taken = manifest.watermark_after.snapshot.taken_at.replace(tzinfo=None).isoformat(" ")
    return [f"'{operation}'", xmin, f"{manifest.log_position}", f"'{taken}'", "0", "NULL", "NULL"]


def _insert(layout: Layout, values: list[str], fields: list[str], source: str) -> str:
    names = ", ".join(map(identifier, (*layout.recorded, *_ADDED)))
    typed = [f"CAST({field} AS {type_})" for field, type_ in zip(fields, HISTORY_TYPES.values(), strict=True)]
    written = ["CAST(? AS NUMBER(19,0))", "CAST(? AS TIMESTAMP_NTZ(6))"]
    selected = ", ".join([*values, *typed, *written])
    return f"INSERT INTO {layout.history.sql} ({names}) SELECT {selected} FROM {source}"


def _staging(layout: Layout) -> TableName:
    return TableName(layout.staging.schema, f"{layout.staging.name}_HISTORY")
