"""A database of legacy tables, and a role that may do what an assessment and a sync need, and no more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.advisor import rules
from aurora_sync.advisor.evidence import Evidence, collect
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.assessed import legacy_tables
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sizes of the rules are those of the sample."""
    for name in ("SMALL", "MODERATE", "LARGE"):
        monkeypatch.setattr(rules, name, getattr(legacy_tables, name))


@pytest.fixture
def legacy(world: World, scaled: None, warehouse_path: Path) -> Iterator[World]:
    """The database as the role sees it."""
    role = f"assessor_{world.places.source.database}"
    world.execute(f"CREATE ROLE {role} IN ROLE pg_read_all_stats")
    for table in legacy_tables.TABLES:
        world.execute(*table.create)
    world.execute(
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}",
        f"REVOKE ALL ON secret FROM {role}",
        "ANALYZE",
    )
    settle(world)
    yield World(make_dsn(world.dsn, options=f"-c role={role}"), world.stage_url, warehouse_path)
    world.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def settle(world: World) -> None:
    """Wait until all sessions of before have ended: a session brings what it did to the counters at its end, which
    nobody who closes it waits for."""
    others = "datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    while world.execute(f"SELECT 1 FROM pg_stat_activity WHERE {others}"):
        time.sleep(0.01)


def evidence_of(world: World) -> Evidence:
    """Of all tables, without rates: the statistics are as young as the server."""
    settle(world)
    with connect(world.dsn) as connection:
        found = collect(connection, catalogue.existing(connection))
    return replace(found, since=None)
