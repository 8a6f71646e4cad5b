"""Search for the parts of two tables that differ, by sums over buckets of their keys.

Every row has a key number N, which source and warehouse compute in the same way (source/sums.py and warehouse/sums.py).
The bucket of a row at width w has the label ``N - mod(N, w)``. Widths are powers of two, so buckets nest. mod()
truncates in every engine: bucket 0 holds all N between -w and w.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Sums = dict[int, tuple[int, ...]]  # label -> count, and sums of the values that identify a row's version or content

# Limit of the first level, which costs one scan of each side and a few MB of labels.
MOST_BUCKETS = 65_536
ROWS_PER_BUCKET = 256
# Moving up to this many rows is cheaper than another level, which costs a scan of the source.
FEW_ROWS = 5_000
# This many numbers fit into one statement of every engine.
MOST_LABELS = 5_000
_FINER = 64


@dataclass(frozen=True)
class Buckets:
    """A set of buckets of one width; ``labels`` None means the whole table."""

    width: int
    labels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Difference:
    """The result of :func:`compare`. ``buckets`` hold every row that differs; None when no row does."""

    buckets: Buckets | None
    compared: int  # buckets, on all levels
    differing: int  # buckets, on the last level
    source_rows: int
    target_rows: int


def first_width(rows: int, span: int) -> int:
    """Return the width of the first level, a power of two, for ``rows`` key numbers spread over ``span``.

    >>> first_width(rows=1_000_000, span=1_000_000), first_width(rows=0, span=0)
    (512, 1)
    """
    buckets = max(1, min(MOST_BUCKETS, rows // ROWS_PER_BUCKET))
    return 1 << max(0, -(-span // buckets) - 1).bit_length()


def compare(source: Callable[[Buckets, int], Sums], target: Callable[[Buckets, int], Sums], width: int) -> Difference:
    """Find the buckets that hold every differing row, level by level, beginning with buckets of ``width``.

    ``source`` and ``target`` return the sums of one side: of the buckets of a width (the second argument) within given
    buckets.
    """
    within, compared = Buckets(width), 0
    rows: tuple[int, int] | None = None
    while True:
        ours, theirs = source(within, width), target(within, width)
        labels = ours.keys() | theirs.keys()
        compared += len(labels)
        rows = rows or (_rows(ours), _rows(theirs))
        differing = sorted(label for label in labels if ours.get(label) != theirs.get(label))
        if not differing:
            # This happens on the first level alone: a wider bucket that differs contains a narrower one that differs,
            # because a row never changes its bucket.
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
