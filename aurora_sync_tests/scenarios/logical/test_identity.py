"""The columns by which updates and deletes name their row, and transactions of every kind."""

from __future__ import annotations

import pytest

from aurora_sync.errors import ConfigError
from aurora_sync_tests.scenarios.logical.conftest import Streamed

LONG = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 200) g)"
CHANGES = (
    "UPDATE t SET v = 'b' WHERE id = 1",  # does not repeat doc
    "UPDATE t SET id = 20 WHERE id = 2",
    "UPDATE t SET v = 'c' WHERE id = 20",
    "UPDATE t SET id = 30, doc = NULL WHERE id = 3",
    "UPDATE t SET v = NULL WHERE id = 4",
    "DELETE FROM t WHERE id = 5",
    "UPDATE t SET id = 5 WHERE id = 6",
    "INSERT INTO t VALUES (7, 'new', '')",
    "DELETE FROM t WHERE id = 7",
)


@pytest.mark.parametrize(
    ("key", "identity", "steps"),
    [
        ("PRIMARY KEY", "DEFAULT", []),
        ("PRIMARY KEY", "FULL", []),
        ("UNIQUE NOT NULL", "DEFAULT", ["set the replica identity of public.t to index t_id_key"]),
        ("UNIQUE NOT NULL", "NOTHING", ["set the replica identity of public.t to index t_id_key"]),
        ("PRIMARY KEY", "NOTHING", ["set the replica identity of public.t to index t_pkey"]),
        ("PRIMARY KEY DEFERRABLE, UNIQUE (v, id)", "DEFAULT", None),
    ],
)
def test_every_replica_identity_is_right_or_made_so(
    streamed: Streamed, key: str, identity: str, steps: list[str] | None
) -> None:
    world, table = streamed.world, streamed.table(primary_key="id")
    world.execute(
        f"CREATE TABLE t (id int {key.partition(',')[0]}, v text, doc text{key.partition(',')[1]} "
        f"{key.partition(',')[2]})",
        "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
        f"ALTER TABLE t REPLICA IDENTITY {identity}",
        f"INSERT INTO t SELECT g, 'a', {LONG} || g FROM generate_series(1, 6) g",
    )
    if steps is None:  # a deferrable key does not identify rows at every moment
        with pytest.raises(ConfigError, match="deferrable"):
            streamed.setup(table)
        return
    made = streamed.setup(table)
    assert made == [*steps, f"create publication {streamed.name}", f"create replication slot {streamed.name}"]
    streamed.one(table)
    world.execute(*CHANGES)
    assert streamed.one(table).method.startswith("stream")
    world.assert_equal(table)
    world.assert_verified(table)


def test_a_long_transaction_with_savepoints_goes_through_in_parts(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora_sync.engine.runners.member.PENDING_BYTES", 1_000_000)
    monkeypatch.setattr("aurora_sync.source.logical.slot._EVERY_BYTES", 100_000)
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (0, 'a')")
    streamed.setup(table)
    streamed.one(table)
    with world.open_transaction(
        "INSERT INTO t SELECT g, 'first' FROM generate_series(1, 30000) g",
        "SAVEPOINT s",
        "UPDATE t SET v = 'rolled back'",
        "ROLLBACK TO s",
        "UPDATE t SET id = -id, v = 'moved' WHERE id % 3 = 1",
        "SAVEPOINT s",
        "DELETE FROM t WHERE id % 3 = 2",
        "RELEASE s",
    ) as writer:
        assert not streamed.one(table).changed
        writer.commit()
    receipt = streamed.one(table)
    assert receipt.inserted == 20_000
    world.assert_equal(table)


def test_a_prepared_transaction_comes_when_it_is_committed(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    streamed.setup(table)
    streamed.one(table)
    with world.open_transaction("UPDATE t SET v = 'prepared'", f"PREPARE TRANSACTION '{streamed.name}'"):
        pass
    world.execute("INSERT INTO t VALUES (2, 'beside')")
    assert streamed.one(table).inserted == 1
    assert not streamed.one(table).changed
    world.execute(f"COMMIT PREPARED '{streamed.name}'")
    assert streamed.one(table).updated == 1
    world.assert_equal(table)


def test_changes_of_another_origin_come_as_well(streamed: Streamed) -> None:
    """A subscription to another server wrote these rows here."""
    world, table = streamed.world, streamed.table()
    world.execute("CREATE TABLE t (id int PRIMARY KEY)")
    streamed.setup(table)
    streamed.one(table)
    world.execute(f"SELECT pg_replication_origin_create('{streamed.name}')")
    try:
        with world.open_transaction(
            f"SELECT pg_replication_origin_session_setup('{streamed.name}')", "INSERT INTO t VALUES (1)"
        ) as writer:
            writer.commit()
        assert streamed.one(table).inserted == 1
    finally:
        world.execute(f"SELECT pg_replication_origin_drop('{streamed.name}')")
    world.assert_equal(table)


def test_a_truncate_marks_rows_where_deletes_are_soft(streamed: Streamed) -> None:
    world, table = streamed.world, streamed.table(deletes="soft")
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    streamed.setup(table)
    streamed.one(table)
    world.execute("TRUNCATE t RESTART IDENTITY", "INSERT INTO t VALUES (2, 'again')", "INSERT INTO t VALUES (3, 'c')")
    receipt = streamed.one(table)
    assert receipt.target_rows == 2
    assert world.query('SELECT "ID", "V", "_DELETED" FROM PUBLIC.T ORDER BY "ID"') == [
        (1, "a", True),
        (2, "again", False),
        (3, "c", False),
    ]
