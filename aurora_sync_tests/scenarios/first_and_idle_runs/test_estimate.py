"""`aurora-sync plan` estimates the first load of a table from its first rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_sync.cli.preview_text import preview_lines
from aurora_sync.engine import estimate
from aurora_sync.engine.places import Places
from aurora_sync.engine.preview import preview
from aurora_sync.source.database import Source
from aurora_sync.stage import writer
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.snowflake_semantics import Server, SnowflakeLike

COLUMNS = "id int PRIMARY KEY, v text"


def test_estimate_of_a_small_table_is_what_the_load_has(world: World) -> None:
    world.execute(f"CREATE TABLE t ({COLUMNS})", "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 700) i")
    found = preview(config(), world.places).first_load
    receipt = world.sync(config())
    assert found
    assert (found.rows, found.sampled_rows, found.files) == (700, 700, 1)
    assert found.staged_bytes == pytest.approx(receipt.bytes_staged, abs=16)  # the stage adds a checksum
    assert found.csv_bytes > found.staged_bytes
    assert preview(config(), world.places).first_load is None


def test_larger_table_is_extrapolated_from_its_first_rows(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "SAMPLED_ROWS", 500)
    world.execute(
        f"CREATE TABLE t ({COLUMNS})",
        "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 4000) i",
        "ANALYZE t",
    )
    found = preview(config(), world.places).first_load
    assert found
    assert (found.rows, found.sampled_rows) == (4000, 500)
    assert found.staged_bytes == pytest.approx(world.sync(config()).bytes_staged, rel=0.1)


def test_sample_of_long_rows_is_short(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "SAMPLED_BYTES", 3500)
    world.execute(
        f"CREATE TABLE t ({COLUMNS})",
        "INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(1, 500) i",
        "ANALYZE t",
    )
    found = preview(config(), world.places).first_load
    assert found
    assert (found.rows, found.sampled_rows) == (500, 4)
    assert found.csv_bytes == pytest.approx(503_000, rel=0.05)


def test_number_of_files_follows_the_size_of_staged_objects(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "OBJECT_BYTES", 1000)
    world.execute(f"CREATE TABLE t ({COLUMNS})", "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 700) i")
    found = preview(config(), world.places).first_load
    assert found
    assert found.files == -(-found.staged_bytes // 1000)


def test_empty_table_needs_no_file(world: World) -> None:
    world.execute(f"CREATE TABLE t ({COLUMNS})")
    found = preview(config(), world.places).first_load
    assert found
    assert (found.rows, found.staged_bytes, found.files) == (0, 0, 0)


def test_view_is_not_sampled(world: World) -> None:
    world.execute("CREATE VIEW t AS SELECT 1 AS id, pg_sleep(3600)::text AS v")
    assert preview(config("t", "full_snapshot"), world.places).first_load is None


def test_plan_prints_the_statements_of_snowflake(world: World, tmp_path: Path) -> None:
    world.execute(f"CREATE TABLE t ({COLUMNS})", "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 700) i")
    assert "COPY" not in "\n".join(preview_lines(preview(config(), world.places)))
    warehouse = SnowflakeLike.on(Server(tmp_path / "like.duckdb", world.places.stage.store))
    found = preview(config(), Places(Source(world.dsn), world.places.stage, warehouse))
    text = "\n".join(preview_lines(found))
    assert "  first load   about 700 rows, 0.0 MB of CSV; 0.0 MB in S3, in 1 file (zstd, " in text
    sent = warehouse.statements_of_first_load(1)
    (least, most), on_warehouse = sent.statements, sent.on_warehouse
    assert f" {least} to {most} statements, of which {on_warehouse[0]} to {on_warehouse[1]} need a" in text
    assert " virtual warehouse, among them 1 COPY" in text


def test_copy_statements_take_a_thousand_files_each(tmp_path: Path, world: World) -> None:
    warehouse = SnowflakeLike.on(Server(tmp_path / "like.duckdb", world.places.stage.store))
    one = warehouse.statements_of_first_load(1)
    many = warehouse.statements_of_first_load(2001)
    assert (one.copies, many.copies) == (1, 3)
    assert many.on_warehouse == tuple(number + 2 for number in one.on_warehouse)
