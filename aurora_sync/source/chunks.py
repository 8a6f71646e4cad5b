"""Chunks of a table: ranges of blocks, each read by a TID range scan of its own (PostgreSQL 14 and newer).

A chunk has the same blocks of every leaf of a partitioned table, because the rights and policies of a leaf may differ
from those of the table that is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

# The first major version that reads a range of blocks without reading the whole table.
HAS_RANGE_SCANS = 14
# A chunk becomes larger than asked for, so that no load has more: each is an entry of the sync log.
MOST_CHUNKS = 1000

_SIZES = """
SELECT pg_relation_size(oid) / current_setting('block_size')::int, pg_table_size(oid) FROM unnest(%s::oid[]) t(oid)
"""


def sizes(connection: Connection, leaves: Sequence[int]) -> list[tuple[int, int]]:
    """Return the number of blocks of each leaf, and the bytes of its heap and TOAST table."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZES, (list(leaves),))
        return [(int(blocks), int(size)) for blocks, size in cursor.fetchall() if blocks]


def bounds(leaves: Sequence[tuple[int, int]], chunk_bytes: int) -> tuple[int, ...]:
    """Return the first block of each chunk, so that each has about ``chunk_bytes``. ``leaves`` are the blocks and bytes
    of each leaf. An empty table is one chunk.

    >>> bounds([(100, 1000)], 250)
    (0, 25, 50, 75)
    >>> bounds([(100, 1000), (20, 200)], 400)
    (0, 20, 60)
    """
    wanted = max(chunk_bytes, sum(size for _, size in leaves) // MOST_CHUNKS)
    found, start, held = [0], 0, 0.0
    for end in sorted({blocks for blocks, _ in leaves}):
        per_block = sum(size / blocks for blocks, size in leaves if blocks >= end)
        while start < end:
            more = max(1, int((wanted - held) / per_block))
            held += min(more, end - start) * per_block
            start = min(start + more, end)
            if held >= wanted * 0.99:  # the rest of a division
                found.append(start)
                held = 0.0
    return tuple(found[:-1]) if len(found) > 1 and held == 0 else tuple(found)


def within(blocks: tuple[int, int | None]) -> sql.Composable:
    """Return the predicate for the rows in these blocks: from the first up to the second; None: no end."""
    first, end = blocks
    after = sql.SQL("ctid >= {}::tid").format(sql.Literal(f"({first},0)"))
    if end is None:
        return after
    return sql.SQL("{} AND ctid < {}::tid").format(after, sql.Literal(f"({end},0)"))
