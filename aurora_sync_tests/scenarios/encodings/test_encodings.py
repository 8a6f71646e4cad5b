"""Databases, roles and environments whose encoding is not UTF-8."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import SourceError
from aurora_sync.source import connection
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.scenarios.world import World, config

STRATEGIES = ["xmin", "outbox", "full_snapshot"]
TABLE = """
CREATE TABLE "café" ("clé" text PRIMARY KEY, "prénom" text);
INSERT INTO "café" VALUES ('é1', 'Zoé'), ('a2', 'Ana');
"""


@pytest.fixture(params=["database", "environment", "role"])
def latin1(
    request: pytest.FixtureRequest,
    stack: Stack,
    stage_url: str,
    warehouse_path: Path,
    store_environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """Yield a source that sends LATIN1 unless a client requests another encoding."""
    encoding = "LATIN1" if request.param == "database" else "UTF8"
    with fresh_database(stack.superuser_dsn(), encoding=encoding) as dsn:
        if request.param == "environment":
            monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
        if request.param == "role":
            with psycopg2.connect(dsn) as session, session.cursor() as cursor:
                cursor.execute(f"ALTER DATABASE {dsn.rpartition('/')[2]} SET client_encoding = 'LATIN1'")
            session.close()
        yield World(dsn, stage_url, warehouse_path)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_names_keys_and_values_arrive_as_they_are(latin1: World, strategy: str) -> None:
    table = config("café", strategy)
    latin1.execute(TABLE)
    if strategy == "outbox":
        latin1.make(table)
    for change in (
        "SELECT 1",
        'UPDATE "café" SET "prénom" = \'Noël\' WHERE "clé" = \'é1\'',
        "ALTER TABLE \"café\" ADD COLUMN ville text DEFAULT 'où'",
        "INSERT INTO \"café\" VALUES ('ü3', 'Jörg', 'Köln')",
    ):
        latin1.execute(change)
        latin1.sync(table)
        latin1.assert_equal(table)
        latin1.assert_verified(table)


@pytest.mark.parametrize("latin1", ["database", "role"], indirect=True)
def test_default_of_an_added_column_is_misread_where_the_encoding_is_set_afterwards(
    latin1: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver decodes with the database's encoding, but the server sends UTF-8."""
    monkeypatch.setattr(connection, "ENCODING", "")
    table = config("plain")
    latin1.execute("CREATE TABLE plain (id int PRIMARY KEY)", "INSERT INTO plain VALUES (1)")
    latin1.sync(table)
    latin1.execute("ALTER TABLE plain ADD COLUMN ville text DEFAULT 'où'")
    latin1.sync(table)
    with pytest.raises(AssertionError, match="stale"):
        latin1.assert_equal(table)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "WIN1252"])
@pytest.mark.parametrize("kind", ["table", "partitioned", "view"])
def test_bytes_that_are_no_text_are_named_by_column_and_row(
    stack: Stack, stage_url: str, warehouse_path: Path, store_environment: dict[str, str], encoding: str, kind: str
) -> None:
    bad = "convert_from('\\xff', 'SQL_ASCII')" if encoding == "SQL_ASCII" else "convert_from('\\x81', 'WIN1252')"
    with fresh_database(stack.superuser_dsn(), encoding=encoding) as dsn:
        world = World(dsn, stage_url, warehouse_path)
        parts = " PARTITION BY RANGE (id)" if kind == "partitioned" else ""
        world.execute(f"CREATE TABLE t (id int PRIMARY KEY, a text, b text){parts}")
        if parts:
            world.execute(*(f"CREATE TABLE t{n} PARTITION OF t FOR VALUES FROM ({n}) TO ({n + 500})" for n in (0, 500)))
        world.execute(
            "INSERT INTO t SELECT n, repeat('x', 100), repeat('y', 100) FROM generate_series(0, 999) n",
            f"UPDATE t SET b = {bad} WHERE id = 777",
            "CREATE VIEW v AS TABLE t",
        )
        table = config("v", "full_snapshot") if kind == "view" else config("t")
        with pytest.raises(SourceError, match=r"a value of column b cannot be sent as UTF-8") as raised:
            world.sync(table)
        if kind == "view":
            assert raised.value.hint.startswith("correct the value, or exclude its column")
            return
        statement = re.match(r"the row: (SELECT .*?); ", raised.value.hint)
        assert statement
        assert (777,) in world.execute(statement[1])
        assert world.sync(config("t", columns={"exclude": ["b"]})).inserted == 1000
