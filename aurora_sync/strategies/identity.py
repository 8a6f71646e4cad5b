"""May today's source go on from a stored watermark? The identity token, judged.

============================================= ========= ==========================================
what changed                                  verdict   why
============================================= ========= ==========================================
nothing                                       go on
server restarted, or recovered from a crash   widen     ids whose WAL was not flushed are reused
a partition was attached or added             go on     the new leaf is read whole (horizon.py)
other system, timeline or database            reseed    the watermark's ids belong to another history
transaction counter or horizon went back      reseed    a restored or cloned database
table has another oid (rename swap, re-made)  reseed    its rows were never read
a label of an enum was renamed                reseed    rows show the new one without being written
columns, merge key or claim changed           reseed    the target's rows were made from other columns
older than the watermark, on a reader         refuse    a lagging reader would take the target back
============================================= ========= ==========================================

A reseed reads the whole table and replaces the target's content in one transaction.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import Kind, SourceError
from aurora_sync.increment import Column, Watermark
from aurora_sync.relation import Observation
from aurora_sync.strategies.base import Since, Strategy


@dataclass(frozen=True)
class Verdict:
    """``since`` is where to go on from, None for a first run or a reseed; ``reasons`` go to the run's warnings."""

    since: Since | None
    reasons: tuple[str, ...] = ()


def judge(stored: Watermark | None, at: Observation, covers: str) -> Verdict:
    """Compare the token stored with a watermark to the one just read.

    Raises SourceError (transient) when a reader lags behind the watermark.
    """
    if stored is None:
        return Verdict(None)
    if at.token.in_recovery and at.snapshot.xmax < stored.snapshot.xmax:
        raise SourceError(
            f"this reader has not yet replayed what the last run saw (transaction {at.snapshot.xmax},"
            f" the last run read up to {stored.snapshot.xmax})",
            hint="run again when it has caught up, or point AURORA_DSN at the writer endpoint",
            kind=Kind.TRANSIENT,
        )
    reasons = _reseed_reasons(stored, at, covers)
    if reasons:
        return Verdict(None, tuple(f"reading the whole table again: {reason}" for reason in reasons))
    then, now = stored.token, at.token
    if (then.started, then.counters_since) != (now.started, now.counters_since):
        return Verdict(
            Since(stored, restarted=True),
            ("the server was restarted since the last run: rows are read from the horizon less a margin",),
        )
    return Verdict(Since(stored))


def covers(config: TableConfig, strategy: Strategy, columns: Sequence[Column], key: Sequence[str]) -> str:
    """What a watermark is true of: a digest of the columns, the merge key, and which changes were looked for.

    A column that was dropped and made again has another number, and a generated one another expression: either
    changes the values of rows that nobody wrote.
    """
    described = [
        [c.attnum, c.name, c.type_name, c.default if c.generated else None, config.column_types.get(c.name, "")]
        for c in columns
    ]
    document = json.dumps([described, list(key), strategy.sees_updates, config.append_only])
    return hashlib.sha256(document.encode()).hexdigest()[:16]


def _reseed_reasons(stored: Watermark, at: Observation, covers: str) -> list[str]:
    then, now = stored.token, at.token
    found = []
    if then.system_identifier != now.system_identifier:
        found.append(
            f"the source is another database system ({then.system_identifier} before, {now.system_identifier} now)"
        )
    if then.timeline != now.timeline:
        found.append(
            f"the source is on another timeline ({then.timeline} before, {now.timeline} now): it was"
            " restored or promoted"
        )
    if then.database_oid != now.database_oid:
        found.append(f"the database was made anew (oid {then.database_oid} before, {now.database_oid} now)")
    if at.snapshot.xmax < stored.snapshot.xmax or at.snapshot.xmin < stored.snapshot.xmin:
        found.append(
            f"the transaction counter went back (from {stored.snapshot.xmax} to {at.snapshot.xmax}):"
            " the database was restored or cloned"
        )
    if then.table_oid != now.table_oid:
        found.append(f"the table was made anew or swapped (oid {then.table_oid} before, {now.table_oid} now)")
    renamed = [label for oid, label in then.labels.items() if now.labels.get(oid, label) != label]
    if renamed:
        found.append(f"labels of its enums were renamed: {', '.join(renamed)}")
    if stored.covers != covers:
        found.append("its columns, their types, the merge key or what the strategy looks for changed")
    return found
