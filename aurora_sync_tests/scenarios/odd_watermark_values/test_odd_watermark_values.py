"""Watermark columns with unexpected values: NULL, negative numbers, infinity, the year 2999, local times."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.strategies import clock
from aurora_sync_tests.scenarios.random_writers.replicas import naive_replicas
from aurora_sync_tests.scenarios.world import World, config

TOUCH = """
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := {value}; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
"""
BY_ID = config(watermark_type="integer", watermark_col="id")
BY_TIME = config(watermark_type="timestamp", watermark_col="updated_at")


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MARGIN", timedelta(0))


def test_numbers_from_below_zero_are_exported(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY (MINVALUE -3 START -3) PRIMARY KEY, v text, w text)",
        "INSERT INTO t (v) VALUES ('-3'), ('-2')",
    )
    naive = naive_replicas(world.dsn)["integer"]
    for values in ("('-1'), ('0')", "('1')"):
        world.sync(BY_ID)
        naive.sync()
        world.execute(f"INSERT INTO t (v) VALUES {values}")
    naive.sync()
    assert world.sync(BY_ID).method == "lock fence"
    world.assert_equal(BY_ID)
    assert set(naive.rows) == {"1"}


@pytest.mark.parametrize("table", [BY_ID, BY_TIME], ids=["integer", "timestamp"])
def test_rows_whose_watermark_is_null_are_exported(world: World, table: TableConfig) -> None:
    table = table.model_copy(update={"primary_key": ["k"], "watermark_set_by": "database"})
    world.execute(
        "CREATE TABLE t (k int PRIMARY KEY, id serial, updated_at timestamptz DEFAULT now())",
        "ALTER TABLE t ALTER id DROP NOT NULL",
        "INSERT INTO t (k) VALUES (1)",
    )
    world.sync(table)
    world.execute("INSERT INTO t VALUES (2, NULL, NULL)", "INSERT INTO t (k) VALUES (3)")
    assert world.sync(table).method in ("lock fence", "clock fence")
    world.assert_equal(table)


@pytest.mark.parametrize("value", ["infinity", "12026-01-01 00:00+00", "0044-03-15 00:00+00 BC"])
def test_time_that_the_warehouse_cannot_hold_is_kept_as_text(world: World, value: str) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz)", f"INSERT INTO t VALUES (1, '{value}')")
    world.sync(BY_TIME)
    world.execute("INSERT INTO t VALUES (2, now())")
    world.sync(BY_TIME)
    world.sync(BY_TIME)
    ((exact,),) = world.query('SELECT "UPDATED_AT" FROM "PUBLIC"."T" WHERE "ID" = 1')
    assert exact == value.replace("00:00+00", "00:00:00+00")
    assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T"') == [(2,)]


def test_row_of_the_year_2999_does_not_hide_the_rows_after_it(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, updated_at timestamptz)",
        "INSERT INTO t VALUES (1, 'poison', '2999-01-01')",
        TOUCH.format(value="now()"),
    )
    naive = naive_replicas(world.dsn)["timestamp"]
    world.sync(BY_TIME)
    naive.sync()
    world.execute("INSERT INTO t VALUES (2, 'after')")
    assert world.sync(BY_TIME).method == "clock fence"
    naive.sync()
    world.assert_equal(BY_TIME)
    assert set(naive.rows) == {"1"}


def test_local_times_of_writers_in_different_zones_are_exported(world: World) -> None:
    """In a column without zone, a time from New York is hours older than an earlier one from Tokyo."""
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, updated_at timestamp)", TOUCH.format(value="clock_timestamp()")
    )
    naive = naive_replicas(world.dsn)["timestamp"]
    for number, zone in enumerate(["Asia/Tokyo", "America/New_York", "Etc/GMT+12", "Pacific/Kiritimati"]):
        with world.open_transaction(f"SET TimeZone = '{zone}'", f"INSERT INTO t VALUES ({number}, '{zone}')") as writer:
            writer.commit()
        receipt = world.sync(BY_TIME)
        naive.sync()
    assert receipt.method == "clock fence"
    world.assert_equal(BY_TIME)
    assert "America/New_York" not in naive.rows.values()


def test_times_that_an_application_writes_are_found_by_the_horizon(world: World) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz DEFAULT now())")
    world.sync(BY_TIME)
    world.execute("INSERT INTO t VALUES (1, '1999-12-31')")
    receipt = world.sync(BY_TIME)
    assert receipt.method == "horizon scan"
    assert "no BEFORE INSERT OR UPDATE row trigger" in receipt.warnings[0]
    world.assert_equal(BY_TIME)


def test_trigger_that_lets_the_application_choose_the_time_is_not_trusted(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz)",
        TOUCH.format(value="coalesce(NEW.updated_at, now())"),
    )
    world.sync(BY_TIME)
    world.execute("INSERT INTO t VALUES (1, '1999-12-31')")
    assert world.sync(BY_TIME).method == "horizon scan"
    world.assert_equal(BY_TIME)
