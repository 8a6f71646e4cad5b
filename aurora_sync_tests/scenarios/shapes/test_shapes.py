"""Tables of unusual shape: read, changed, read again, and verified equal."""

from __future__ import annotations

import pytest

from aurora_sync.errors import ConfigError
from aurora_sync_tests.scenarios.world import World, config


@pytest.mark.parametrize(
    "key",
    [
        "a int, b text, PRIMARY KEY (a, b)",
        "a int NOT NULL, b uuid PRIMARY KEY DEFAULT gen_random_uuid()",
        "a int, b text PRIMARY KEY DEFAULT md5(random()::text)",
        "a int NOT NULL UNIQUE, b numeric(20,3) DEFAULT random() * 1e9 PRIMARY KEY",
        "a date DEFAULT '2024-01-01', b int[] DEFAULT ARRAY[(random() * 1e9)::int], PRIMARY KEY (b)",
        "a int, b jsonb DEFAULT to_jsonb(random()) PRIMARY KEY",
    ],
)
def test_keys(world: World, key: str) -> None:
    world.execute(f"CREATE TABLE t ({key}, v text)")
    name = "a" if key.startswith("a int") else None
    columns, values = ("a, b, v", "i, i::text, 'v'") if "(a, b)" in key else (f"{name}, v", "i, 'v'")
    if name is None:
        columns, values = "v", "'v'"
    world.execute(f"INSERT INTO t ({columns}) SELECT {values} FROM generate_series(1, 50) i")
    table = config()
    assert world.assert_verified(table) == 50
    world.execute("UPDATE t SET v = 'w' WHERE ctid IN (SELECT ctid FROM t LIMIT 5)")
    assert world.assert_verified(table) == 50


def test_key_that_is_updated_leaves_a_ghost_until_a_reconcile(world: World) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    world.sync(config())
    world.execute("UPDATE t SET id = 3 WHERE id = 1")
    receipt = world.sync(config())
    assert (receipt.source_rows, receipt.target_rows) == (2, 3)
    world.sync(config(), reconcile=True)
    assert world.assert_verified(config()) == 2


def test_no_key_at_all(world: World) -> None:
    world.execute("CREATE TABLE t (v text)", "INSERT INTO t VALUES ('a'), ('a'), (NULL)")
    with pytest.raises(ConfigError, match="found no merge key"):
        world.sync(config())
    table = config(watermark_type="full_snapshot")
    assert world.assert_verified(table) == 3
    world.execute("DELETE FROM t WHERE v IS NULL", "INSERT INTO t VALUES ('a')")
    assert world.assert_verified(table) == 3


def test_partitions_of_several_levels(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int, day date, kind text, PRIMARY KEY (id, day, kind)) PARTITION BY RANGE (day)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM ('2024-01-01') TO ('2024-02-01') PARTITION BY LIST (kind)",
        "CREATE TABLE t1a PARTITION OF t1 FOR VALUES IN ('a') PARTITION BY HASH (id)",
        "CREATE TABLE t1a0 PARTITION OF t1a FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE t1a1 PARTITION OF t1a FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "CREATE TABLE t1d PARTITION OF t1 DEFAULT",
        "CREATE TABLE td PARTITION OF t DEFAULT",
        "INSERT INTO t SELECT i, date '2024-01-20' + i, CASE i % 2 WHEN 0 THEN 'a' ELSE 'b' END"
        " FROM generate_series(1, 40) i",
    )
    assert world.assert_verified(config()) == 40
    world.execute("UPDATE t SET day = day + 30 WHERE id = 2", "INSERT INTO t VALUES (99, '2024-01-05', 'a')")
    world.sync(config(), reconcile=True)  # a row that moves to another partition gets another key
    assert world.assert_verified(config()) == 41


def test_inheritance_and_unlogged_and_generated(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int, v text)",
        "CREATE TABLE child (extra int) INHERITS (t)",
        "INSERT INTO t VALUES (1, 'a')",
        "INSERT INTO child VALUES (1, 'a', 7)",
        "CREATE UNLOGGED TABLE u (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n int,"
        " twice int GENERATED ALWAYS AS (n * 2) STORED)",
        "INSERT INTO u (n) VALUES (1), (2)",
    )
    assert world.assert_verified(config(watermark_type="full_snapshot")) == 2
    assert world.assert_verified(config("u")) == 2
    world.execute("UPDATE u SET n = 9 WHERE id = 1")
    assert world.assert_verified(config("u")) == 2
    assert world.query('SELECT "TWICE" FROM "PUBLIC"."U" WHERE "ID" = 1') == [(18,)]


# DuckDB needs 15 s of CPU to plan the sums of 1,600 columns; the time grows with their square.
@pytest.mark.parametrize("number", [300, pytest.param(1600, marks=pytest.mark.long)])
def test_many_columns(world: World, number: int) -> None:
    columns = ", ".join(f"c{n} smallint DEFAULT {n}" for n in range(1, number))
    world.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})", "INSERT INTO t SELECT generate_series(1, 20)")
    assert world.assert_verified(config()) == 20
    world.execute(f"UPDATE t SET c{number - 1} = NULL WHERE id = 7")
    assert world.assert_verified(config()) == 20


@pytest.mark.parametrize("watermark_type", ["xmin", "full_snapshot"])
def test_one_column_and_no_rows(world: World, watermark_type: str) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY)")
    table = config(watermark_type=watermark_type)
    assert world.assert_verified(table) == 0
    world.execute("INSERT INTO t VALUES (1)")
    assert world.assert_verified(table) == 1


def test_no_column(world: World) -> None:
    world.execute("CREATE TABLE t ()")
    with pytest.raises(ConfigError, match="leave no column to sync"):
        world.sync(config(watermark_type="full_snapshot"))


@pytest.mark.parametrize("partitions", [1000, pytest.param(5000, marks=pytest.mark.long)])
def test_many_partitions(world: World, partitions: int) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        *(
            "DO $$ BEGIN FOR i IN " + f"{first}..{first + 249}" + " LOOP EXECUTE format("
            "'CREATE TABLE t%s PARTITION OF t FOR VALUES FROM (%s) TO (%s)', i, i * 10, i * 10 + 10); END LOOP; END $$"
            for first in range(0, partitions, 250)
        ),
        f"INSERT INTO t SELECT i * 10, 'v' FROM generate_series(0, {partitions - 1}) i",
    )
    receipt = world.sync(config())
    assert receipt.target_rows == partitions
    world.execute(f"INSERT INTO t VALUES ({partitions * 10 - 9}, 'new')")
    assert world.sync(config()).rows_exported == 1
