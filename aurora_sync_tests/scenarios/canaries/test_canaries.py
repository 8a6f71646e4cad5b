from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aurora_sync.model.column import Column
from aurora_sync.model.watermark import Snapshot
from aurora_sync.source import canary
from aurora_sync_tests.scenarios.world import World, config

AT = Snapshot(1000, 1010, datetime(2026, 1, 1, tzinfo=UTC))
COLUMNS = (Column("id", 1, "integer", "int4"), Column("v", 2, "text", "text"))


def picked(rows: bytes, number: int = 20, key: tuple[str, ...] = ("id",)) -> list[tuple[str, ...]]:
    return [found.key for found in canary.pick(rows, COLUMNS, key, AT, number)]


def test_newest_rows_are_picked_whatever_their_text_holds() -> None:
    rows = b'1,a,5\n2,"line\nbreak, ""quoted"" 7\n",1001\n3,,1003\n'
    assert picked(rows) == [("3",), ("2",), ("1",)]
    assert picked(rows, number=1) == [("3",)]
    assert picked(b"") == []
    assert picked(b"9," + b"x" * 20_000 + b",1005\n" + rows, number=1) == [("3",)]  # too long to be read back each time


def test_rows_without_a_key_that_an_index_serves_are_no_canaries() -> None:
    assert picked(b"1,a,5\n", key=()) == []
    assert canary.pick(b"1,a,5\n", (Column("id", 1, "public.ltree", "ltree"),), ("id",), AT, 5) == ()


@pytest.mark.parametrize("key", ["id int", "id text", "id char(9)", "id numeric", "id timestamptz", "id bytea"])
def test_canaries_are_read_back_as_they_were_exported(world: World, key: str) -> None:
    value = {"id bytea": "'\\xff'::bytea", "id timestamptz": "'2026-01-01 00:00:00.5+00'"}.get(key, "'7'")
    world.execute(f"CREATE TABLE t ({key} PRIMARY KEY, v text)", f"INSERT INTO t VALUES ({value}, E'two\\nlines')")
    after = world.sync(config()).watermark_after
    assert len(after.canaries) == 1
    with world.places.source.reading("public", "t") as reading:
        reading.observe(None, max_minutes=1)
        assert reading.recall(reading.table.columns, ("id",), after.canaries) == after.canaries
    world.execute("UPDATE t SET v = 'other'")
    with world.places.source.reading("public", "t") as reading:
        reading.observe(None, max_minutes=1)
        (now,) = reading.recall(reading.table.columns, ("id",), after.canaries)
        assert (now.key, now == after.canaries[0]) == (after.canaries[0].key, False)
    world.execute("DELETE FROM t")
    with world.places.source.reading("public", "t") as reading:
        reading.observe(None, max_minutes=1)
        assert reading.recall(reading.table.columns, ("id",), after.canaries) == ()
