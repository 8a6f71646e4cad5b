"""What the scenarios need besides the shared fixtures."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.embedded.stack import Stack
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def world(dsn: str, stage_url: str, warehouse_path: Path, store_environment: dict[str, str]) -> World:
    """An empty database, an empty stage, a warehouse that is not there yet."""
    return World(dsn, stage_url, warehouse_path)


@pytest.fixture
def other_dsn(stack: Stack) -> Iterator[str]:
    """A second database of the same server, for writers elsewhere."""
    name = f"test_other_{secrets.token_hex(4)}"
    with closing(psycopg2.connect(stack.superuser_dsn())) as server:
        server.autocommit = True
        with server.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {name} TEMPLATE template0 STRATEGY wal_log")
            yield stack.superuser_dsn(name)
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
