"""The small Snowflake follows the rules that snowflake_semantics.py lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.warehouse.base import Row, Session
from aurora_sync_tests.warehouse.increments import Folder
from aurora_sync_tests.warehouse.snowflake_semantics import Server, SnowflakeLike


@pytest.fixture
def server(tmp_path: Path, folder: Folder) -> Server:
    return Server(tmp_path / "warehouse.duckdb", folder)


@pytest.fixture
def session(server: Server) -> Iterator[Session]:
    with SnowflakeLike.on(server).session() as session:
        session.query('CREATE SCHEMA "S"')
        session.query('CREATE TABLE "S"."T" ("A" NUMBER(5,0))')
        yield session


def insert(session: Session, value: object) -> None:
    session.modify('INSERT INTO "S"."T" VALUES (?)', (value,))


def rows(server: Server) -> list[Row]:
    with SnowflakeLike.on(server).session() as session:
        return session.query('SELECT "A" FROM "S"."T" ORDER BY 1')


def test_statement_that_failed_does_not_end_its_transaction(session: Session, server: Server) -> None:
    session.query("BEGIN TRANSACTION")
    insert(session, 1)
    with pytest.raises(WarehouseError, match="Conversion"):
        insert(session, "x")
    insert(session, 2)
    assert rows(server) == []
    session.query("COMMIT")
    assert rows(server) == [(1,), (2,)]


def test_ddl_commits_the_open_transaction(session: Session, server: Server) -> None:
    session.query("BEGIN TRANSACTION")
    insert(session, 1)
    session.query('CREATE TABLE "S"."U" ("A" NUMBER(5,0))')
    session.query("ROLLBACK")
    assert rows(server) == [(1,)]


def test_begin_inside_a_transaction_is_ignored(session: Session, server: Server) -> None:
    session.query("BEGIN TRANSACTION")
    insert(session, 1)
    session.query("BEGIN TRANSACTION")
    session.query("ROLLBACK")
    assert rows(server) == []


def test_closed_session_is_rolled_back(session: Session, server: Server) -> None:
    with SnowflakeLike.on(server).session() as other:
        other.query("BEGIN TRANSACTION")
        insert(other, 1)
    insert(session, 2)
    assert rows(server) == [(2,)]


def test_lost_session_keeps_its_locks_until_it_is_aborted(session: Session, server: Server) -> None:
    with SnowflakeLike.on(server).session() as other:
        other.query("BEGIN TRANSACTION")
        insert(other, 1)
        other._connection.vanish()  # type: ignore[attr-defined]
    with pytest.raises(WarehouseError, match="LOCK_TIMEOUT") as caught:
        insert(session, 2)
    assert caught.value.kind is Kind.TRANSIENT
    server.abort_detached()
    insert(session, 2)
    assert rows(server) == [(2,)]


def test_statement_that_waited_sees_what_the_rival_committed(session: Session, server: Server) -> None:
    server.lock_timeout = 60
    insert(session, 1)
    session.query("BEGIN TRANSACTION")
    session.modify('UPDATE "S"."T" SET "A" = "A" + 1')
    changed: list[int] = []

    def rival() -> None:
        with SnowflakeLike.on(server).session() as other:
            other.query("BEGIN TRANSACTION")
            changed.append(other.modify('UPDATE "S"."T" SET "A" = 10 WHERE "A" = 2'))
            other.query("COMMIT")

    waiting = Thread(target=rival)
    waiting.start()
    session.query("COMMIT")
    waiting.join()
    assert (changed, rows(server)) == ([1], [(10,)])


def test_answer_that_was_lost_says_nothing_of_what_happened(session: Session, server: Server) -> None:
    for hook, kept in (("before", []), ("after", [(1,)])):
        with SnowflakeLike.on(server).session() as other:
            setattr(server, hook, lambda connection, _: connection.vanish())
            with pytest.raises(WarehouseError, match="reset") as caught:
                insert(other, 1)
            setattr(server, hook, lambda *_: None)
        assert caught.value.kind is Kind.TRANSIENT
        assert rows(server) == kept
