from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aurora_sync.model.column import Column
from aurora_sync.model.export import Exported
from aurora_sync.model.watermark import Snapshot
from aurora_sync.source import canary
from aurora_sync.source.exporter import ClientCopy
from aurora_sync.source.outbox import live_row_ending
from aurora_sync.strategies import identity
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
    # too long to be read again in every run
    assert picked(b"9," + b"x" * 20_000 + b",1005\n" + rows, number=1) == [("3",)]


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


class WithoutTail(ClientCopy):
    """An exporter that does not see the rows, like the server's own export."""

    def export(self, *arguments: Any) -> Exported:
        return replace(super().export(*arguments), newest=None)


@pytest.mark.parametrize(("kind", "method"), [("xmin", "horizon scan"), ("outbox", "outbox")])
def test_canaries_of_an_exporter_that_does_not_see_the_rows_are_those_of_one_that_does(
    world: World, kind: str, method: str
) -> None:
    """The table has column names that the query also uses, two columns without a name, a row that is too long, and a
    deleted row."""
    table = config("t", kind)
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, newest text, exported text, a int[], b int[])",
        "INSERT INTO t SELECT n, NULL, E'two\\nlines', '{1}', '{2}' FROM generate_series(1, 30) n",
    )
    if kind == "outbox":
        world.make(table)
    world.places = replace(world.places, source=replace(world.places.source, exporters={"client": WithoutTail()}))
    assert len(world.sync(table).watermark_after.canaries) == identity.CANARIES
    world.execute(
        "INSERT INTO t SELECT 100, string_agg(md5(n::text), '') FROM generate_series(1, 1000) n",
        "UPDATE t SET newest = 'x' WHERE id <= 2",
        "DELETE FROM t WHERE id = 3",
    )
    with world.places.source.reading("public", "t") as reading, world.places.stage.attempt("t", "0" * 12) as attempt:
        snapshot = reading.observe(None, max_minutes=1).snapshot
        columns, outbox = reading.table.columns, reading.table.outbox
        statement = reading.statement(columns, None, outbox=outbox)
        exported = reading.export(statement, attempt)
        ending = live_row_ending(outbox) if outbox else b""
        seen, found = (
            canary.pick(rows, columns, ("id",), snapshot, 2, ending=ending)
            for rows in (bytes(attempt.tail), reading.newest(exported, statement, snapshot))
        )
    assert {each.key for each in seen} == {("1",), ("2",)}
    assert set(found) == set(seen)
    after = world.sync(table).watermark_after
    assert set(found) <= set(after.canaries)
    assert world.sync(table).method == method


def test_a_view_has_no_canaries_whatever_the_exporter_sees(world: World) -> None:
    world.execute("CREATE VIEW t AS SELECT 1 AS id, 2 AS xmin")
    world.places = replace(world.places, source=replace(world.places.source, exporters={"client": WithoutTail()}))
    assert world.sync(config("t", "full_snapshot", primary_key=["id"])).watermark_after.canaries == ()
