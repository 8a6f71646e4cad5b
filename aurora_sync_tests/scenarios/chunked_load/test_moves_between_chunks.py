"""Changes of the table, of its partitions, of tables.yaml and of the target while a load is open."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest

from aurora_sync.engine import load
from aurora_sync.errors import AuroraSyncError, ConfigError, SourceError
from aurora_sync.model.certificate import Level
from aurora_sync.source import canary
from aurora_sync_tests.scenarios.chunked_load.loads import (
    ROWS,
    WIDE,
    chunked,
    ended_equal,
    hooked,
    loaded_partly,
    once,
    progress,
    wide,
)
from aurora_sync_tests.scenarios.world import World

LEAVES = """
CREATE TABLE t (id int, p int, v text, PRIMARY KEY (id, p)) PARTITION BY LIST (p);
CREATE TABLE a PARTITION OF t FOR VALUES IN (0) WITH (fillfactor = 100);
CREATE TABLE b PARTITION OF t FOR VALUES IN (1);
CREATE TABLE c PARTITION OF t FOR VALUES IN (2);
CREATE TABLE d (id int NOT NULL, p int NOT NULL, v text, PRIMARY KEY (id, p));
ALTER TABLE t ALTER v SET STORAGE PLAIN;
"""


def partitioned(world: World) -> None:
    """Create leaves of 6, 2 and 1 blocks, and a table that can become one."""
    world.execute(
        LEAVES,
        *(f"ALTER TABLE {leaf} ALTER v SET STORAGE PLAIN" for leaf in "abcd"),
        f"INSERT INTO a SELECT i, 0, {WIDE} FROM generate_series(1, 30) i",
        f"INSERT INTO b SELECT i, 1, {WIDE} FROM generate_series(1, 10) i",
        f"INSERT INTO c SELECT i, 2, {WIDE} FROM generate_series(1, 5) i",
        f"INSERT INTO d SELECT i, 0, 'd' || {WIDE} FROM generate_series(1, 30) i",
    )


PARTITIONS = {
    "attached": ["UPDATE d SET p = 3", "ALTER TABLE t ATTACH PARTITION d FOR VALUES IN (3)"],
    "attached with old rows": ["ALTER TABLE t ATTACH PARTITION d FOR VALUES IN (9)"],
    "detached": ["ALTER TABLE t DETACH PARTITION a"],
    "dropped": ["DROP TABLE b"],
    "attached again": ["ALTER TABLE t DETACH PARTITION a", "ALTER TABLE t ATTACH PARTITION a FOR VALUES IN (0)"],
    "attached again with others": [
        "ALTER TABLE t DETACH PARTITION a",
        "UPDATE a SET v = 'away' WHERE id % 4 = 0",
        "DELETE FROM a WHERE id % 5 = 0",
        "ALTER TABLE t ATTACH PARTITION a FOR VALUES IN (0)",
    ],
    "swapped": ["ALTER TABLE t DETACH PARTITION a", "ALTER TABLE t ATTACH PARTITION d FOR VALUES IN (0)"],
    "truncated leaf": ["TRUNCATE c"],
    "rewritten leaf": ["VACUUM FULL a"],
    "created": [
        "CREATE TABLE e PARTITION OF t FOR VALUES IN (4)",
        f"INSERT INTO t SELECT i, 4, {WIDE} FROM generate_series(1, 12) i",
    ],
    "moved rows": ["UPDATE t SET p = 1 WHERE p = 0 AND id > 10"],
}


@pytest.mark.parametrize("after", [0, pytest.param(3, marks=pytest.mark.long)])
@pytest.mark.parametrize("move", PARTITIONS)
def test_partitions_move_between_chunks(world: World, move: str, after: int) -> None:
    partitioned(world)
    if move == "attached with old rows":
        world.execute("UPDATE d SET p = 9")
    table = chunked()
    with once("applied", lambda: world.execute(*PARTITIONS[move]), after=after):
        receipt = world.sync(table)
    world.assert_equal(table)
    assert receipt.load
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_verified(table)


@pytest.mark.parametrize(
    "move",
    [
        "detached",
        pytest.param("dropped", marks=pytest.mark.long),
        pytest.param("attached again with others", marks=pytest.mark.long),
    ],
)
def test_last_run_compares_after_a_pass_although_an_outbox_is_complete(world: World, move: str) -> None:
    """The pass scans the table because of its partitions. It finds no deletes, and no later run sees the reason."""
    partitioned(world)
    table = chunked("outbox")
    world.make(table)

    def moves() -> None:
        world.execute("DELETE FROM t WHERE id % 7 = 0", *PARTITIONS[move])

    with mock.patch.object(load, "PASS_AFTER", timedelta(0)), once("applied", moves, after=3):
        receipt = world.sync(table)
    assert receipt.load
    assert receipt.load.passes
    world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_verified(table)


def while_a_chunk_is_read(world: World, before: list[str], after: list[str]) -> Any:
    """Return a context in which statements run before and after the read of one chunk."""
    reads = 0

    def hook(moment: str) -> None:
        nonlocal reads
        reads += moment == "read"
        if reads == 2 and moment in ("read", "exported"):
            world.execute(*(before if moment == "read" else after))

    return hooked(hook)


DETACH = "ALTER TABLE t DETACH PARTITION {}"
ATTACH = "ALTER TABLE t ATTACH PARTITION {} FOR VALUES IN (0)"


def test_leaf_is_away_while_a_chunk_is_read(world: World) -> None:
    partitioned(world)
    table = chunked()
    with while_a_chunk_is_read(world, [DETACH.format("a")], [ATTACH.format("a")]):
        receipt = world.sync(table)
    world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED
    assert receipt.repair
    assert receipt.repair.lost == 5


def test_leaf_of_equal_rows_is_there_while_a_chunk_is_read(world: World) -> None:
    """Rows of another leaf have the same keys and were written by the same transaction: their versions look equal."""
    partitioned(world)
    world.execute(
        "TRUNCATE a, d",
        f"WITH a AS (INSERT INTO a SELECT i, 0, {WIDE} FROM generate_series(1, 30) i)"
        f" INSERT INTO d SELECT i, 0, 'd' || {WIDE} FROM generate_series(1, 30) i",
    )
    table = chunked()
    there, back = ([DETACH.format(one), ATTACH.format(other)] for one, other in ("ad", "da"))
    few = mock.patch.object(canary, "pick", return_value=())  # of many rows, none is likely to be among them
    with few, while_a_chunk_is_read(world, there, back):
        receipt = world.sync(table)
    world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED


TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE pair AS (a int, b int);
CREATE FUNCTION filled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.m := 'sad'; RETURN NEW; END $$;
"""
# Statements, and whether the load begins again.
DEFINITIONS: dict[str, tuple[list[str], bool]] = {
    "vacuum full": (["VACUUM FULL t"], True),
    "cluster": (["CLUSTER t USING t_pkey"], True),
    "vacuum": (["DELETE FROM t WHERE id < 8", "VACUUM t", f"INSERT INTO t SELECT i, {WIDE} FROM generate_series(1, 9) i"
                " ON CONFLICT DO NOTHING"], False),
    "added": (["ALTER TABLE t ADD w int"], False),
    "added with a default": (["ALTER TABLE t ADD w int DEFAULT 7", "UPDATE t SET w = 8 WHERE id % 2 = 0"], False),
    "added with a volatile default": (["ALTER TABLE t ADD w float DEFAULT random()"], True),
    "added twice": (["ALTER TABLE t ADD w int DEFAULT 7", "ALTER TABLE t DROP w", "ALTER TABLE t ADD w int"], False),
    "dropped": (["ALTER TABLE t DROP v"], True),
    "dropped and added": (["ALTER TABLE t DROP v", "ALTER TABLE t ADD v text DEFAULT 'new'"], True),
    "renamed": (["ALTER TABLE t RENAME v TO w"], True),
    "another type": (["ALTER TABLE t ALTER v TYPE varchar(3000)"], True),
    "another key": (["ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v)"], True),
    "recreated": ([
        "ALTER TABLE t RENAME TO old", "CREATE TABLE t (LIKE old INCLUDING INDEXES)", "INSERT INTO t TABLE old",
        "DELETE FROM t WHERE id = 1",
    ], True),
    "swapped twice": ([
        "CREATE TABLE s (LIKE t INCLUDING ALL)",
        f"INSERT INTO s SELECT i, 's' || {WIDE} FROM generate_series(1, 40) i",
        "ALTER TABLE t RENAME TO old", "ALTER TABLE s RENAME TO t",
    ], True),
    "renamed and back": ([
        "ALTER TABLE t RENAME TO u", "UPDATE u SET v = 'u' WHERE id = 1", "ALTER TABLE u RENAME TO t",
    ], False),
}  # fmt: skip


@pytest.mark.parametrize("move", DEFINITIONS)
def test_definition_changes_between_chunks(world: World, move: str) -> None:
    wide(world)
    table = chunked(delete_guard={"max_rows": 100})
    statements, again = DEFINITIONS[move]
    with once("applied", lambda: world.execute(*statements), after=2):
        receipt = world.sync(table)
    if move != "dropped":  # the target keeps the column
        world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED
    assert receipt.load
    assert (receipt.load.first_run > 1) is again
    assert not receipt.load.replaces
    world.assert_verified(table)


def test_load_that_always_begins_again_is_an_error(world: World) -> None:
    wide(world)
    table = chunked()

    def rewritten(moment: str) -> None:
        if moment == "applied":
            world.execute("VACUUM FULL t")

    with hooked(rewritten), pytest.raises(SourceError, match=r"began 3 times in this run, .*files were replaced"):
        world.sync(table)
    ended_equal(world, table)


@pytest.mark.parametrize(
    ("column", "change"),
    [("m mood", "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'"), ("m pair", "ALTER TYPE pair ADD ATTRIBUTE c int")],
)
def test_texts_of_a_type_change_between_chunks(world: World, column: str, change: str) -> None:
    filled = "'sad'" if "mood" in column else "ROW(1, 2)::pair"
    world.execute(TYPES)
    wide(world, f"ALTER TABLE t ADD {column} DEFAULT {filled}")
    table = chunked()
    with once("applied", lambda: world.execute(change), after=2):
        world.sync(table)
    texts = world.execute("SELECT DISTINCT m::text FROM t")
    assert world.query('SELECT DISTINCT "M" FROM "PUBLIC"."T"') == texts
    world.assert_verified(table)


@pytest.mark.parametrize("gone", ["ALTER TABLE t RENAME TO u", "DROP TABLE t", "ALTER TABLE t DROP CONSTRAINT t_pkey"])
def test_table_that_cannot_be_read_any_more_is_an_error(world: World, gone: str) -> None:
    wide(world)
    table = chunked()
    with once("applied", lambda: world.execute(gone), after=1), pytest.raises((ConfigError, SourceError)):
        world.sync(table)
    assert progress(table, world.places).chunks_done >= 2


def test_truncated_table_is_empty_in_the_target(world: World) -> None:
    wide(world)
    table = chunked()
    with once("applied", lambda: world.execute("TRUNCATE t"), after=2):
        receipt = world.sync(table)
    world.assert_equal(table)
    assert receipt.certificate.level is Level.CERTIFIED


YAML: dict[str, dict[str, Any]] = {
    "column excluded": {"columns": {"exclude": ["w"]}},
    "type of a column": {"column_types": {"w": "text"}},
    "soft deletes": {"deletes": "soft"},
    "integer": {"watermark_type": "integer", "watermark_col": "id"},
    "full_snapshot": {"watermark_type": "full_snapshot"},
    "outbox": {"watermark_type": "outbox"},
}


@pytest.mark.parametrize("change", YAML)
def test_configuration_changes_between_chunks(world: World, change: str) -> None:
    wide(world, "ALTER TABLE t ADD w numeric DEFAULT 1.5")
    before, keys = chunked(), YAML[change]
    after = chunked(**keys)
    loaded_partly(world, before)
    if change == "outbox":
        world.make(after)
    world.execute("UPDATE t SET w = 2.5 WHERE id % 4 = 1", "DELETE FROM t WHERE id = 2")
    receipt = world.sync(after)
    assert receipt.certificate.level is Level.CERTIFIED
    columns = '"ID", "V"' if change == "column excluded" else '"ID", "V", CAST("W" AS NUMBER(10,1))'
    present = ' WHERE "_DELETED" IS DISTINCT FROM TRUE' if change == "soft deletes" else ""
    found = set(world.query(f'SELECT {columns} FROM "PUBLIC"."T"{present}'))
    assert found == set(world.execute(f"SELECT {'id, v' if change == 'column excluded' else 'id, v, w'} FROM t"))
    assert len(found) == ROWS - 1


def test_append_only_ends_although_a_reconcile_is_due(world: World) -> None:
    wide(world, columns="id int NOT NULL, v text")
    receipt = ended_equal(world, chunked(append_only=True, reconcile={"every": 1}))
    assert receipt.load
    assert receipt.load.first_run == 1


def test_append_only_begins_again_when_the_table_becomes_keyed(world: World) -> None:
    wide(world, columns="id int NOT NULL, v text")
    loaded_partly(world, chunked(append_only=True))
    world.execute("ALTER TABLE t ADD PRIMARY KEY (id)", "UPDATE t SET v = 'new' WHERE id = 3")
    receipt = ended_equal(world, chunked())
    assert receipt.load
    assert not receipt.load.replaces


@pytest.mark.parametrize("watermark_type", ["xmin", "outbox"])
def test_full_read_in_the_middle_begins_again(world: World, watermark_type: str) -> None:
    wide(world)
    table = chunked(watermark_type)
    if watermark_type == "outbox":
        world.make(table)
    first = loaded_partly(world, table)
    receipt = ended_equal(world, table, full=True)
    assert receipt.load
    assert receipt.load.id != first.id
    assert not receipt.load.replaces


EDITS = {
    "rows deleted": ['DELETE FROM "PUBLIC"."T" WHERE "ID" < 4'],
    "rows added": ['INSERT INTO "PUBLIC"."T" SELECT * REPLACE ("ID" + 900 AS "ID") FROM "PUBLIC"."T" WHERE "ID" < 4'],
    "a row replaced": ['UPDATE "PUBLIC"."T" SET "ID" = 900 WHERE "ID" = 1'],
    "dropped": ['DROP TABLE "PUBLIC"."T"'],
    "a column dropped": ['ALTER TABLE "PUBLIC"."T" DROP COLUMN "V"'],
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("after", [1, pytest.param(8, marks=pytest.mark.long)])
def test_target_is_edited_between_chunks(world: World, edit: str, after: int) -> None:
    wide(world)
    table = chunked()

    def edited() -> None:
        for statement in EDITS[edit]:
            world.query(statement)

    with once("applied", edited, after=after):
        try:
            world.sync(table)
        except AuroraSyncError as error:
            assert error.kind.retry, error  # noqa: PT017
            world.sync(table)
    ended_equal(world, table)
