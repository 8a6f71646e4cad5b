"""Numbers below the lock fence that a row still gets: by a restarted sequence, a trigger, or a session that held them
back."""

from __future__ import annotations

import io
from typing import Any

import pytest

from aurora_sync.errors import SourceError
from aurora_sync.model.certificate import Level
from aurora_sync.strategies import strategy_for
from aurora_sync_tests.scenarios.world import World, config

TABLE = """
CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 10);
"""
BY_ID = config(watermark_type="integer", watermark_col="id")


@pytest.mark.parametrize("restart", ["ALTER SEQUENCE t_id_seq RESTART", "ALTER TABLE t ALTER id RESTART WITH 1"])
def test_rows_with_the_numbers_of_a_restarted_sequence_are_exported(world: World, restart: str) -> None:
    """When the next run comes, the sequence is past the old numbers again; only the record of its restart shows it."""
    world.execute(TABLE, "DELETE FROM t WHERE id < 10")  # so the target never held the first nine
    fence = world.sync(BY_ID).watermark_after.value["fence"]
    assert world.sync(BY_ID).method == "lock fence"
    world.execute("DELETE FROM t", restart, "INSERT INTO t (v) SELECT 'new' FROM generate_series(1, 15)")
    assert world.execute(f"SELECT count(*) FROM t WHERE id > {fence}") == [(5,)]  # rows that the fence alone would find
    assert world.sync(BY_ID).method == "horizon scan"
    world.assert_equal(BY_ID)
    world.execute("INSERT INTO t (v) VALUES ('next')")
    assert world.sync(BY_ID).method == "lock fence"
    world.assert_equal(BY_ID)


@pytest.mark.parametrize("when", ["", "WHEN (NEW.v = 'new')"])
def test_rows_whose_number_a_trigger_sets_are_exported(world: World, when: str) -> None:
    world.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)",
        "CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := -NEW.id; RETURN NEW; END $$",
        f"CREATE TRIGGER own BEFORE INSERT ON t FOR EACH ROW {when} EXECUTE FUNCTION own()",
        "INSERT INTO t (v) VALUES ('new'), ('new')",
    )
    assert world.sync(BY_ID).watermark_after.value["fence"] is None
    world.execute("INSERT INTO t (v) VALUES ('new')")  # gets -3, which is below the maximum
    receipt = world.sync(BY_ID)
    assert receipt.method == "horizon scan"
    assert receipt.warnings == ("scanning by the horizon: a trigger of the table may set id",)
    world.assert_equal(BY_ID)


@pytest.mark.parametrize(
    ("declared", "method", "remark", "lost"),
    [
        ({}, "horizon scan", "may call nextval() itself", 0),
        (
            {"watermark_set_by": "database"},
            "lock fence",
            "id is declared as set by the database: this is not checked",
            1,
        ),
    ],
    ids=["found", "declared otherwise"],
)
def test_row_whose_number_the_application_took_long_before_is_found_unless_declared_otherwise(
    world: World, declared: dict[str, str], method: str, remark: str, lost: int
) -> None:
    """A session that has only called nextval() holds no lock on the table."""
    table = BY_ID.model_copy(update=declared)
    world.execute("CREATE TABLE t (id serial PRIMARY KEY, v text)", "INSERT INTO t (v) VALUES ('first')")
    with world.open_transaction("SELECT nextval('t_id_seq')") as application:
        world.execute("INSERT INTO t (v) VALUES ('overtakes')")
        world.sync(table)
        application.cursor().execute("INSERT INTO t VALUES (2, 'held back')")
        application.commit()
    receipt = world.sync(table)
    assert receipt.method == method
    assert remark in receipt.warnings[0]
    assert (world.source_rows(table) - world.target_rows(table)).total() == lost


def test_lookback_from_the_numbers_of_another_column_is_not_used(world: World) -> None:
    keys: dict[str, Any] = {"watermark_type": "integer", "watermark_set_by": "application", "lookback": 5}
    by_code, by_id = config(watermark_col="code", **keys), config(watermark_col="id", **keys)
    world.execute("CREATE TABLE t (id int PRIMARY KEY, code int)", "INSERT INTO t VALUES (1, 1000)")
    world.sync(by_code)
    world.execute("INSERT INTO t VALUES (2, 1001)")  # its id is far below 1000 - lookback
    assert world.sync(by_id).method == "horizon scan"
    world.assert_equal(by_id)
    world.execute("INSERT INTO t VALUES (3, 1002)")
    assert world.sync(by_id).method == "lookback"
    world.assert_equal(by_id)


def test_sequence_that_is_restarted_while_a_read_begins_stops_the_read(world: World) -> None:
    world.execute(TABLE)
    with world.places.source.reading("public", "t") as reading:
        world.execute("ALTER SEQUENCE t_id_seq RESTART")
        with pytest.raises(SourceError, match="definition of the table changed"):
            reading.observe(strategy_for("integer").fence(BY_ID), max_minutes=1)


@pytest.mark.parametrize("explicit", ["INSERT INTO t (id, v) OVERRIDING SYSTEM VALUE VALUES (50, 'explicit')", "COPY"])
def test_numbers_set_by_hand_are_lost_and_the_certificate_says_so(world: World, explicit: str) -> None:
    """GENERATED ALWAYS restricts INSERT only, and the catalogue has no trace of a number that was set by hand."""
    world.execute(
        "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text)",
        "INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 100)",
        "DELETE FROM t WHERE id = 50",
    )
    world.sync(BY_ID)
    assert world.sync(BY_ID).method == "lock fence"
    if explicit == "COPY":
        with world.session() as connection, connection.cursor() as cursor:
            cursor.copy_expert("COPY t (id, v) FROM STDIN", io.StringIO("50\texplicit\n"))
            connection.commit()
    else:
        world.execute(explicit)
    world.execute("INSERT INTO t (v) VALUES ('new')")
    receipt = world.sync(BY_ID)
    assert (receipt.method, receipt.inserted) == ("lock fence", 1)
    assert receipt.certificate.level is Level.UNCERTIFIED
    assert "COPY or OVERRIDING SYSTEM VALUE" in receipt.certificate.text
    receipt = world.sync(BY_ID, reconcile=True)
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_equal(BY_ID)
