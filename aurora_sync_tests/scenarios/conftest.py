"""Fixtures of the scenarios besides the shared ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_sync.embedded.stack import Stack
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.scenarios.world import World


@pytest.fixture
def world(dsn: str, stage_url: str, warehouse_path: Path, store_environment: dict[str, str]) -> World:
    """Return an empty database, an empty stage, and a warehouse that does not exist yet."""
    return World(dsn, stage_url, warehouse_path)


@pytest.fixture
def other_dsn(stack: Stack) -> Iterator[str]:
    """Return a second database of the same server, for writers elsewhere."""
    with fresh_database(stack.superuser_dsn()) as url:
        yield url
