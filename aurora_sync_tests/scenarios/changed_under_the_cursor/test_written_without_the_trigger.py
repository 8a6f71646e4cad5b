"""Rows of a clock strategy that were written without its trigger, and therefore have an old time."""

from __future__ import annotations

from datetime import timedelta

import psycopg2
import pytest

from aurora_sync.errors import SourceError
from aurora_sync.model.certificate import Level
from aurora_sync.strategies import clock, strategy_for
from aurora_sync_tests.scenarios.world import World, config

TABLE = "CREATE TABLE t (id int PRIMARY KEY, a int, updated_at timestamptz)"
TOUCH = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO t (id, a) VALUES (1, 1), (2, 2), (3, 3);
"""
BY_TIME = config(watermark_type="timestamp", watermark_col="updated_at")


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the margin of one minute from the clock fence, which would cover a whole test."""
    monkeypatch.setattr(clock, "MARGIN", timedelta(0))


def fence_in_use(world: World) -> str:
    """Return the fence that the next run would read from."""
    fence = world.sync(BY_TIME).watermark_after.value["fence"]
    assert isinstance(fence, str)
    assert world.sync(BY_TIME).method == "clock fence"
    return fence


def assert_found_by_the_horizon_alone(world: World, fence: str) -> None:
    # rows that the fence alone would find
    assert world.execute(f"SELECT id FROM t WHERE updated_at >= '{fence}'") == []
    assert world.sync(BY_TIME).method == "horizon scan"
    world.assert_equal(BY_TIME)


def test_rows_updated_while_the_trigger_was_off_are_exported(world: World) -> None:
    world.execute(TABLE, TOUCH)
    fence = fence_in_use(world)
    world.execute("ALTER TABLE t DISABLE TRIGGER touch", "UPDATE t SET a = 20 WHERE id = 2")
    world.execute("ALTER TABLE t ENABLE TRIGGER touch")
    assert_found_by_the_horizon_alone(world, fence)
    world.execute("UPDATE t SET a = 30 WHERE id = 3")
    receipt = world.sync(BY_TIME)  # the trigger was not touched since, so the fence is used again
    assert (receipt.method, receipt.rows_exported) == ("clock fence", 1)
    world.assert_equal(BY_TIME)


def test_rows_updated_while_the_function_of_the_trigger_was_another_are_exported(world: World) -> None:
    world.execute(TABLE, TOUCH)
    fence = fence_in_use(world)
    function = "CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} RETURN NEW; END $$"
    world.execute(function.format(""), "UPDATE t SET a = 20 WHERE id = 2")
    world.execute(function.format("NEW.updated_at := now();"))
    assert_found_by_the_horizon_alone(world, fence)


def test_rows_updated_while_their_partition_was_detached_are_exported(world: World) -> None:
    """A partition loses its parent's trigger when it is detached, and gets it back: its oid and file stay the same."""
    world.execute(
        f"{TABLE} PARTITION BY RANGE (id)", "CREATE TABLE one PARTITION OF t FOR VALUES FROM (1) TO (100)", TOUCH
    )
    fence = fence_in_use(world)
    world.execute("ALTER TABLE t DETACH PARTITION one", "UPDATE one SET a = 20 WHERE id = 2")
    world.execute("ALTER TABLE t ATTACH PARTITION one FOR VALUES FROM (1) TO (100)")
    assert_found_by_the_horizon_alone(world, fence)


def test_values_that_a_rewriting_alter_made_are_exported(world: World) -> None:
    """Name and type stay and no trigger fires, but every row has another value."""
    world.execute(TABLE, TOUCH)
    fence = fence_in_use(world)
    world.execute("ALTER TABLE t ALTER a TYPE int USING a * 100")
    assert_found_by_the_horizon_alone(world, fence)
    assert {row[1] for row in world.target_rows(BY_TIME)} == {100, 200, 300}


@pytest.mark.parametrize(
    "body",
    [
        "SELECT OLD.updated_at INTO NEW.updated_at; RETURN NEW;",
        "RETURN jsonb_populate_record(NEW, jsonb_build_object(TG_ARGV[0], to_jsonb(OLD) -> TG_ARGV[0]));",
    ],
)
def test_second_trigger_that_keeps_the_old_time_hides_no_update(world: World, body: str) -> None:
    world.execute(
        TABLE,
        TOUCH,
        f"CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$",
        "CREATE TRIGGER undo BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION undo('updated_at')",
    )
    receipt = world.sync(BY_TIME)
    assert receipt.watermark_after.value["fence"] is None
    now = world.execute("SELECT now()::text")[0][0]
    world.execute("UPDATE t SET a = 20 WHERE id = 2")
    assert_found_by_the_horizon_alone(world, now)


OTHER_CLOCK = "CREATE FUNCTION now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''2001-01-01''::timestamptz'"


@pytest.mark.parametrize(
    "function",
    [
        """$$BEGIN NEW.updated_at := now(); NEW.v := coalesce(NEW.v, '--'); NEW.updated_at := NEW.sent_at;
           RETURN NEW; END$$""",
        """$$DECLARE r ALIAS FOR NEW; BEGIN NEW.updated_at := now();
           r := jsonb_populate_record(r, jsonb_build_object(TG_ARGV[0], r.sent_at)); RETURN NEW; END$$""",
        "$$BEGIN NEW.updated_at := now(); -- not here:\rNEW.updated_at := NEW.sent_at;\nRETURN NEW; END$$",
        "$$BEGIN NEW.v := lower(NEW.v); /* /* */ NEW.updated_at := now(); */ RETURN NEW; END$$",
        """$$BEGIN NEW.updated_at := now();
           "new" := jsonb_populate_record(NEW, jsonb_build_object(TG_ARGV[0], NEW.sent_at)); RETURN NEW; END$$""",
        "$$BEGIN NEW.updated_at := now(); RETURN NEW; END$$ SET search_path = public, pg_catalog",
    ],
    ids=["comment in a string", "alias", "carriage return", "nested comment", "quoted name", "other now()"],
)
def test_trigger_that_seems_to_set_the_clock_hides_no_update(world: World, function: str) -> None:
    """A search of the trigger's text would find the assignment of now(), but not that of another value."""
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, sent_at timestamptz DEFAULT '2001-01-01',"
        " updated_at timestamptz DEFAULT '2001-01-01')",
        OTHER_CLOCK,
        f"CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS {function}",
        "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch('updated_at')",
        "INSERT INTO t (id) VALUES (1), (2)",
    )
    world.sync(BY_TIME)
    now = world.execute("SELECT pg_catalog.now()::text")[0][0]
    world.execute("UPDATE t SET v = 'new' WHERE id = 2")
    assert_found_by_the_horizon_alone(world, now)


@pytest.mark.parametrize("value", ["5 INTO NEW.updated_at", "5 INTO STRICT NEW", "(SELECT 5 INTO NEW.updated_at)"])
def test_value_of_another_column_cannot_change_the_time(world: World, value: str) -> None:
    """The proof relies on this: the server refuses such a body when it is created or when it runs."""
    world.execute(TABLE, "INSERT INTO t VALUES (1, 1, '2001-01-01')")
    with pytest.raises(psycopg2.Error):
        world.execute(
            f"CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.a := {value}; RETURN NEW; END$$",
            "CREATE TRIGGER touch BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()",
            "UPDATE t SET a = 2",
        )
    assert world.execute("SELECT a, updated_at = '2001-01-01' FROM t") == [(1, True)]


def test_second_trigger_whose_language_cannot_be_read_is_not_trusted(world: World) -> None:
    world.execute(
        TABLE,
        TOUCH,
        "CREATE TRIGGER z BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    )
    world.sync(BY_TIME)
    receipt = world.sync(BY_TIME)
    assert receipt.method == "horizon scan"
    assert "no BEFORE INSERT OR UPDATE row trigger" in receipt.warnings[0]


@pytest.mark.parametrize(
    "difference",
    [
        "ALTER TABLE one DISABLE TRIGGER touch",
        """CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN NEW.updated_at := OLD.updated_at; RETURN NEW; END $$;
           CREATE TRIGGER undo BEFORE UPDATE ON one FOR EACH ROW EXECUTE FUNCTION undo()""",
    ],
    ids=["off", "one of its own"],
)
def test_partition_whose_triggers_differ_hides_no_update(world: World, difference: str) -> None:
    """The difference matters in every later run, not only in the first one after it appeared."""
    world.execute(
        f"{TABLE} PARTITION BY RANGE (id)", "CREATE TABLE one PARTITION OF t FOR VALUES FROM (1) TO (100)", TOUCH
    )
    world.execute(difference)
    world.sync(BY_TIME)
    now = world.execute("SELECT now()::text")[0][0]
    for id_ in (1, 2):
        world.execute(f"UPDATE t SET a = 20 WHERE id = {id_}")
        assert_found_by_the_horizon_alone(world, now)


def test_trigger_that_was_off_while_a_read_began_stops_the_read(world: World) -> None:
    """The watermark would have the earlier version of the trigger, but the snapshot the rows written in between."""
    world.execute(TABLE, TOUCH)
    with world.places.source.reading("public", "t") as reading:
        world.execute("ALTER TABLE t DISABLE TRIGGER touch", "ALTER TABLE t ENABLE TRIGGER touch")
        with pytest.raises(SourceError, match="definition of the table changed"):
            reading.observe(strategy_for("timestamp").fence(BY_TIME), max_minutes=1)


def insert_as_a_replica(world: World) -> None:
    with world.open_transaction(
        "SET session_replication_role = replica", "INSERT INTO t VALUES (4, 4, '2020-01-01')"
    ) as writer:
        writer.commit()


def test_rows_that_a_replica_session_writes_are_lost_and_the_certificate_says_so(world: World) -> None:
    """Only triggers that are ENABLE ALWAYS fire in such a session, and the catalogue keeps no trace of it."""
    world.execute(TABLE, TOUCH)
    fence_in_use(world)
    insert_as_a_replica(world)
    receipt = world.sync(BY_TIME)
    assert receipt.method == "clock fence"
    assert len(world.target_rows(BY_TIME)) == 3
    assert receipt.certificate.level is Level.UNCERTIFIED
    assert "session_replication_role = replica" in receipt.certificate.text
    receipt = world.sync(BY_TIME, reconcile=True)
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_equal(BY_TIME)


def test_trigger_that_fires_in_every_session_is_certified(world: World) -> None:
    world.execute(TABLE, TOUCH, "ALTER TABLE t ENABLE ALWAYS TRIGGER touch")
    fence_in_use(world)
    insert_as_a_replica(world)
    receipt = world.sync(BY_TIME)
    assert (receipt.method, receipt.certificate.level) == ("clock fence", Level.CERTIFIED)
    world.assert_equal(BY_TIME)
