"""Disposition UPSERT: insert the staged rows that are new, update those that differ.

After a reconcile, the files hold every source row of the buckets that differ. The other target rows in these buckets
are deleted. So are the other target rows of a range of keys that was read again.
"""

from __future__ import annotations

from aurora_sync.errors import GuardError
from aurora_sync.warehouse import history, merge, sums
from aurora_sync.warehouse.ddl import RUN_SEQ
from aurora_sync.warehouse.dispositions.again import delete_missing
from aurora_sync.warehouse.dispositions.base import Merging, Written, guard_deletes, modified_outside


def _assert_predicate(merging: Merging, predicate: str) -> None:
    """Check that each staged key is in the target once. A MERGE inserts a row again if ``predicate`` is false for the
    row that has its key. Raises GuardError."""
    manifest, target = merging.manifest, merging.layout.target
    ((found,),) = merging.session.query(merge.count_matched(merging.layout, merging.within))
    if found == manifest.rows:
        return
    # The MERGE left these rows as they were, so the predicate can still be evaluated for them.
    missed = f't."{RUN_SEQ}" IS DISTINCT FROM {merging.sequence} AND NOT COALESCE(({predicate}), FALSE)'
    within = " AND ".join(filter(None, (merging.within, missed)))
    ((wrong,),) = merging.session.query(merge.count_matched(merging.layout, within))
    if wrong:
        raise GuardError(
            f"merge_predicate ({predicate}) is wrong: it is not true for {wrong} rows of {target} that this increment"
            " updates, and they would be doubled",
            where=manifest.table,
            hint="rolled back; correct merge_predicate in tables.yaml or leave it out, and run again",
        )
    raise GuardError(
        f"keys of this increment are doubled in {target}: it has {found - manifest.rows} more rows with them than the"
        " increment",
        where=manifest.table,
        hint=f"rolled back; {modified_outside(manifest)}",
    )


def write(merging: Merging) -> Written:
    session, layout, repaired = merging.session, merging.layout, merging.manifest.repaired
    deleted, whole = delete_missing(merging), None
    if repaired is not None:
        within, whole = sums.within(sums.number(layout), repaired), merging.manifest.source_rows
        history.record_missing(merging, merge.unstaged(layout, within))
        loaded = 0  # by this very load, in rows that the source deleted meanwhile
        if merging.load:
            ((loaded,),) = session.query(merge.unstaged_since(layout, within, merging.load.first_run))
        deleted = session.modify(merge.delete_unstaged(layout, within), merging.marking)
        guard_deletes(merging, deleted - loaded)
    # Rows that a person or a reconcile has read may be older than those of an increment.
    predicate = merging.config.merge_predicate if repaired is None and not merging.manifest.again else None
    within = " AND ".join(filter(None, (merging.within, predicate and f"({predicate})")))
    merged = session.merge(merge.merge(layout, within=within), merging.written)
    if predicate and merged.inserted:
        _assert_predicate(merging, predicate)
    history.record_scanned(merging)
    return Written(merged.inserted, merged.updated, deleted, removed=0 if layout.soft else deleted, whole=whole)
