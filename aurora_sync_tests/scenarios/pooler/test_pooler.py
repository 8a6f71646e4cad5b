"""Syncs through a transaction pooler: the state that other clients of the pool find, and commands that need the server
itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.cli.main import main
from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import Kind, SourceError
from aurora_sync.orchestration.change_sensor import read_marks
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync_tests.scenarios.pooler.conftest import left_in_the_session, through
from aurora_sync_tests.scenarios.pooler.proxy import transaction_pooler

Command = Callable[..., int]


@pytest.fixture
def command(
    dsn: str,
    pooled: str,
    store_environment: dict[str, str],
    warehouse_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[Command]:
    """Return a function that runs ``aurora-sync`` through the pooler on a table t with three rows; a stream gets its
    own slot. At the end, assert that another client finds the session as the server gave it."""
    tables, name = tmp_path / "tables.yaml", f"pooler_{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("AURORA_DSN", pooled)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamp); INSERT INTO t SELECT generate_series(1, 3), 'v'"
        )

    def run(*arguments: str, strategy: str = "xmin") -> int:
        stream = f", slot: {name}" if strategy == "logical" else ""
        tables.write_text(f"tables: [{{table_name: t, watermark_type: {strategy}{stream}}}]", encoding="utf-8")
        status = main([*arguments])
        with closing(psycopg2.connect(pooled)) as other, other.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM t")
        assert left_in_the_session(pooled) == {}
        return status

    yield run
    with connect(dsn) as connection:
        if slot.look(connection, name):
            slot.drop(connection, name)


def test_reading_leaves_nothing_in_the_pool(pooled: str, command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check") == 0
    assert command("plan") == 0
    assert command("sync") == 0
    assert command("verify") == 0
    for strategy in ("integer, watermark_col: id", "timestamp, watermark_col: at", "full_snapshot"):
        assert command("sync", strategy=strategy) == 0
        assert command("verify", strategy=strategy) == 0
    assert command("assess") == 0
    assert "public.t" in read_marks(pooled, [TableConfig(table_name="t", watermark_type="xmin")])
    assert left_in_the_session(pooled) == {}
    capsys.readouterr()


@pytest.mark.parametrize("kind", ["outbox", "audit_columns"])
def test_triggers_leave_nothing_in_the_pool(kind: str, command: Command) -> None:
    strategy = {"outbox": "outbox", "audit_columns": "xmin"}[kind]
    assert command("triggers", "plan", "t", "--kind", kind, strategy=strategy) == 1
    assert command("triggers", "apply", "t", "--kind", kind, strategy=strategy) == 0
    assert command("triggers", "verify", "t", strategy=strategy) == 0
    assert command("sync", strategy=strategy) == 0
    assert command("triggers", "remove", "t", strategy=strategy) == 0


def test_slot_is_made_and_dropped_and_nothing_is_left_in_the_pool(pooled: str) -> None:
    name = f"pooler_{uuid.uuid4().hex[:8]}"
    slot.create(pooled, name, timeout="10s")
    with connect(pooled) as connection:
        assert slot.mark(connection)[0] > 0
        slot.drop(connection, name)
    assert left_in_the_session(pooled) == {}


def test_statement_after_a_failed_one_leaves_nothing_in_the_pool(pooled: str) -> None:
    with connect(pooled) as connection, connection.cursor() as cursor:
        with pytest.raises(psycopg2.errors.DivisionByZero):
            cursor.execute("SELECT 1 / 0")
        cursor.execute("SELECT current_setting('search_path'), current_setting('transaction_read_only')")
        assert cursor.fetchall() == [('""', "on")]
    assert left_in_the_session(pooled) == {}


def test_change_stream_through_a_pooler_is_a_finding_before_anything_is_made(
    dsn: str, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("check", strategy="logical") == 1
    assert "set AURORA_DSN to the address of the server itself" in capsys.readouterr().err
    assert command("cdc", "setup", strategy="logical") == 1
    assert "unsupported startup parameter: replication" in capsys.readouterr().out
    assert command("cdc", "setup", "--apply", strategy="logical") == 1
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_publication")
        assert cursor.fetchall() == [(0,)]


def test_change_stream_through_a_pooler_is_refused_and_not_tried_again(pooled: str) -> None:
    with pytest.raises(SourceError, match="unsupported startup parameter: replication") as raised:
        slot.drain(pooled, "any", "any", 1, {})
    assert raised.value.kind is Kind.REFUSED
    assert raised.value.hint == "set AURORA_DSN to the address of the server itself, not of a connection pooler"


def test_pooler_that_ignores_the_wish_for_replication_is_found_before_a_setting_leaks(dsn: str) -> None:
    with transaction_pooler(dsn, ignored=["replication"]) as pooler:
        pooled = through(dsn, pooler.port)
        with pytest.raises(SourceError, match="set AURORA_DSN to the address of the server itself") as raised:
            slot.drain(pooled, "any", "any", 1, {})
        assert raised.value.kind is Kind.REFUSED
        assert left_in_the_session(pooled) == {}
