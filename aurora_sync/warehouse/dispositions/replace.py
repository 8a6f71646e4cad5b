"""Disposition REPLACE: afterwards the target holds the staged rows and no others."""

from __future__ import annotations

from aurora_sync.warehouse import history, merge
from aurora_sync.warehouse.dispositions.base import Merging, Written, guard_deletes

# A first load of more rows is not ordered by its key, because a small virtual warehouse would write the sort to disk.
MOST_ORDERED = 100_000_000


class UncheckedRowsError(Exception):
    """Ends the transaction of rows that were not checked before and cannot be written as they are."""


def _all_written(merging: Merging, inserted: int) -> bool:
    """Return whether all rows of the increment were written to the empty target, with different keys."""
    if inserted != merging.manifest.rows:
        return False
    return not merging.layout.key or merging.session.query(merge.has_doubled(merging.layout)) == [(0,)]


def write(merging: Merging) -> Written:
    session, layout, manifest = merging.session, merging.layout, merging.manifest
    if not merging.before.rows:
        ordered = session.dialect.prunes and manifest.rows <= MOST_ORDERED
        statement = merge.insert(layout, ordered=ordered, fitting=merging.unchecked)
        inserted = session.modify(statement, merging.written)
        if merging.unchecked and not _all_written(merging, inserted):
            raise UncheckedRowsError
        history.record_scanned(merging)
        return Written(inserted, whole=manifest.rows)
    rekeyed = manifest.evolution.rekeyed  # target rows have the old key: all present ones are removed, marked ones stay
    history.record_missing(merging, "TRUE" if rekeyed else merge.unstaged(layout))
    if rekeyed:
        deleted = session.modify(merge.delete_present(layout))
    else:
        if not layout.key:
            session.modify(merge.renumber(layout))
        deleted = session.modify(merge.delete_unstaged(layout), merging.marking)
    if not merging.allow_deletes:
        # Without a key, or after a change of it, a changed row is a deleted and an inserted one: only the difference is
        # a loss. Rows that were already marked as deleted do not count.
        left = merging.count().present if layout.key and not rekeyed else manifest.rows
        guard_deletes(merging, merging.before.present - left)
    merged = session.merge(merge.merge(layout, within=merging.within), merging.written)
    history.record_scanned(merging)
    removed = 0 if layout.soft and not rekeyed else deleted
    return Written(merged.inserted, merged.updated, deleted, removed, whole=manifest.rows)
