from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import dagster as dg
import psycopg2
import pytest
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext

from aurora_sync.config.loader import load
from aurora_sync.engine import sync
from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration import assets
from aurora_sync.orchestration.ahead import Ahead
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync.orchestration.resources import Connections
from aurora_sync_tests.fixtures.server_build import FLUSH_STATISTICS

Build = Callable[[str], dg.Definitions]
Execute = Callable[[str], None]

TABLES = """\
tables:
  - table_name: customers
    watermark_type: xmin
"""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def run(definitions: dg.Definitions, instance: dg.DagsterInstance, **options: Any) -> dg.ExecuteInProcessResult:
    """Materialize the assets of all tables, or ``asset_selection``, in this process."""
    job = definitions.resolve_implicit_global_asset_job_def()
    tables = [*definitions.resolve_asset_graph().materializable_asset_keys]
    return job.execute_in_process(instance=instance, **{"asset_selection": tables} | options)


@pytest.fixture
def receipts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Receipt | Exception]]:
    """Queue of receipts and errors for the next calls of sync.run. The test must use all of them."""
    queue: list[Receipt | Exception] = []

    def next_one(*_: Any, **__: Any) -> Receipt:
        following = queue.pop(0)
        if isinstance(following, Exception):
            raise following
        return following

    monkeypatch.setattr(sync, "run", next_one)
    monkeypatch.setattr(Connections, "places", lambda _: Mock())
    monkeypatch.setattr(Ahead, "receipt", lambda *_: None)
    yield queue
    assert not queue


@pytest.fixture(autouse=True)
def _no_waiting_between_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "RETRIES", dg.RetryPolicy(max_retries=assets.RETRIES.max_retries))


@pytest.fixture(autouse=True)
def _definitions_are_loaded_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DefinitionsLoadContext, "_instance", None)


@pytest.fixture
def no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to an empty folder, and remove all places from the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("AURORA_DSN", "AURORA_SYNC_STAGE", "AURORA_SYNC_WAREHOUSE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Return a function that builds definitions from the text of a tables.yaml."""

    def definitions(text: str) -> dg.Definitions:
        path = tmp_path / "tables.yaml"
        path.write_text(text, encoding="utf-8")
        return build_definitions(load(path))

    return definitions


@pytest.fixture
def settings(
    dsn: str,
    store_environment: dict[str, str],
    warehouse_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Put the test's source, stage and warehouse into the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AURORA_DSN", dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")


@pytest.fixture
def execute(dsn: str) -> Execute:
    """Return a function that runs statements on the source and commits them.

    The function flushes the statistics. Without that, PostgreSQL counts the rows some time after the session's end.
    """

    def run(statements: str) -> None:
        with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statements)
            cursor.execute(FLUSH_STATISTICS)

    return run


@pytest.fixture
def customers(settings: None, execute: Execute) -> None:
    execute("""
        CREATE TABLE customers (id int PRIMARY KEY, name text, note varchar(20));
        COMMENT ON TABLE customers IS 'Whom we sell to.';
        COMMENT ON COLUMN customers.name IS 'As on the invoice.';
        INSERT INTO customers SELECT i, 'name ' || i, NULL FROM generate_series(1, 10) i;
    """)
