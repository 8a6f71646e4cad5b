"""`aurora-sync load`: the load of a large table is ended, or begun anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aurora_sync.cli.main import main
from aurora_sync.engine.lease import Lease
from aurora_sync_tests.scenarios.chunked_load.loads import CHUNK, Killed, chunked, killed, wide
from aurora_sync_tests.scenarios.world import World

CHUNKS = 8


@pytest.fixture
def loading(
    dsn: str,
    stage_url: str,
    store_environment: dict[str, str],
    warehouse_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> World:
    """Return a world with the environment of the command line, two of whose eight chunks are loaded."""
    world = World(dsn, stage_url, warehouse_path)
    wide(world)
    tables = tmp_path / "tables.yaml"
    entries = [{"table_name": name, "watermark_type": "xmin", "load": CHUNK} for name in ("t", "other")]
    tables.write_text(json.dumps({"tables": entries}))
    monkeypatch.setenv("AURORA_DSN", dsn)
    monkeypatch.setenv("AURORA_SYNC_STAGE", stage_url)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    with killed(), pytest.raises(Killed):
        main(["sync", "t"])
    capsys.readouterr()
    return world


def said(capsys: pytest.CaptureFixture[str], status: int, *arguments: str) -> str:
    """Run the command, check its exit status, and return what it printed."""
    assert main(["load", *arguments]) == status
    printed = capsys.readouterr()
    return printed.err if status else printed.out


def test_load_is_ended(loading: World, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, 0, "--abort", "t")
    assert out.startswith(f"public.t: ended: 2 of {CHUNKS} chunks loaded: 10 rows, ")
    assert not loading.target_rows(chunked())
    assert said(capsys, 0, "--abort", "t") == "public.t: no load is open\n"
    assert main(["sync", "t", "--json"]) == 0
    (receipt,) = json.loads(capsys.readouterr().out)["receipts"]
    assert receipt["load"]["done"] == [[0, CHUNKS - 1]]
    loading.assert_equal(chunked())


def test_load_is_begun_anew(loading: World, capsys: pytest.CaptureFixture[str]) -> None:
    loading.execute("UPDATE t SET v = 'new' WHERE id < 4")
    out = said(capsys, 0, "--restart", "t")
    assert out.startswith(f"public.t: ended: 2 of {CHUNKS} chunks loaded")
    assert f"{CHUNKS} of {CHUNKS} chunks loaded: 40 rows" in out
    assert main(["verify", "t"]) == 0


def test_table_that_is_not_loading(loading: World, capsys: pytest.CaptureFixture[str]) -> None:
    loading.execute("CREATE TABLE other (id int PRIMARY KEY)", "INSERT INTO other VALUES (1)")
    assert said(capsys, 0, "--abort", "other") == "public.other: no load is open\n"
    out = said(capsys, 0, "--restart", "other")
    assert out.startswith("public.other: no load is open\n")
    assert loading.query('SELECT "ID" FROM "PUBLIC"."OTHER"') == [(1,)]
    assert said(capsys, 0, "--abort", "t") != "public.t: no load is open\n"  # untouched until now


def test_unknown_table_ends_nothing(loading: World, capsys: pytest.CaptureFixture[str]) -> None:
    err = said(capsys, 2, "--abort", "t", "orders")
    assert "no table is named 'orders'" in err
    assert json.loads(said(capsys, 0, "--abort", "t", "--json")) == [{"table": "public.t", "chunks": 2}]


def test_load_that_another_process_continues_is_not_ended(loading: World, capsys: pytest.CaptureFixture[str]) -> None:
    loading.execute("CREATE TABLE other (id int PRIMARY KEY)")
    with Lease(loading.places.stage.store, chunked(), "Dagster run 7"):
        for how in ("--abort", "--restart"):
            assert main(["load", how, "t", "other"]) == 1
            printed = capsys.readouterr()
            assert "public.t: Dagster run 7 loads the table in chunks, and holds the lease until" in printed.err
            assert "wait until it has finished, or end it; run again" in printed.err
            assert printed.out.startswith("public.other: no load is open\n")
    Lease(loading.places.stage.store, chunked(), "Dagster run 7").release()
    assert json.loads(said(capsys, 0, "--abort", "t", "--json")) == [{"table": "public.t", "chunks": 2}]


@pytest.mark.parametrize("arguments", [["--abort"], ["t"], ["--abort", "--restart", "t"]])
def test_tables_and_one_action_must_be_named(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["load", *arguments])
    assert ended.value.code == 2
    assert "usage: aurora-sync load" in capsys.readouterr().err
