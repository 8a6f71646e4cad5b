"""The transactions that a partitioned table needs decoded in a new session, on servers before PostgreSQL 15."""

from __future__ import annotations

import pytest

from aurora_sync.model.column import Column
from aurora_sync.source.logical.feed import TableFeed
from aurora_sync.source.logical.pgoutput import Begin
from aurora_sync.strategies.logical import SlotPosition
from aurora_sync.strategies.streaming import Seen


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        (None, []),
        (1300, [1100, 1200, 1300]),  # the scan missed two of the transactions before 1300
        (0, [1100]),
    ],
)
def test_sessions_begin_anew_until_no_partition_can_have_moved(since: int | None, expected: list[int]) -> None:
    position = SlotPosition(slot="s", member="m", lsn=900, until=1300, seen=Seen(xmax=20, in_progress=(8, 9)))
    feed = TableFeed("public.t", [Column("id", 1, "integer", "int4")], ["id"], {}, position.has)
    feed.partitions_since = since
    log = {1000: 7, 1100: 8, 1200: 9, 1250: 10, 1300: 11, 1400: 12}
    began = [Begin(place, 0, xid) for place, xid in log.items()]
    assert [each.commit_lsn for each in began if feed.needs_new_session(each)] == expected
