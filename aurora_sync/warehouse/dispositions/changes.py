"""Disposition CHANGES: apply part of a change stream, first upserts, which may leave columns unchanged, then deletes.

After its columns and transaction id, a staged change has these fields:

=========== ===================================================================================================
``_OP``     U: the row exists with these values; D: it does not exist
``_KNOWN``  empty when the change has all columns; else one digit per column: 1, or 0 when the stream did not repeat a
            value that is stored out of line (TOAST)
``_PART``   number of the part, from 0
``_FROM_i`` the key of the target row that has the missing columns: the row's own key, or its key before an update
            changed it
=========== ===================================================================================================

Within a part each key occurs once. An upsert reads the values it takes over before any row of the part is written or
deleted (correctness.md, section 8.1).
"""

# ruff: noqa: S608 - every name went through identifier(), every value is a parameter or a number

from __future__ import annotations

from aurora_sync.errors import DefectError, TargetChangedError
from aurora_sync.warehouse import history, merge
from aurora_sync.warehouse.ddl import DELETED, FROM, KNOWN, OP, PART, RUN_SEQ, SYNCED_AT, Layout
from aurora_sync.warehouse.dispositions.again import delete_missing
from aurora_sync.warehouse.dispositions.base import Merging, Written, modified_outside


def write(merging: Merging) -> Written:
    """Apply the staged changes part by part. There is no delete guard for them, because a stream names each deleted
    row."""
    session, layout, manifest = merging.session, merging.layout, merging.manifest
    _assert_partial(merging)
    inserted, updated, deleted = 0, 0, delete_missing(merging)
    for number, part in enumerate(manifest.parts):
        if part.truncated:
            truncate = merge.mark_present(layout) if layout.soft else merge.delete_present(layout)
            deleted += session.modify(truncate, merging.marking)
        if part.partial and (orphans := session.query(count_orphans(layout, number))) != [(0,)]:
            raise TargetChangedError(
                f"{layout.target} lacks {orphans[0][0]} updated rows, and the stream has only their changed columns",
                where=manifest.table,
                hint=modified_outside(manifest),
            )
        statement = merge_part(layout, number, partial=part.partial > 0, within=merging.within)
        merged = session.merge(statement, merging.written)
        inserted, updated, deleted = inserted + merged.inserted, updated + merged.updated, deleted + merged.deleted
        if layout.soft:
            deleted += session.modify(mark_deleted(layout, number), merging.written)
    history.record_changes(merging)
    left = None
    if len(manifest.parts) > 1:
        left = int(session.query(merge.written_by(layout, merging.sequence))[0][0])
    return Written(inserted, updated, deleted, removed=0 if layout.soft else deleted, left=left)


def merge_part(layout: Layout, part: int, *, partial: bool, within: str = "") -> str:
    """Return the MERGE of one part: its upserts and, unless deletes mark rows, its deletes. ``partial``: some of its
    rows lack columns; ``within``: bounds of its keys. Takes the two parameters of merge.py."""
    condition, deletes = f"""s."{PART}" = '{part}'""", f"""s."{OP}" = 'D'"""
    if layout.soft:
        condition, deletes = f"""s."{OP}" = 'U' AND {condition}""", ""
    source, values = f"{layout.staging.sql} AS s", None
    if partial:
        source = _origins(layout)
        values = [
            f"""CASE WHEN SUBSTR(s."{KNOWN}", {place}, 1) = '0' THEN o.{column.sql} ELSE {column.value} END"""
            for place, column in enumerate(layout.columns, 1)
        ]
    further = (f's."{OP}"',) if deletes else ()
    rows = merge.staged_rows(layout, source=f"{source} WHERE {condition}", values=values, further=further)
    return merge.merge(layout, rows, within="" if partial else within, deletes=deletes)


def _assert_partial(merging: Merging) -> None:
    """Check that as many staged rows lack columns as the manifest says."""
    named = sum(part.partial for part in merging.manifest.parts)
    ((partial,),) = merging.session.query(count_partial(merging.layout))
    if partial != named:
        raise DefectError(
            f"{partial} of the {merging.manifest.rows} staged changes are partial, but the manifest counts {named}",
            where=merging.manifest.table,
        )


def count_partial(layout: Layout) -> str:
    """Count the staged rows that lack columns."""
    return f'SELECT COUNT("{KNOWN}") FROM {layout.staging.sql}'


def count_orphans(layout: Layout, part: int) -> str:
    """Count the upserts of one part whose missing columns are in no row of the target."""
    return (
        f"SELECT COUNT(*) FROM {_origins(layout)}"
        f""" WHERE s."{OP}" = 'U' AND s."{PART}" = '{part}' AND s."{KNOWN}" IS NOT NULL AND o."{RUN_SEQ}" IS NULL"""
    )


def mark_deleted(layout: Layout, part: int) -> str:
    """Mark the rows that one part deletes. Two parameters."""
    target = layout.target.sql  # not an alias: a table may be called S, like the alias of the staging table
    same = " AND ".join(f"{column.value} = {target}.{column.sql}" for column in layout.key)
    gone = (
        f"EXISTS (SELECT 1 FROM {layout.staging.sql} AS s"
        f""" WHERE s."{OP}" = 'D' AND s."{PART}" = '{part}' AND {same})"""
    )
    return (
        f'UPDATE {target} SET "{DELETED}" = TRUE, "{RUN_SEQ}" = ?, "{SYNCED_AT}" = ? WHERE {merge.PRESENT} AND {gone}'
    )


def _origins(layout: Layout) -> str:
    """Join each staged row with the target row that has its missing columns."""
    same = " AND ".join(
        f'o.{column.sql} = {column.rule.cast.format(f"""s."{FROM}{place}" """.strip())}'
        for place, column in enumerate(layout.key)
    )
    present = f" AND o.{merge.PRESENT}" if layout.marks else ""
    return (
        f'{layout.staging.sql} AS s LEFT JOIN {layout.target.sql} AS o ON s."{KNOWN}" IS NOT NULL AND {same}{present}'
    )
