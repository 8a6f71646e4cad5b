"""A database of legacy tables, and a role with only the privileges that an assessment and a sync need."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.advisor import rules
from aurora_sync.advisor.evidence import Evidence, collect_evidence
from aurora_sync.embedded.stack import Stack
from aurora_sync.source import table_names
from aurora_sync.source.connection import connect
from aurora_sync_tests.fixtures.server_build import FLUSH_STATISTICS
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.scenarios.assessed import legacy_tables
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the sizes in the rules to those of the sample."""
    for name in ("SMALL", "MODERATE", "LARGE"):
        monkeypatch.setattr(rules, name, getattr(legacy_tables, name))


@pytest.fixture
def legacy(world: World, scaled: None, warehouse_path: Path) -> Iterator[World]:
    """Yield the test's own database as the role sees it; ``world`` is its owner's."""
    with assessor(world.dsn) as dsn:
        yield World(dsn, world.stage_url, warehouse_path)


@pytest.fixture(scope="session")
def _shared_dsn(stack: Stack) -> Iterator[str]:
    with fresh_database(stack.superuser_dsn()) as url, assessor(url) as dsn:
        yield dsn


@pytest.fixture
def unchanged_legacy(
    _shared_dsn: str, scaled: None, stage_url: str, warehouse_path: Path, store_environment: dict[str, str]
) -> World:
    """Yield one database for all tests that change nothing. A template would not do, because a copy has no
    statistics."""
    return World(_shared_dsn, stage_url, warehouse_path)


@contextmanager
def assessor(owner_dsn: str) -> Iterator[str]:
    """Create the tables and the role; yield the role's DSN."""
    with closing(psycopg2.connect(owner_dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        role = f"assessor_{connection.info.dbname}"
        cursor.execute(f"CREATE ROLE {role} IN ROLE pg_read_all_stats")
        for table in legacy_tables.TABLES:
            for statement in table.create:
                cursor.execute(statement)
        cursor.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        cursor.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}")
        cursor.execute(f"REVOKE ALL ON secret FROM {role}")
        cursor.execute("ANALYZE")
        cursor.execute(FLUSH_STATISTICS)
    yield make_dsn(owner_dsn, options=f"-c role={role}")
    with closing(psycopg2.connect(owner_dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"DROP OWNED BY {role}")
        cursor.execute(f"DROP ROLE {role}")


def settle(world: World) -> None:
    """Wait until all earlier sessions have ended. A session reports its counts when it ends, which is after close()
    returns."""
    others = "datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    while world.execute(f"SELECT 1 FROM pg_stat_activity WHERE {others}"):
        time.sleep(0.01)


def evidence_of(world: World) -> Evidence:
    """Return the evidence of all tables, without rates: the statistics are as young as the server."""
    settle(world)
    with connect(world.dsn) as connection:
        found = collect_evidence(connection, table_names.existing(connection))
    return replace(found, since=None)
