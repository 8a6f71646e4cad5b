"""Fixtures of the commands: their environment, and entries of tables.yaml."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot


@pytest.fixture
def tables_file(
    dsn: str, store_environment: dict[str, str], warehouse_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Path:
    """Set the environment to the database, stage and warehouse of this test. Return the path of tables.yaml, which does
    not exist yet."""
    path = tmp_path / "tables.yaml"
    monkeypatch.setenv("AURORA_DSN", dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(path))
    return path


@pytest.fixture
def write(request: pytest.FixtureRequest, dsn: str, tables_file: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that writes entries to tables.yaml. The slot NAME of the module is dropped at the end."""

    def entries(text: str) -> None:
        tables_file.write_text(f"tables:\n{text}", encoding="utf-8")

    yield entries
    name = request.module.NAME
    with connect(dsn) as connection:
        if slot.look(connection, name):
            slot.drop(connection, name)
