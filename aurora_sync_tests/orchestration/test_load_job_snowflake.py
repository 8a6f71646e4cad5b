"""Steps of the load job at the same time, in processes of their own, with the tests' Snowflake server as warehouse."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from aurora_sync.config.loader import load as load_config
from aurora_sync.config.settings import Settings
from aurora_sync.engine import one_chunk
from aurora_sync.engine.places import Places
from aurora_sync.orchestration import assets
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync.orchestration.project import Executors
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake
from aurora_sync_tests.orchestration.conftest import Execute

pytestmark = pytest.mark.long
# 2,000 rows of about 60 bytes have some 20 blocks, in five chunks.
TABLES = """\
defaults:
  load: {chunk_bytes: 32768}
tables:
  - table_name: orders
    watermark_type: xmin
"""
AT_ONCE = 3
# A fork server would keep the environment of the test that started it.
EXECUTOR = {"start_method": {"spawn": {}}, "max_concurrent": AT_ONCE}
_export_chunk, _apply_chunk, _connect = one_chunk.export_chunk, one_chunk.apply_chunk, SnowflakeWarehouse._connect


def job() -> dg.JobDefinition:
    """Return the job. Dagster builds it anew in each process, so this is the place to change what the process does."""
    assets.RETRIES = dg.RetryPolicy(max_retries=assets.RETRIES.max_retries)
    one_chunk.export_chunk, one_chunk.apply_chunk = _exporting, _applying  # type: ignore[assignment]
    SnowflakeWarehouse._connect = _in_landing  # type: ignore[method-assign]
    executors = Executors(load=dg.multiprocess_executor.configured(EXECUTOR))
    return build_definitions(load_config(Path("tables.yaml")), executor=executors).resolve_job_def(
        "aurora_sync_load_large_table"
    )


def _in_landing(self: SnowflakeWarehouse, given: dict[str, Any]) -> Any:
    """The server makes tables of its own for a MERGE, in the schema of the session."""
    return _connect(self, {**given, "schema": "LANDING"})


def _exporting(*arguments: Any) -> StagedIncrement:
    chunk = _export_chunk(*arguments)
    _wait_for_others("exported", chunk)
    return chunk


def _applying(places: Places, chunk: StagedIncrement, on_progress: Any = None) -> bool:
    _wait_for_others("applying", chunk)
    return _apply_chunk(places, chunk, on_progress)


def _wait_for_others(what: str, chunk: StagedIncrement) -> None:
    """Return when the first chunks have all come to this point, each in a process of its own."""
    assert chunk.manifest.chunk
    if chunk.manifest.chunk.number >= AT_ONCE:
        return
    folder = Path(what)
    folder.mkdir(exist_ok=True)
    (folder / str(chunk.manifest.chunk.number)).write_text(str(os.getpid()))
    given_up = time.monotonic() + 300
    while len(list(folder.iterdir())) < AT_ONCE:
        assert time.monotonic() < given_up, f"no other chunk was {what} at the same time"
        time.sleep(0.05)


@pytest.fixture
def places(
    settings: None,
    execute: Execute,
    stage_url: str,
    fakesnow_server: FakeSnowflake,
    snowflake_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Places:
    execute("""
        CREATE TABLE orders (id int PRIMARY KEY, v text);
        INSERT INTO orders SELECT i, repeat('x', 30) || i FROM generate_series(1, 2000) i
    """)
    Path("tables.yaml").write_text(TABLES, encoding="utf-8")
    stage = f"{snowflake_database}.landing.files"
    for variable, value in {
        "AURORA_SYNC_WAREHOUSE": "snowflake",
        "SNOWFLAKE_ACCOUNT": "fakesnow",
        "SNOWFLAKE_TOKEN": "pat",
        "SNOWFLAKE_WAREHOUSE": "any",
        "SNOWFLAKE_DATABASE": snowflake_database,
        "SNOWFLAKE_STAGE": stage,
        "SNOWFLAKE_HOST": fakesnow_server.host,
        "SNOWFLAKE_PORT": str(fakesnow_server.port),
        "SNOWFLAKE_PROTOCOL": "http",
    }.items():
        monkeypatch.setenv(variable, value)
    with SnowflakeWarehouse(fakesnow_server.settings(snowflake_database, stage)).session() as session:
        session.query("CREATE SCHEMA LANDING")
        session.query(f"CREATE STAGE LANDING.FILES URL = '{stage_url}/'")
    for owner, name in ((one_chunk, "export_chunk"), (one_chunk, "apply_chunk"), (SnowflakeWarehouse, "_connect")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # job() sets them in this process as well
    return Places.from_settings(Settings.from_environment(os.environ))


def test_chunks_are_read_and_loaded_at_the_same_time(places: Places, tmp_path: Path, execute: Execute) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    with dg.DagsterInstance.local_temp(str(home)) as instance:
        run = {"ops": {"begin": {"config": {"table": "public.orders"}}}}
        result = dg.execute_job(dg.reconstructable(job), instance, run_config=run)
        (reported,) = result.asset_materializations_for_node("finish")
    assert result.success
    for what in ("exported", "applying"):
        processes = {file.read_text() for file in Path(what).iterdir()}
        assert len(processes) == AT_ONCE
    assert reported.metadata["certificate"].value == "certified"
    with places.warehouse.session() as session:
        rows = Counter((int(id_), v) for id_, v in session.query('SELECT "ID", "V" FROM "PUBLIC"."ORDERS"'))
    assert rows == Counter((i, "x" * 30 + str(i)) for i in range(1, 2001))
