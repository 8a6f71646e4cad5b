"""Connections that stay open between the sessions of a process."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable, Iterator

import pytest

from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse.kept import Kept
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def closed() -> list[str]:
    return []


@pytest.fixture
def kept(closed: list[str]) -> Iterator[Kept[str]]:
    kept = Kept(closed.append, idle_seconds=3600, most_seconds=3600)
    yield kept
    kept.end()


def test_nothing_is_kept_before_it_is_asked_for(kept: Kept[str], closed: list[str]) -> None:
    kept.leave("one", time.monotonic())
    assert closed == ["one"]
    assert kept.take() is None


def test_the_next_session_takes_the_connection_of_the_last_one(kept: Kept[str], closed: list[str]) -> None:
    kept.keep()
    opened_at = time.monotonic()
    kept.leave("one", opened_at)
    kept.keep()  # each step says it again
    assert kept.take() == ("one", opened_at)
    assert kept.take() is None
    assert closed == []


def test_of_two_sessions_at_once_one_connection_is_kept(kept: Kept[str], closed: list[str]) -> None:
    kept.keep()
    kept.leave("one", time.monotonic())
    kept.leave("two", time.monotonic())
    assert closed == ["two"]


def test_an_old_connection_is_closed_after_its_session(kept: Kept[str], closed: list[str]) -> None:
    kept.keep()
    kept.leave("old", time.monotonic() - 3601)
    assert closed == ["old"]


def test_an_idle_connection_is_closed(closed: list[str]) -> None:
    kept = Kept(closed.append, idle_seconds=0.02, most_seconds=3600)
    kept.keep()
    kept.leave("idle", time.monotonic())
    until(lambda: closed == ["idle"])
    kept.end()


def test_the_end_closes_the_connection(kept: Kept[str], closed: list[str]) -> None:
    kept.keep()
    kept.leave("one", time.monotonic())
    kept.end()
    assert closed == ["one"]
    kept.leave("two", time.monotonic())
    assert closed == ["one", "two"]


def test_a_forked_process_does_not_use_the_connection_of_its_parent(kept: Kept[str], closed: list[str]) -> None:
    kept.keep()
    kept.leave("parent's", time.monotonic())
    child = os.fork()
    if child == 0:
        taken = kept.take()
        kept.end()
        os._exit(0 if taken is None and closed == [] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert kept.take() is not None


@pytest.fixture
def sharing(snowflake_warehouse: SnowflakeWarehouse) -> Iterator[SnowflakeWarehouse]:
    snowflake_warehouse.keep_connections()
    yield snowflake_warehouse
    snowflake_warehouse.close()


def has_mark(warehouse: SnowflakeWarehouse) -> bool:
    """Return whether this session has the temporary table of an earlier one, which lives as long as its connection."""
    with warehouse.session() as session:
        try:
            session.query("SELECT * FROM mark_of_session")
        except WarehouseError:
            return False
        return True


def leave_mark(warehouse: SnowflakeWarehouse) -> None:
    with warehouse.session() as session:
        session.query("CREATE SCHEMA IF NOT EXISTS marks")
        session.query("USE SCHEMA marks")
        session.query("CREATE TEMPORARY TABLE mark_of_session (id int)")


def test_sessions_share_a_connection_until_the_end(sharing: SnowflakeWarehouse) -> None:
    leave_mark(sharing)
    assert has_mark(sharing)
    sharing.close()
    assert not has_mark(sharing)


def test_a_process_that_loads_chunks_gets_the_warehouse_without_the_connection(sharing: SnowflakeWarehouse) -> None:
    leave_mark(sharing)
    other: SnowflakeWarehouse = pickle.loads(pickle.dumps(sharing))
    assert other == sharing
    assert other._kept.take() is None
    assert has_mark(sharing)


def test_a_failed_session_leaves_no_connection(sharing: SnowflakeWarehouse) -> None:
    leave_mark(sharing)
    with pytest.raises(WarehouseError), sharing.session() as session, session.transaction():
        session.query("SELECT * FROM no_such_table")
    assert not has_mark(sharing)
