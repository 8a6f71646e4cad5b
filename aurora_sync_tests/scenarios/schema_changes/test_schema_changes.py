"""Columns that change at the source: the target follows, and loses nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.model.certificate import Action
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.receipt import Receipt
from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.world import World, config

TABLE = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE TABLE t (id int PRIMARY KEY, code int NOT NULL UNIQUE, name varchar(10), price numeric(8,2), m mood,"
    " at timestamp)",
    "INSERT INTO t SELECT i, 100 + i, 'n' || i, i / 4.0, 'sad', '2024-01-01' FROM generate_series(1, 20) i",
)


@dataclass(frozen=True)
class Change:
    """A change of the schema. ``whole``: it makes the run read the whole table."""

    name: str
    statements: tuple[str, ...]
    event: str
    action: Action
    before: str
    after: str

    def __str__(self) -> str:
        return self.name

    @property
    def whole(self) -> bool:
        return self.action is Action.RESEED


def change(name: str, statement: str, event: str, action: Action, before: str = "", after: str = "") -> Change:
    return Change(name, tuple(statement.split("; ")), event, action, before, after)


CHANGES = [
    change("add", "ALTER TABLE t ADD more int", "column added", Action.BACKFILL, "", "more integer"),
    change(
        "add with a constant",
        "ALTER TABLE t ADD more int DEFAULT 7",
        "column added",
        Action.BACKFILL,
        "",
        "more integer",
    ),
    change(
        "add with a volatile default",
        "ALTER TABLE t ADD more uuid DEFAULT gen_random_uuid()",
        "column added",
        Action.RESEED,
        "",
        "more uuid",
    ),
    change(
        "add generated",
        "ALTER TABLE t ADD more int GENERATED ALWAYS AS (code * 2) STORED",
        "column added",
        Action.RESEED,
        "",
        "more integer",
    ),
    change("drop", "ALTER TABLE t DROP name", "column dropped", Action.ADAPT, "name character varying(10)", ""),
    change("rename", "ALTER TABLE t RENAME name TO title", "column renamed", Action.ADAPT, "name", "title"),
    change(
        "rename to another case", 'ALTER TABLE t RENAME name TO "Name"', "column renamed", Action.ADAPT, "name", "Name"
    ),
    change(
        "swap names",
        "ALTER TABLE t RENAME id TO x; ALTER TABLE t RENAME code TO id; ALTER TABLE t RENAME x TO code",
        "column renamed",
        Action.RESEED,
        "id, code",
        "code, id",
    ),
    change(
        "widen varchar",
        "ALTER TABLE t ALTER name TYPE text",
        "column type",
        Action.ADAPT,
        "character varying(10)",
        "text",
    ),
    change(
        "widen numeric",
        "ALTER TABLE t ALTER price TYPE numeric(12,2)",
        "column type",
        Action.ADAPT,
        "numeric(8,2)",
        "numeric(12,2)",
    ),
    change("int to bigint", "ALTER TABLE t ALTER code TYPE bigint", "column type", Action.RESEED, "integer", "bigint"),
    change(
        "more scale",
        "ALTER TABLE t ALTER price TYPE numeric(12,4)",
        "column type",
        Action.RESEED,
        "numeric(8,2)",
        "numeric(12,4)",
    ),
    change("int to text", "ALTER TABLE t ALTER code TYPE text", "column type", Action.RESEED, "integer", "text"),
    change(
        "text to int",
        "ALTER TABLE t ALTER name TYPE int USING substr(name, 2)::int",
        "column type",
        Action.RESEED,
        "character varying(10)",
        "integer",
    ),
    change(
        "timestamp to timestamptz",
        "ALTER TABLE t ALTER at TYPE timestamptz USING at AT TIME ZONE 'UTC'",
        "column type",
        Action.RESEED,
        "timestamp without time zone",
        "timestamp with time zone",
    ),
    change(
        "timestamp to date",
        "ALTER TABLE t ALTER at TYPE date",
        "column type",
        Action.RESEED,
        "timestamp without time zone",
        "date",
    ),
    change(
        "set not null", "ALTER TABLE t ALTER name SET NOT NULL", "not null", Action.GO_ON, "name null", "name not null"
    ),
    change(
        "drop not null",
        "ALTER TABLE t DROP CONSTRAINT t_code_key; ALTER TABLE t ALTER code DROP NOT NULL",
        "not null",
        Action.GO_ON,
        "code not null",
        "code null",
    ),
    change(
        "another primary key",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (code);"
        " ALTER TABLE t ALTER id DROP NOT NULL; UPDATE t SET id = NULL WHERE code = 105",
        "merge key",
        Action.RESEED,
        "id",
        "code",
    ),
    change(
        "a primary key of a new column",
        "ALTER TABLE t DROP id; ALTER TABLE t ADD n serial PRIMARY KEY",
        "merge key",
        Action.RESEED,
        "id",
        "n",
    ),
    change(
        "a wider primary key",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, code)",
        "merge key",
        Action.RESEED,
        "id",
        "id, code",
    ),
]


def source(world: World, query: str) -> list[tuple[Any, ...]]:
    with connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL search_path = public; {query}")
        return cursor.fetchall()


def assert_equal(world: World) -> None:
    assert world.assert_verified(config()) == len(source(world, "SELECT 1 FROM t"))


def changes(receipt: Receipt) -> list[tuple[str, Action, str, str]]:
    return [(f.event, f.action, f.before, f.after) for f in receipt.schema_changes]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("deletes", ["hard", "soft"])
def test_target_follows(world: World, change: Change, deletes: str) -> None:
    table = config(deletes=deletes)
    world.execute(*TABLE)
    world.sync(table)
    world.execute("DELETE FROM t WHERE id = 20")
    world.sync(table, reconcile=True)
    world.execute(*change.statements)
    receipt = world.sync(table)
    assert (change.event, change.action, change.before, change.after) in changes(receipt)
    assert (receipt.disposition is Disposition.REPLACE) is change.whole
    assert changes(world.sync(table)) == []
    assert world.assert_verified(table) == 19
    ((marked,),) = world.query('SELECT COUNT(*) FROM "PUBLIC"."T"' + (' WHERE "_DELETED"' if deletes == "soft" else ""))
    assert marked == (1 if deletes == "soft" else 19)


@pytest.mark.parametrize("change", [c for c in CHANGES if c.action is not Action.GO_ON], ids=str)
def test_freeze_fails_with_the_difference_and_moves_nothing(world: World, change: Change) -> None:
    table = config(schema_changes="freeze")
    world.execute(*TABLE)
    world.sync(table)
    before = world.query('SELECT * FROM "PUBLIC"."T" ORDER BY "ID"')
    world.execute(*change.statements)
    difference = f"{change.event}: {change.before or 'none'} -> {change.after or 'none'}"
    for _ in range(2):
        with pytest.raises(GuardError) as raised:
            world.sync(table)
        assert difference in str(raised.value)
    assert world.query('SELECT * FROM "PUBLIC"."T" ORDER BY "ID"') == before
    world.sync(table, full=True)
    world.assert_verified(table)


def test_ignore_leaves_new_columns_out_and_dropped_ones_as_they_are(world: World) -> None:
    table = config(schema_changes="ignore")
    world.execute(*TABLE)
    world.sync(table)
    world.execute(
        "ALTER TABLE t ADD more int DEFAULT 7", "ALTER TABLE t DROP name", "UPDATE t SET price = 1 WHERE id = 3"
    )
    receipt = world.sync(table)
    assert receipt.rows_exported == 1
    assert world.query('SELECT COUNT("NAME"), COUNT(*) FROM "PUBLIC"."T"') == [(20, 20)]
    assert "MORE" not in columns(world)
    assert comment(world, "NAME") == ""
    world.execute("ALTER TABLE t RENAME price TO cost")
    with pytest.raises(GuardError, match=r"schema_changes is ignore: column renamed: price -> cost"):
        world.sync(table)


def columns(world: World) -> dict[str, str]:
    return dict(world.query("SELECT COLUMN_NAME, DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'T'"))


def comment(world: World, column: str) -> str:
    """Return the comment of a target column; empty when there is none."""
    ((found,),) = world.query(
        f"SELECT comment FROM duckdb_columns() WHERE table_name = 'T' AND column_name = '{column}'"
    )
    return str(found or "")


def test_dropped_column_is_kept_with_its_values_and_marked(world: World) -> None:
    table = config()
    world.execute(*TABLE)
    world.sync(table)
    world.execute("ALTER TABLE t DROP name", "UPDATE t SET price = 9 WHERE id = 1", "INSERT INTO t VALUES (21, 121)")
    receipt = world.sync(table)
    assert receipt.rows_exported == 2
    assert comment(world, "NAME").startswith("Dropped at the source")
    kept = dict(world.query('SELECT "ID", "NAME" FROM "PUBLIC"."T"'))
    assert (kept[1], kept[2], kept[21]) == ("n1", "n2", None)


def test_renamed_column_keeps_its_values_without_a_read(world: World) -> None:
    table = config()
    world.execute(*TABLE)
    world.sync(table)
    world.execute("ALTER TABLE t RENAME name TO title")
    receipt = world.sync(table)
    assert receipt.rows_exported == 0
    assert "NAME" not in columns(world)
    assert world.query('SELECT "TITLE" FROM "PUBLIC"."T" WHERE "ID" = 7') == [("n7",)]


def test_column_named_as_one_that_was_dropped_before(world: World) -> None:
    table = config()
    world.execute(*TABLE)
    world.sync(table)
    world.execute("ALTER TABLE t DROP name")
    world.sync(table)
    world.execute("ALTER TABLE t ADD name int DEFAULT 5")
    world.sync(table)
    assert world.query('SELECT DISTINCT "NAME" FROM "PUBLIC"."T"') in ([("5",)], [(5,)])
    world.execute("ALTER TABLE t DROP name")
    world.sync(table)
    world.execute("ALTER TABLE t RENAME price TO name")
    receipt = world.sync(table)
    assert receipt.disposition is Disposition.REPLACE
    assert_equal(world)
    assert comment(world, "PRICE").startswith("Dropped")


def test_column_dropped_and_made_again_between_two_runs(world: World) -> None:
    table = config()
    world.execute(*TABLE)
    world.sync(table)
    world.execute("ALTER TABLE t DROP name", "ALTER TABLE t ADD name varchar(10) DEFAULT 'anew'")
    world.sync(table)
    assert world.query('SELECT DISTINCT "NAME" FROM "PUBLIC"."T"') == [("anew",)]
    assert_equal(world)


def test_excluded_column_is_marked_and_read_again_once_it_is_included(world: World) -> None:
    world.execute(*TABLE)
    world.sync(config())
    without = config(columns={"exclude": ["name"]})
    assert [c[0] for c in changes(world.sync(without))] == ["column excluded"]
    world.execute("UPDATE t SET name = 'other' WHERE id = 1")
    world.sync(without)
    receipt = world.sync(config())
    assert [c[0] for c in changes(receipt)] == ["column included"]
    assert receipt.rows_exported == 20
    assert_equal(world)


def test_renamed_table_goes_on_into_the_same_target(world: World) -> None:
    world.execute(*TABLE)
    world.sync(config())
    world.execute("ALTER TABLE t RENAME TO orders", "INSERT INTO orders VALUES (21, 121)")
    table = config("orders", target_table="t")
    receipt = world.sync(table)
    assert receipt.rows_exported == 1
    assert ("table renamed", Action.GO_ON, "public.t", "public.orders") in changes(receipt)
    assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T"') == [(21,)]


def test_enum_value_added_and_used(world: World) -> None:
    world.execute(*TABLE)
    world.sync(config())
    world.execute("ALTER TYPE mood ADD VALUE 'happy' BEFORE 'ok'", "UPDATE t SET m = 'happy' WHERE id = 3")
    assert world.sync(config()).rows_exported == 1
    assert_equal(world)


def test_enum_value_renamed(world: World) -> None:
    world.execute(*TABLE)
    world.sync(config())
    world.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    receipt = world.sync(config())
    assert ("enum renamed", "sad", "blue") in [(event, before, after) for event, _, before, after in changes(receipt)]
    assert_equal(world)
    assert world.query('SELECT DISTINCT "M" FROM "PUBLIC"."T"') == [("blue",)]


def test_partition_attached_is_read(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 10) i",
        "CREATE TABLE t2 (id int PRIMARY KEY, v text)",
        "INSERT INTO t2 SELECT i, 'v' FROM generate_series(101, 110) i",
    )
    world.sync(config())
    world.execute("ALTER TABLE t ATTACH PARTITION t2 FOR VALUES FROM (100) TO (200)")
    receipt = world.sync(config())
    assert receipt.rows_exported == 10
    assert_equal(world)


def test_column_added_to_partitions_is_filled_where_all_of_them_agree(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (100) TO (200)",
        "INSERT INTO t SELECT i, 'v' FROM generate_series(91, 110) i",
    )
    world.sync(config())
    world.execute("ALTER TABLE t ADD more int DEFAULT 7", "INSERT INTO t VALUES (111, 'v', 8)")
    receipt = world.sync(config())
    assert receipt.rows_exported == 1
    assert_equal(world)
    world.execute("ALTER TABLE t ADD none int", "INSERT INTO t VALUES (112, 'v', 8, 9)")
    assert world.sync(config()).rows_exported == 1
    assert_equal(world)


def test_column_that_no_value_of_the_target_converts_to_stays_text(world: World) -> None:
    """A row that is marked as deleted keeps its value, whatever type the column gets."""
    table = config(deletes="soft")
    world.execute(*TABLE)
    world.sync(table)
    world.execute("UPDATE t SET name = 'none' WHERE id = 1")
    world.sync(table)
    world.execute("DELETE FROM t WHERE id = 1")
    world.sync(table, reconcile=True)
    world.execute("ALTER TABLE t ALTER name TYPE int USING substr(name, 2)::int")
    world.sync(table)
    assert columns(world)["NAME"] == "VARCHAR"
    assert world.query('SELECT "NAME" FROM "PUBLIC"."T" WHERE "ID" IN (1, 2) ORDER BY "ID"') == [("none",), ("2",)]


def test_column_whose_new_type_cannot_hold_its_values_stays_text(world: World) -> None:
    world.execute(*TABLE)
    world.sync(config())
    world.execute("ALTER TABLE t ALTER name TYPE timestamptz USING 'infinity'")
    world.assert_verified(config())
    assert columns(world)["NAME"] == "VARCHAR"
    assert world.query('SELECT DISTINCT "NAME" FROM "PUBLIC"."T"') == [("infinity",)]
