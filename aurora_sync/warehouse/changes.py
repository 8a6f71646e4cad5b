"""Disposition CHANGES: apply a stretch of a change stream, upserts that may leave columns as they are, then deletes.

Behind its columns and transaction id a staged change has these fields:

=========== ===================================================================================================
``_OP``     U, the row is there with these values; D, it is not
``_KNOWN``  empty when the change knows all columns; else for each column 1, or 0 where the stream did not repeat a
            value that is stored out of line (TOAST)
``_PART``   number of the part, from 0
``_FROM_i`` the key of the target row that has the columns which are not known: its own, or the one that it had
            before its key was changed
=========== ===================================================================================================

Within a part each key occurs once, and what an upsert takes over is read before any row of the part is written or
deleted (correctness.md, section 8.1).
"""

# ruff: noqa: S608 - every name went through identifier(), every value is a parameter or a number

from __future__ import annotations

from aurora_sync.errors import DefectError, TargetChangedError
from aurora_sync.warehouse import history, merge
from aurora_sync.warehouse.ddl import DELETED, FROM, KNOWN, OP, PART, RUN_SEQ, SYNCED_AT, Layout
from aurora_sync.warehouse.disposition import Merging, Written


def write(merging: Merging) -> Written:
    """Apply part by part. A stream names what was deleted, so no guard stands before it."""
    session, layout, manifest = merging.session, merging.layout, merging.manifest
    ((partial,),) = session.query(count_partial(layout))
    named = sum(part.partial for part in manifest.parts)
    if partial != named:
        raise DefectError(
            f"{manifest.rows} changes are staged, {partial} of them partial, and the manifest names {named}",
            where=manifest.table,
        )
    changed = deleted = 0
    for number, part in enumerate(manifest.parts):
        if part.truncated:
            truncate = merge.mark_present(layout) if layout.soft else merge.delete_present(layout)
            deleted += session.modify(truncate, merging.marking)
        if part.partial and (orphans := session.query(count_orphans(layout, number))) != [(0,)]:
            raise TargetChangedError(
                f"{orphans[0][0]} updated rows, which the stream does not repeat in full, are not in {layout.target}",
                where=manifest.table,
                hint="it was edited by hand, or restored",
            )
        changed += session.modify(upsert(layout, number, partial=part.partial > 0), merging.written)
        deleted += session.modify(delete(layout, number), merging.marking)
    history.record_changes(merging)
    return Written(changed, deleted, removed=0 if layout.soft else deleted)


def upsert(layout: Layout, part: int, *, partial: bool) -> str:
    """Of one part; ``partial`` when some of its rows do not know all columns. Two parameters."""
    condition = f"""s."{OP}" = 'U' AND s."{PART}" = '{part}'"""
    if not partial:
        return merge.merge(layout, merge.staged_rows(layout, source=f"{layout.staging.sql} AS s WHERE {condition}"))
    values = [
        f"""CASE WHEN SUBSTR(s."{KNOWN}", {place}, 1) = '0' THEN o.{column.sql} ELSE {column.value} END"""
        for place, column in enumerate(layout.columns, 1)
    ]
    return merge.merge(layout, merge.staged_rows(layout, source=f"{_origins(layout)} WHERE {condition}", values=values))


def count_partial(layout: Layout) -> str:
    """Staged rows that do not know all columns."""
    return f'SELECT COUNT("{KNOWN}") FROM {layout.staging.sql}'


def count_orphans(layout: Layout, part: int) -> str:
    """Upserts of one part whose missing columns no row of the target has."""
    return (
        f"SELECT COUNT(*) FROM {_origins(layout)}"
        f""" WHERE s."{OP}" = 'U' AND s."{PART}" = '{part}' AND s."{KNOWN}" IS NOT NULL AND o."{RUN_SEQ}" IS NULL"""
    )


def delete(layout: Layout, part: int) -> str:
    """Of one part; with soft deletes, which take the two parameters, mark."""
    target = layout.target.sql  # in full: a table may be called S, as the alias is
    same = " AND ".join(f"{column.value} = {target}.{column.sql}" for column in layout.key)
    gone = (
        f"EXISTS (SELECT 1 FROM {layout.staging.sql} AS s"
        f""" WHERE s."{OP}" = 'D' AND s."{PART}" = '{part}' AND {same})"""
    )
    if not layout.soft:
        return f"DELETE FROM {target} WHERE {gone}"
    return (
        f'UPDATE {target} SET "{DELETED}" = TRUE, "{RUN_SEQ}" = ?, "{SYNCED_AT}" = ? WHERE {merge.PRESENT} AND {gone}'
    )


def _origins(layout: Layout) -> str:
    """The staged rows, each beside the target row that has what it does not know."""
    same = " AND ".join(
        f'o.{column.sql} = {column.rule.cast.format(f"""s."{FROM}{place}" """.strip())}'
        for place, column in enumerate(layout.key)
    )
    present = f" AND o.{merge.PRESENT}" if layout.marks else ""
    return (
        f'{layout.staging.sql} AS s LEFT JOIN {layout.target.sql} AS o ON s."{KNOWN}" IS NOT NULL AND {same}{present}'
    )
