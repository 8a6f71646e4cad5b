"""Connections to Snowflake that break around a COMMIT, and the statements that are sent afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.retries import retrying
from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.warehouse.snowflake import SnowflakeSession
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, Server, SnowflakeLike, operational

TABLES: dict[str, tuple[str, TableConfig]] = {
    "MERGE": ("PRIMARY KEY", config()),
    "append": ("", config(append_only=True)),
    "replace": ("PRIMARY KEY", config(watermark_type="full_snapshot")),
}
each_load = pytest.mark.parametrize("load", TABLES)


@pytest.fixture
def snowflake(world: World, server: Server) -> World:
    world.places = dataclasses.replace(world.places, warehouse=SnowflakeLike.on(server))
    return world


def synced_and_changed(world: World, load: str) -> TableConfig:
    """Create a table whose target lacks updates, deletes and new rows."""
    key, table = TABLES[load]
    world.execute(
        f"CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY {key}, v text)",
        "INSERT INTO t (v) SELECT 'old' FROM generate_series(1, 10)",
    )
    world.sync(table)
    world.execute("INSERT INTO t (v) VALUES ('new')")
    if load != "append":
        world.execute("UPDATE t SET v = 'newer' WHERE id = 1")
    if load == "replace":
        world.execute("DELETE FROM t WHERE id = 2")
    return table


def at(words: str, *, of: int = 1, then: Callable[[Connection], None]) -> Callable[[Connection, str], None]:
    """Run an action at the statements that begin with these words, ``of`` times."""
    left = [of]

    def hook(connection: Connection, statement: str) -> None:
        if statement.startswith(words) and left[0]:
            left[0] -= 1
            then(connection)

    return hook


def fail(_: Connection) -> None:
    raise operational("connection reset by peer")


@each_load
def test_commit_whose_answer_was_lost_with_the_connection_is_found_by_the_next_try(
    snowflake: World, server: Server, load: str
) -> None:
    table = synced_and_changed(snowflake, load)
    server.after = at("COMMIT", then=Connection.vanish)
    with pytest.raises(WarehouseError, match="reset") as caught:
        snowflake.sync(table)
    assert caught.value.kind is Kind.TRANSIENT
    assert "which says whether the run was committed, could not be read" in caught.value.__notes__[1]
    snowflake.assert_equal(table)
    if load != "replace":
        assert snowflake.sync(table).rows_exported == 0
    snowflake.assert_equal(table)


@each_load
def test_commit_whose_answer_was_lost_is_found_in_the_log(snowflake: World, server: Server, load: str) -> None:
    table = synced_and_changed(snowflake, load)
    server.after = at("COMMIT", then=fail)
    assert snowflake.sync(table).run_sequence == 2
    snowflake.assert_equal(table)


@each_load
def test_commit_that_did_not_arrive_holds_the_others_until_it_is_aborted(
    snowflake: World, server: Server, load: str
) -> None:
    """The run makes the attempts of the command line."""
    table = synced_and_changed(snowflake, load)
    server.before = at("COMMIT", then=Connection.vanish)
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            server.abort_detached()

    receipt = retrying(lambda: snowflake.sync(table), sleep=pause)
    assert (receipt.run_sequence, len(pauses)) == (2, 2)
    snowflake.assert_equal(table)


def commits_only_whole_transactions(world: World, server: Server, table: TableConfig) -> None:
    """Assert that a failed run has changed nothing, not even by what it does after the failure."""
    before, log = world.target_rows(table), world.run_sequences(table)
    with pytest.raises(WarehouseError):
        world.sync(table)
    assert (world.target_rows(table), world.run_sequences(table)) == (before, log)
    server.before = server.after = lambda *_: None
    assert world.sync(table).run_sequence == 2
    world.assert_equal(table)


@pytest.mark.parametrize(
    ("load", "statement"),
    [
        *((load, statement) for load in TABLES for statement in ("COMMIT", "UPDATE", "INSERT INTO")),
        ("MERGE", "MERGE INTO"),
        ("replace", "MERGE INTO"),
        ("replace", "DELETE FROM"),
    ],
)
def test_statements_after_a_rollback_that_did_not_arrive_commit_nothing(
    snowflake: World, server: Server, load: str, statement: str
) -> None:
    """The session stays open with its transaction, where the log's new row is visible, and which the next CREATE or
    DROP would commit."""
    table = synced_and_changed(snowflake, load)
    broken = at(statement, then=fail)
    unrolled = at("ROLLBACK", then=fail)

    def before(connection: Connection, text: str) -> None:
        if connection.in_transaction:
            broken(connection, text)
            unrolled(connection, text)

    server.before = before
    commits_only_whole_transactions(snowflake, server, table)


@each_load
def test_failed_statement_is_not_committed_around(snowflake: World, server: Server, load: str) -> None:
    """Snowflake would allow committing the other statements."""
    table = synced_and_changed(snowflake, load)

    def before(connection: Connection, statement: str) -> None:
        if connection.in_transaction and statement.startswith('INSERT INTO "_AURORA_SYNC"'):
            connection.run("SELECT 1 / 'x'", ())

    server.before = before
    commits_only_whole_transactions(snowflake, server, table)


def test_session_that_went_on_after_a_lost_rollback_would_commit_half_a_run(
    snowflake: World, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = synced_and_changed(snowflake, "replace")
    before = snowflake.target_rows(table)
    monkeypatch.setattr(SnowflakeSession, "close", lambda _: None)
    broken, unrolled = at("MERGE INTO", then=fail), at("ROLLBACK", then=fail)

    def hook(connection: Connection, text: str) -> None:
        if connection.in_transaction:
            broken(connection, text)
            unrolled(connection, text)

    server.before = hook
    with pytest.raises(WarehouseError):
        snowflake.sync(table)
    assert before - snowflake.target_rows(table)
