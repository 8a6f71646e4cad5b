"""Whether a load in chunks may go on, and the rows of a chunk.

Let h be the horizon of the snapshot S0 that was taken before the first chunk. A chunk has the rows of its blocks with a
transaction id < h. Every such row was visible in S0: its transaction was decided before. A version never changes its
place, so it is in exactly one chunk, and rows of different chunks have different keys. What was written since has an
id >= h, and comes with the last run of the load, which also compares every version with the source: it finds the rows
that were deleted meanwhile (docs/design/correctness.md, "Loading in chunks").
"""

from __future__ import annotations

import dataclasses

from psycopg2 import sql

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.certificate import Action, Certificate, Finding, Level
from aurora_sync.model.load import Load
from aurora_sync.model.observation import Observation
from aurora_sync.model.watermark import Watermark
from aurora_sync.strategies import horizon
from aurora_sync.strategies.identity import Verdict

# PostgreSQL 14 is the first that reads a range of blocks without reading the whole table.
HAS_RANGE_SCANS = 14
# Versions have other places afterwards, or the chunks other columns.
_BEGINS_AGAIN = ("files replaced", "upgrade")
_CHANGES_ROWS = ("restart", "new partition", "partition gone", "partition attached again")
# In a longer load, a row's 32-bit id could be taken for one that is 2^32 transactions younger.
_MOST_TRANSACTIONS = 2**31


def judged(verdict: Verdict, load: Load, at: Observation) -> tuple[Verdict, Load | None]:
    """Return the verdict on the watermark of an unfinished load, and the load; or a verdict without a watermark, and
    None, when the load begins again. Raises SourceError, transient, when a reader lags behind the chunks."""
    if verdict.since is None:
        return verdict, None
    if at.token.in_recovery and at.snapshot.xmax < load.newest:
        raise SourceError(
            f"this reader has replayed transactions up to {at.snapshot.xmax}, but a chunk of the load was read up to"
            f" {load.newest}",
            hint="run again when the reader has caught up, or set AURORA_DSN to the writer endpoint",
            kind=Kind.TRANSIENT,
        )
    why = next((found.text for found in verdict.findings if _ends(found)), "")
    if at.snapshot.xmax - verdict.since.watermark.snapshot.xmin > _MOST_TRANSACTIONS:
        why = "2^31 transactions have begun since the load began"
    if not why:
        return verdict, load
    findings = tuple(found for found in verdict.findings if not _ends(found))
    again = Finding("load begins again", Action.RESEED, f"the load begins again: {why}")
    return Verdict(None, (again, *findings)), None


def _ends(found: Finding) -> bool:
    return found.event in _BEGINS_AGAIN or found.action is Action.ADAPT


def merges(verdict: Verdict) -> bool:
    """Return whether a row of a chunk may be in the target already, in another version: a crash took back a
    transaction that a chunk had seen, or a partition was attached."""
    return any(found.event in _CHANGES_ROWS for found in verdict.findings)


def rows(watermark: Watermark, blocks: sql.Composable, at: Observation) -> sql.Composable:
    """Return the predicate for the rows of a chunk. ``watermark`` is that of the load, ``blocks`` selects the
    blocks."""
    return sql.SQL("{} AND {}").format(blocks, horizon.written_before(watermark.snapshot.xmin, at.snapshot))


def after_pass(load: Load | None, watermark: Watermark) -> Watermark:
    """Return the watermark after a read of what was written while the chunks of ``load`` were loaded. None: the load is
    finished."""
    return watermark.loading(dataclasses.replace(load, passes=load.passes + 1)) if load else watermark


def before_last_run(certificate: Certificate) -> Certificate:
    """Return the certificate of a target that lacks nothing but the last run of its load."""
    text = f"{certificate.text}; rows that were deleted since the load began may still be in the target"
    changes = tuple(change for change in certificate.changes if change != "deletes")
    level = Level.UNCERTIFIED if certificate.level is Level.UNCERTIFIED else Level.BOUNDED
    return dataclasses.replace(certificate, level=level, changes=changes, text=text)
