"""Which parts of a table differ from another, found by sums over buckets of its keys.

Every row has a key number N, which source and warehouse compute alike (sums.py of each). Its bucket at width w
is labelled ``N - mod(N, w)``; widths are powers of two, so buckets nest. mod() truncates, as it does in every
engine: bucket 0 holds all N between -w and w.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Sums = dict[int, tuple[int, ...]]  # label -> count, and sums of whatever a row is told by

# Of the first level: one scan of each side, and a few MB of labels.
MOST_BUCKETS = 65_536
ROWS_PER_BUCKET = 256
# So many rows are moved sooner than looked for any closer: a level costs a scan of the source.
FEW_ROWS = 5_000
# What still fits one statement, as numbers, in every engine.
MOST_LABELS = 5_000
_FINER = 64


@dataclass(frozen=True)
class Buckets:
    """Some buckets of one width; ``labels`` None: the whole table."""

    width: int
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Difference:
    """``buckets`` hold every row that differs; None when nothing does."""

    buckets: Buckets | None
    compared: int  # buckets, on all levels
    differing: int  # buckets, on the last level
    source_rows: int
    target_rows: int


def first_width(rows: int, span: int) -> int:
    """For ``rows`` key numbers spread over ``span``: a power of two.

    >>> first_width(rows=1_000_000, span=1_000_000), first_width(rows=0, span=0)
    (256, 1)
    """
    buckets = max(1, min(MOST_BUCKETS, rows // ROWS_PER_BUCKET))
    return 1 << max(0, -(-span // buckets) - 1).bit_length()


def compare(source: Callable[[Buckets, int], Sums], target: Callable[[Buckets, int], Sums], width: int) -> Difference:
    """Descend into the buckets whose sums differ. Each side is asked for the sums of width w (the second argument)
    within some buckets."""
    within, compared = Buckets(width), 0
    rows: tuple[int, int] | None = None
    while True:
        ours, theirs = source(within, width), target(within, width)
        labels = ours.keys() | theirs.keys()
        compared += len(labels)
        rows = rows or (_rows(ours), _rows(theirs))
        differing = sorted(label for label in labels if ours.get(label) != theirs.get(label))
        if not differing:
            # Below the first level some bucket differs for certain: one that was compared on both sides alike
            # within a wider one that was not would be a row that changed its bucket, and keys do not.
            return Difference(None, compared, 0, *rows)
        found = Buckets(width, tuple(differing))
        to_move = sum(max(ours.get(label, (0,))[0], theirs.get(label, (0,))[0]) for label in differing)
        everything = within.labels is None and to_move * 2 > max(rows) and to_move > FEW_ROWS
        if everything or len(differing) > MOST_LABELS:
            return Difference(Buckets(width), compared, len(differing), *rows)
        if to_move <= FEW_ROWS or width == 1:
            return Difference(found, compared, len(differing), *rows)
        within, width = found, max(1, width // _FINER)


def _rows(sums: Sums) -> int:
    return sum(count for count, *_ in sums.values())
