"""Databases, roles and environments whose encoding is not UTF-8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.embedded.stack import Stack
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
    """A source that talks LATIN1 to whoever does not ask for something else."""
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
    """The driver's codec is that of the database, and the server sends UTF-8."""
    monkeypatch.setattr(connection, "ENCODING", "")
    table = config("plain")
    latin1.execute("CREATE TABLE plain (id int PRIMARY KEY)", "INSERT INTO plain VALUES (1)")
    latin1.sync(table)
    latin1.execute("ALTER TABLE plain ADD COLUMN ville text DEFAULT 'où'")
    latin1.sync(table)
    with pytest.raises(AssertionError, match="stale"):
        latin1.assert_equal(table)
