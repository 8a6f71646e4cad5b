"""Comments of the source on the target: they come with the first load, and follow in runs that change columns or read
the whole table."""

from __future__ import annotations

from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.world import World, config


def comments(world: World) -> dict[str, str]:
    with world.warehouse.session() as session:
        described = session.describe("PUBLIC", "T")
    return {name: found.comment for name, found in described.items() if not name.startswith("_")}


def comment_of_the_table(world: World) -> str:
    with world.warehouse.session() as session:
        assert isinstance(session, DuckDBSession)
        ((comment,),) = session.query("SELECT comment FROM duckdb_tables() WHERE table_name = 'T'")
    return str(comment)


def test_comments_follow_only_when_columns_change_or_all_is_read(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "COMMENT ON TABLE t IS 'All the t'",
        "COMMENT ON COLUMN t.v IS 'a value'",
        "INSERT INTO t VALUES (1, 'a')",
    )
    world.sync(config())
    assert comments(world) == {"ID": "", "V": "a value"}
    assert comment_of_the_table(world) == "All the t\nSynced from public.t by aurora_sync"
    world.execute("COMMENT ON COLUMN t.v IS 'another'", "COMMENT ON TABLE t IS NULL", "INSERT INTO t VALUES (2, 'b')")
    world.sync(config())
    assert comments(world) == {"ID": "", "V": "a value"}, "an ordinary increment sends no DDL"
    world.execute("ALTER TABLE t ADD COLUMN w int", "COMMENT ON COLUMN t.w IS 'new'", "INSERT INTO t VALUES (3, 'c')")
    world.sync(config())
    assert comments(world) == {"ID": "", "V": "another", "W": "new"}
    assert comment_of_the_table(world) == "Synced from public.t by aurora_sync"
    world.execute("COMMENT ON COLUMN t.v IS NULL")
    world.sync(config(), full=True)
    assert comments(world) == {"ID": "", "V": "", "W": "new"}


def test_comments_of_a_target_that_was_dropped_and_made_again_follow(world: World) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a')")
    world.sync(config())
    with world.warehouse.session() as session:
        session.query('DROP TABLE "PUBLIC"."T"')
    world.execute("COMMENT ON COLUMN t.v IS 'a value'", "INSERT INTO t VALUES (2, 'b')")
    world.sync(config())
    assert comments(world) == {"ID": "", "V": "a value"}
    world.execute("COMMENT ON COLUMN t.v IS 'another'")
    world.sync(config(), full=True)
    assert comments(world) == {"ID": "", "V": "another"}
