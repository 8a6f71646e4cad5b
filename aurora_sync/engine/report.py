"""Results as text for people; receipts and verifications hold the numbers."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from aurora_sync.model.certificate import Level
from aurora_sync.model.foreign_text import printable
from aurora_sync.model.load import Load
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.verification import HIDDEN, RowDifference, Verification


def receipt_lines(receipt: Receipt) -> list[str]:
    """Return the line of the run, the reason why it read more than the strategy's own increment, and the results of its
    reconcile and verification."""
    lines = [receipt_line(receipt)]
    if receipt.because:
        lines.append(f"  {receipt.because}")
    if receipt.load:
        lines.append(f"  {load_line(receipt.load)}")
    if repair := receipt.repair:
        lines.append(
            f"  reconciled: {repair.buckets_compared:,} buckets compared, {repair.buckets_differing:,} differed;"
            f" {repair.lost:,} lost rows, {repair.stale:,} stale, {repair.ghosts:,} ghosts;"
            f" {repair.rows_moved:,} rows moved"
        )
    if receipt.verification:
        lines += verification(receipt.verification)
    return [printable(line) for line in lines]


def guarantee(level: Level, changes: Iterable[str], text: str, as_of: datetime) -> str:
    """Return in one sentence until when a target is certified, or why it is not. ``text`` is that of the
    certificate."""
    if level is not Level.CERTIFIED:
        return f"{level.value.capitalize()}: {text}"
    changes = list(changes)
    unseen = "" if "deletes" in changes else "; only a reconcile removes rows that were deleted at the source"
    return f"Certified until {as_of:%Y-%m-%d %H:%M:%S} UTC ({', '.join(changes)}){unseen}"


def ago(seconds: float) -> str:
    """Return how long ago something was, in the largest unit of which there are at least two.

    >>> ago(100), ago(3_600), ago(200_000)
    ('100 s ago', '60 min ago', '2 days ago')
    """
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:,.0f} {unit} ago"
    return f"{seconds:,.0f} s ago"


def load_line(load: Load) -> str:
    """Return the progress of a load in chunks: chunks, rows, bytes, and the time that is left."""
    text = (
        f"{load.chunks_done:,} of {load.chunks:,} chunks loaded: {load.rows:,} rows, {load.bytes / 1e6:,.1f} MB in S3"
    )
    if not (load.left and load.chunks_done):
        return text
    seconds = load.seconds / load.chunks_done
    left = timedelta(seconds=round(seconds * len(load.left)))
    return f"{text}; about {left} left for one process, {load.bytes / max(load.seconds, 0.001) / 1e6:,.1f} MB/s"


def verification(found: Verification) -> Iterator[str]:
    """Yield lines that say equal, or show the first rows that differ, source beside target, and the repair."""
    moment = f"as of {found.as_of:%Y-%m-%d %H:%M:%S} UTC, by {found.method}"
    if found.equal:
        yield f"  equal: {found.source_rows:,} rows, {moment}"
        return
    yield (
        f"  DIFFERENT: {found.missing:,} rows missing in the target, {found.different:,} different, {found.ghosts:,}"
        f" that only the target has, {moment}"
    )
    if found.caveat:
        yield f"  {found.caveat}"
    hidden = any(HIDDEN in (row.source or row.target or {}).values() for row in found.examples)
    for row in found.examples:
        yield f"  {', '.join(row.key) or 'a row'}" + (f": {row.find}" if hidden and row.find else "")
        if hidden:
            yield f"    {_side(row)}: {', '.join(row.source or row.target or ())}"
            continue
        for name in row.source or row.target or ():
            source, target = (side.get(name) if side else "(no row)" for side in (row.source, row.target))
            yield f"    {name:<20} source {_shown(source)}   target {_shown(target)}"
    yield f"  {remedy(found)}"


def remedy(found: Verification) -> str:
    """Return the command that repairs the differences, and why a cheaper one does not."""
    table = shlex.quote(found.table)
    if found.same_version:
        return (
            f"to repair: aurora-sync {found.repair} {table}; {found.same_version:,} of the different rows have"
            " the version of the source's row, so a reconcile treats them as equal"
        )
    return f"to repair: aurora-sync {found.repair} {table}, or aurora-sync verify --repair {table}"


def _side(row: RowDifference) -> str:
    """Return the words before the column names of a row whose values are hidden."""
    if row.source and row.target:
        return "differs in the columns"
    return "only in the source, with the columns" if row.source else "only in the target, with the columns"


def _shown(value: str | None) -> str:
    text = "NULL" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def receipt_line(receipt: Receipt) -> str:
    """Return one line of columns about one run: table, run, rows read and how, changes, rows now, seconds."""
    if receipt.changed:
        what = f"run {receipt.run_sequence}"
        changes = f"+{receipt.inserted:,} ~{receipt.updated:,} -{receipt.deleted:,}"
    else:
        what, changes = "idle", "nothing new"
    read = f"{receipt.rows_exported:,} read by {receipt.method}"
    return (
        f"{receipt.table:<26} {what:<8} {read:<40} {changes:<22}"
        f" {receipt.target_rows:>12,} rows  {receipt.seconds['total']:.1f} s"
    )
