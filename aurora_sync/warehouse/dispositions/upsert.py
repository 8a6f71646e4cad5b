"""Disposition UPSERT: insert the staged rows that are new, update those that differ.

After a reconcile, the files hold every source row of the buckets that differ. The other target rows in these buckets
are deleted.
"""

from __future__ import annotations

from aurora_sync.warehouse import history, merge, sums
from aurora_sync.warehouse.dispositions.base import Merging, Written, guard_deletes


def write(merging: Merging) -> Written:
    session, layout, repaired = merging.session, merging.layout, merging.manifest.repaired
    deleted, whole = 0, None
    if repaired is not None:
        within, whole = sums.within(sums.number(layout), repaired), merging.manifest.source_rows
        history.record_missing(merging, merge.unstaged(layout, within))
        deleted = session.modify(merge.delete_unstaged(layout, within), merging.marking)
        guard_deletes(merging, deleted)
    merged = session.merge(merge.merge(layout, within=merging.within), merging.written)
    history.record_scanned(merging)
    return Written(merged.inserted, merged.updated, deleted, removed=0 if layout.soft else deleted, whole=whole)
