"""Validation of a stored watermark against the current source, by the identity token.

=============================================== ========== =================================================
what changed                                    action     why
=============================================== ========== =================================================
nothing                                         go on
server restarted, or recovered from a crash     widen      ids whose WAL was not flushed are reused; a reconcile
                                                           finds rows that were exported under such ids
a partition was attached or added               widen      its rows may be old: the new leaf is read whole
a partition was detached or dropped             reconcile  its rows no longer belong to the table
a partition was detached and attached again     reconcile  triggers, locks and publication of the table missed
                                                           what was written to the partition in between
files replaced (TRUNCATE, VACUUM FULL, ALTER)   reconcile  rows may be gone; a deleted row leaves nothing to read
another major version, all else unchanged       widen      pg_upgrade keeps transaction ids and rows
other system, timeline or database              reseed     the watermark's ids belong to another history
transaction counter or horizon went back        reseed     the database was restored or cloned
a canary is not the row that was exported       reseed     a restore after which the counter has caught up
table has another oid (swapped or recreated)    reseed     the rows of the new table were never read
columns or merge key changed                    see below  the target follows, or its rows are read again
kinds of changes, or append_only, changed       reseed     the earlier runs looked for other rows
a long transaction or a forgotten prepared one  go on      it holds the horizon: its rows are read again
older than the watermark, on a reader           refuse     the target would go back to an earlier state
=============================================== ========== =================================================

schema_changes.py decides about columns and the merge key. engine/preflight.py refuses row-level security, foreign
tables and missing privileges before. A reseed reads the whole table and replaces the target's content in one
transaction.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.certificate import Action, Finding
from aurora_sync.model.column import Column
from aurora_sync.model.observation import Observation
from aurora_sync.model.watermark import ABORTED, Canary, Watermark
from aurora_sync.strategies import horizon
from aurora_sync.strategies.base import Since, Strategy
from aurora_sync.strategies.schema_changes import UNCHANGED, SchemaChanges

# Shorter transactions are normal; a transaction of this length is reported.
LONG_TRANSACTION = timedelta(minutes=10)

# The number of canaries, which are the newest rows exported. After a restore one changed canary proves another history;
# with twenty it is likely that one has changed.
CANARIES = 20


@dataclass(frozen=True)
class Verdict:
    """The result of :func:`judge`. ``since`` is None for a first run or a reseed; ``backfill`` are added columns that
    the target has to fill."""

    since: Since | None
    findings: tuple[Finding, ...] = ()
    backfill: tuple[Column, ...] = ()

    @property
    def reconcile(self) -> bool:
        """True when the target may have rows that no increment corrects."""
        return any(finding.event in _LEAVE_ROWS_BEHIND for finding in self.findings)

    @property
    def rows_are_gone(self) -> bool:
        """True when a change was found that probably removed rows from the source."""
        return any(finding.action is Action.RECONCILE for finding in self.findings)


_LEAVE_ROWS_BEHIND = {"restart", "upgrade", "partition gone", "partition attached again", "files replaced"}


def judge(stored: Watermark | None, at: Observation, covers: str, changes: SchemaChanges = UNCHANGED) -> Verdict:
    """Compare the stored token with the current one, and decide how the run continues.

    ``covers`` is the current digest (:func:`covers`), ``changes`` are the changes of the columns since ``stored``.
    Raises SourceError (transient) when the source is a reader that lags behind the watermark.
    """
    if stored is None:
        return Verdict(None, (*_evolved(changes), *_long_transaction(at)))
    if _lags(stored, at):
        raise SourceError(
            f"this reader has replayed transactions up to {at.snapshot.xmax}, but the last run read up to"
            f" {stored.snapshot.xmax}",
            hint="run again when the reader has caught up, or set AURORA_DSN to the writer endpoint",
            kind=Kind.TRANSIENT,
        )
    reasons = _reseed_reasons(stored, at, covers, changes)
    if reasons or changes.reseed:
        reseed = [Finding(event, Action.RESEED, f"reading the whole table again: {why}") for event, why in reasons]
        return Verdict(None, (*reseed, *_evolved(changes), *_long_transaction(at)))
    restarted = (stored.token.started, stored.token.counters_since) != (at.token.started, at.token.counters_since)
    findings = (*_findings(stored, at, restarted), *changes.findings, *_long_transaction(at))
    only_scan = next((found.text for found in findings if found.action is not Action.GO_ON), "")
    return Verdict(Since(stored, restarted, only_scan), findings, changes.backfill)


def covers(config: TableConfig, strategy: Strategy) -> str:
    """Return a digest of the kinds of changes that a strategy looks for. A watermark is valid for one digest only."""
    document = json.dumps([strategy.sees_updates, config.append_only])
    return hashlib.sha256(document.encode()).hexdigest()[:16]


def canaries(stored: Watermark | None, at: Observation, exported: Sequence[Canary]) -> tuple[Canary, ...]:
    """Return the canaries of the next watermark: the newest of the rows just exported and of the stored canaries that
    still exist."""
    written = {(canary.key, canary.xmin) for canary in stored.canaries} if stored else set()
    kept = {canary.key: canary for canary in at.canaries if (canary.key, canary.xmin) in written}
    kept |= {canary.key: canary for canary in exported}
    newest = horizon.newest(at.snapshot)
    return tuple(sorted(kept.values(), key=lambda c: (horizon.age(raw=c.xmin, newest=newest), c.key))[:CANARIES])


def _lags(stored: Watermark, at: Observation) -> bool:
    """Return whether the source is a reader that is behind the watermark and will catch up. A reader of another system,
    or of a timeline that began after the watermark, belongs to a restored or promoted database and never catches up."""
    then, now = stored.token, at.token
    same = then.system_identifier == now.system_identifier and then.timeline >= now.timeline
    return now.in_recovery and same and at.snapshot.xmax < stored.snapshot.xmax


def _evolved(changes: SchemaChanges) -> tuple[Finding, ...]:
    """Return the findings for a read of the whole table, which needs no backfill of an added column."""
    return tuple(
        dataclasses.replace(found, action=Action.ADAPT, text=f"column {found.after} was added")
        if found.action is Action.BACKFILL
        else found
        for found in changes.findings
    )


def _findings(stored: Watermark, at: Observation, restarted: bool) -> list[Finding]:
    then, now = stored.token, at.token
    found = []
    if then.major != now.major:
        text = f"PostgreSQL {then.major} was upgraded to {now.major} in place: transaction ids and rows continue"
        found.append(Finding("upgrade", Action.WIDEN, text))
    if restarted:
        text = "the server was restarted since the last run: rows are read from the horizon less a margin"
        found.append(Finding("restart", Action.WIDEN, text))
    if new := now.members.keys() - then.members.keys():
        text = f"{len(new)} partitions were attached or added: they are read whole"
        found.append(Finding("new partition", Action.WIDEN, text))
    if gone := then.members.keys() - now.members.keys():
        text = f"{len(gone)} partitions were detached or dropped: the target is compared with the source"
        found.append(Finding("partition gone", Action.RECONCILE, text))
    if then.reattached(now):
        text = "partitions were detached and attached again: the target is compared with the source"
        found.append(Finding("partition attached again", Action.RECONCILE, text))
    if then.rewritten(now):
        text = (
            "the table's files were replaced (TRUNCATE, VACUUM FULL, CLUSTER or an ALTER that rewrites): the target"
            " is compared with the source"
        )
        found.append(Finding("files replaced", Action.RECONCILE, text))
    return found


def _long_transaction(at: Observation) -> tuple[Finding, ...]:
    if at.oldest_writer is None or at.snapshot.taken_at - at.oldest_writer < LONG_TRANSACTION:
        return ()
    minutes = (at.snapshot.taken_at - at.oldest_writer).total_seconds() / 60
    text = (
        f"{at.oldest_writer_name} has been open for {minutes:,.0f} minutes: it holds back the horizon, so every run"
        " reads all later rows again"
    )
    return (Finding("long transaction", Action.GO_ON, text),)


def _upgraded(stored: Watermark, at: Observation) -> bool:
    """Return whether the source is the stored one after pg_upgrade, which creates a new system with the same ids, oids
    and rows. After a blue/green switch the canaries differ, because replication wrote the newest rows there."""
    return stored.token.major < at.token.major and bool(stored.canaries) and stored.canaries == at.canaries


def _other_history(stored: Watermark, at: Observation, texts_stay: bool) -> bool:
    """Return whether a canary proves another history: its row exists, was decided before the watermark, and is not the
    row that was exported. If columns are missing from the row's text now, only the transaction id is compared."""
    newest, recorded = horizon.newest(at.snapshot), {canary.key: canary for canary in stored.canaries}
    # Where a unique index is corrupt, another row may have the same key.
    there = {canary.key for canary in at.canaries if recorded.get(canary.key) == canary}
    for canary in at.canaries:
        then = recorded.get(canary.key)
        if then is None or canary.key in there:  # None: an equal key with another text; the exported row is gone
            continue
        older = horizon.age(raw=canary.xmin, newest=newest) > newest - stored.snapshot.xmin
        if canary.xmin != then.xmin and older:
            return True
        if texts_stay and canary != then and (older or canary.xmin == then.xmin):
            return True
    return False


def _reseed_reasons(stored: Watermark, at: Observation, covers: str, changes: SchemaChanges) -> list[tuple[str, str]]:
    then, now = stored.token, at.token
    found = []
    if then.system_identifier != now.system_identifier and not _upgraded(stored, at):
        text = f"the source is another database system ({then.system_identifier} before, {now.system_identifier} now)"
        found.append(("other system", text))
    if then.timeline != now.timeline and not _upgraded(stored, at):
        text = (
            f"the source is on another timeline ({then.timeline} before, {now.timeline} now): it was"
            " restored or promoted"
        )
        found.append(("other timeline", text))
    if then.database_oid != now.database_oid:
        text = f"the database was recreated (oid {then.database_oid} before, {now.database_oid} now)"
        found.append(("other database", text))
    if at.snapshot.xmax < stored.snapshot.xmax or at.snapshot.xmin < stored.snapshot.xmin:
        text = (
            f"the transaction counter went back (from {stored.snapshot.xmax} to {at.snapshot.xmax}):"
            " the database was restored or cloned"
        )
        found.append(("counter went back", text))
    if then.table_oid != now.table_oid:
        text = f"the table was recreated or swapped (oid {then.table_oid} before, {now.table_oid} now)"
        found.append(("other table", text))
    if stored.covers == ABORTED:
        found.append(("load aborted", "its load in chunks was aborted"))
    elif stored.covers != covers:
        found.append(("other claim", "the strategy or append_only changed, so other kinds of changes are read"))
    # After a change of the rows' texts every canary would differ; such a change reads the rows again anyway.
    if not found and not changes.reseed and _other_history(stored, at, changes.texts_stay):
        text = "exported rows were replaced by transactions that had ended before: the database was restored"
        found.append(("canary changed", text))
    return found
