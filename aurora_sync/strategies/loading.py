"""Whether a load in chunks may go on, and the rows of a chunk.

Let h be the horizon of the snapshot S0 that was taken before the first chunk. A chunk has the rows of its blocks with a
transaction id < h. Every such row was visible in S0: its transaction was decided before. A version never changes its
place, so it is in exactly one chunk, and rows of different chunks have different keys. What was written since has an
id >= h, and comes with the last run of the load, which also compares every version with the source: it finds the rows
that were deleted meanwhile (docs/design/correctness.md, "Loading in chunks").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from psycopg2 import sql

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.certificate import Action, Certificate, Finding, Level
from aurora_sync.model.load import Load
from aurora_sync.model.observation import Observation
from aurora_sync.model.watermark import Canary, Watermark
from aurora_sync.strategies import horizon, identity
from aurora_sync.strategies.base import Since
from aurora_sync.strategies.identity import Verdict

# Versions have other places afterwards, or the chunks other columns.
_BEGINS_AGAIN = ("files replaced", "upgrade")
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
        return _comparing(verdict, verdict.since, load), load
    findings = tuple(found for found in verdict.findings if not _ends(found))
    again = Finding("load begins again", Action.RESEED, f"the load begins again: {why}")
    return Verdict(None, (again, *findings)), None


def _comparing(verdict: Verdict, since: Since, load: Load) -> Verdict:
    """Return the verdict, which asks for a comparison when the target may have rows that an outbox does not name: it
    had rows before, or a pass scanned the table instead of reading the outbox, and found no deletes."""
    if not (load.replaces or load.passes) or since.only_scan:
        return verdict
    why = "the target had rows when the load in chunks began" if load.replaces else "a pass compared nothing"
    return dataclasses.replace(verdict, since=dataclasses.replace(since, only_scan=why))


def _ends(found: Finding) -> bool:
    return found.event in _BEGINS_AGAIN or found.action is Action.ADAPT


def merges(verdict: Verdict) -> bool:
    """Return whether a row of a chunk may be in the target already, in another version: a crash took back a transaction
    that a chunk had seen."""
    return any(found.event == "restart" for found in verdict.findings)


def rows(watermark: Watermark, blocks: sql.Composable, at: Observation) -> sql.Composable:
    """Return the predicate for the rows of a chunk. ``watermark`` is that of the load, ``blocks`` selects the blocks.
    Partitions that were attached since are left to the last run, which reads them whole: S0 did not see their rows."""
    found = sql.SQL("{} AND {}").format(blocks, horizon.written_before(watermark.snapshot.xmin, at.snapshot))
    if new := horizon.new_members(watermark.token.members, at):
        found = sql.SQL("{} AND tableoid NOT IN ({})").format(found, sql.SQL(", ").join(map(sql.Literal, new)))
    return found


def canaries(watermark: Watermark, at: Observation, exported: Sequence[Canary]) -> tuple[Canary, ...]:
    """Return the canaries after a chunk. Those of earlier chunks have the columns of S0, as the watermark has, and not
    today's."""
    there = {(canary.key, canary.xmin) for canary in at.canaries}
    kept = tuple(canary for canary in watermark.canaries if (canary.key, canary.xmin) in there)
    return identity.canaries(watermark, dataclasses.replace(at, canaries=kept), exported)


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
