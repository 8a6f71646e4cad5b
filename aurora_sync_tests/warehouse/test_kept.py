"""Connections that stay open between the sessions of a process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse import duckdb as duckdb_module
from aurora_sync.warehouse.base import Warehouse
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync.warehouse.kept import Kept
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse

# Another process opens the file, by our own session, and leaves a table behind.
OPEN = """
import sys
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
print("begun", flush=True)
with DuckDBWarehouse(sys.argv[1]).session() as session:
    session.query("CREATE TABLE another (id NUMBER)")
"""


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
    assert time.monotonic() - kept.aged_at < 60


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


@pytest.fixture(params=["duckdb", "snowflake"])
def sharing(request: pytest.FixtureRequest) -> Iterator[Warehouse]:
    warehouse: DuckDBWarehouse | SnowflakeWarehouse = request.getfixturevalue(f"{request.param}_warehouse")
    warehouse.keep_connections()
    yield warehouse
    warehouse.close()


def has_mark(warehouse: Warehouse) -> bool:
    """Return whether this session has the temporary table of an earlier one, which lives as long as its connection."""
    with warehouse.session() as session:
        try:
            session.query("SELECT * FROM mark_of_session")
        except WarehouseError:
            found = False
        else:
            found = True
    return found


def leave_mark(warehouse: Warehouse) -> None:
    with warehouse.session() as session:
        if warehouse.kind == "snowflake":
            session.query("CREATE SCHEMA IF NOT EXISTS marks")
            session.query("USE SCHEMA marks")
        connection = session._connection  # type: ignore[attr-defined]
        (connection if warehouse.kind == "duckdb" else connection.cursor()).execute(
            "CREATE TEMPORARY TABLE mark_of_session (id int)"
        )


@pytest.mark.closes_warehouse
def test_sessions_share_a_connection_until_the_end(sharing: Warehouse) -> None:
    leave_mark(sharing)
    assert has_mark(sharing)
    sharing.close()
    assert not has_mark(sharing)


@pytest.mark.closes_warehouse
def test_a_failed_session_leaves_no_connection(sharing: Warehouse) -> None:
    leave_mark(sharing)
    with pytest.raises(WarehouseError), sharing.session() as session, session.transaction():
        session.query("SELECT * FROM no_such_table")
    assert not has_mark(sharing)


@pytest.mark.closes_warehouse
def test_settings_of_a_session_do_not_hold_for_the_next(duckdb_warehouse: DuckDBWarehouse) -> None:
    duckdb_warehouse.keep_connections()
    with duckdb_warehouse.session() as session:
        session._set("threads", "1")  # type: ignore[attr-defined]
    with duckdb_warehouse.session() as session:
        assert session.query("SELECT current_setting('threads')") == [(2,)]
    duckdb_warehouse.close()


@pytest.mark.closes_warehouse
def test_another_process_gets_the_file_from_one_that_uses_it_all_the_time(
    duckdb_warehouse: DuckDBWarehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duckdb_module, "KEPT_SECONDS", 0.5)
    busy = DuckDBWarehouse(duckdb_warehouse.path)
    busy.keep_connections()
    with busy.session() as session:
        session.query("SELECT 1")
    command = [sys.executable, "-c", OPEN, str(busy.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as another:
        assert another.stdout is not None
        assert another.stdout.readline() == "begun\n"

        def is_done() -> bool:
            with busy.session() as session:
                return "another" in session.tables("main", "another")

        until(is_done)
        assert another.wait() == 0
    busy.close()


@pytest.mark.closes_warehouse
def test_other_programs_get_the_file_when_it_is_idle(duckdb_warehouse: DuckDBWarehouse) -> None:
    duckdb_warehouse.keep_connections()
    with duckdb_warehouse.session() as session:
        session.query("SELECT 1")
    command = [sys.executable, "-c", "import duckdb, sys; duckdb.connect(sys.argv[1])", str(duckdb_warehouse.path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    until(lambda: subprocess.run(command, capture_output=True, check=False).returncode == 0)
    duckdb_warehouse.close()
