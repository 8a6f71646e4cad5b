"""A warehouse that refuses the login, is full, or may not be written to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from aurora_sync.errors import Kind, WarehouseError
from aurora_sync.warehouse import duckdb
from aurora_sync_tests.scenarios.faults.ordeal import Ordeal, environment
from aurora_sync_tests.scenarios.world import World, config

pytestmark = pytest.mark.closes_warehouse


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no/such/folder/w.duckdb", ["cannot be opened", "AURORA_SYNC_WAREHOUSE"]),
        ("text", ["not a valid DuckDB", "AURORA_SYNC_WAREHOUSE"]),
        (".", ["cannot be opened", "AURORA_SYNC_WAREHOUSE"]),
    ],
    ids=["folder", "text", "directory"],
)
def test_file_that_is_none_is_named(ordeal: Ordeal, tmp_path: Path, path: str, words: list[str]) -> None:
    ordeal.begin()
    (tmp_path / "text").write_text("no database " * 100, encoding="utf-8")
    fault = partial(environment, AURORA_SYNC_WAREHOUSE=f"duckdb:{tmp_path / path}")
    ordeal.meet(fault, WarehouseError, Kind.REFUSED, *words)


def test_file_that_another_program_keeps_is_worth_another_try(ordeal: Ordeal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(duckdb.DuckDBWarehouse.__init__.__kwdefaults__ or {}, "lock_wait_seconds", 0.1)
    ordeal.begin()
    ordeal.empty_stage = False
    program = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"

    @contextmanager
    def fault() -> Iterator[None]:
        command = [sys.executable, "-c", program, str(ordeal.world.warehouse_path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
            assert other.stdout
            other.stdout.readline()
            yield
            other.kill()

    ordeal.meet(fault, WarehouseError, Kind.TRANSIENT, "in use", "close the program")


def test_disk_without_room_for_the_target_is_named(
    ordeal: Ordeal, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ordeal.world = World(ordeal.world.dsn, ordeal.world.stage_url, small_disk / "w.duckdb")
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    ordeal.begin()
    ordeal.empty_stage = ordeal.drops_staging = False  # the COMMIT fails, and closes the connection
    filler = small_disk / "filler"

    @contextmanager
    def fault() -> Iterator[None]:
        noise = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60) WHERE n > 0"
        world.execute(f"INSERT INTO t SELECT n, ({noise}) FROM generate_series(1000, 4000) n")
        with filler.open("wb") as file:
            file.write(bytes(4 * 2**20))
        yield
        filler.unlink()
        world.execute("DELETE FROM t WHERE id > 1500")

    ordeal.meet(fault, WarehouseError, Kind.TRANSIENT, "free space")


def test_target_that_is_somebody_elses_is_not_touched(ordeal: Ordeal) -> None:
    ordeal.begin()
    with ordeal.world.places.warehouse.session() as session:
        session.query("CREATE SCHEMA THEIRS")
        session.query("CREATE TABLE THEIRS.T (ID INT, V VARCHAR)")
        session.query("INSERT INTO THEIRS.T VALUES (1, 'theirs')")

    with pytest.raises(WarehouseError, match="not created by aurora_sync") as raised:
        ordeal.world.sync(config(target_schema="theirs"))
    assert "target_schema" in raised.value.hint
    assert ordeal.world.query("SELECT ID, V FROM THEIRS.T") == [(1, "theirs")]
    ordeal.recover()
