"""Every strategy that reads by a query, with ``export: aurora``; and what a stream says."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aurora_sync.cli.preview_text import preview_lines
from aurora_sync.engine import gc
from aurora_sync.engine.preview import preview
from aurora_sync.engine.reload import reload
from aurora_sync.model.reload import Reload
from aurora_sync_tests.fixtures.server_build import need_version
from aurora_sync_tests.scenarios.aurora_export.conftest import with_files_of
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.world import World, config

TABLE = (
    "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, updated_at timestamptz NOT NULL)",
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$",
    "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()",
    "INSERT INTO t (v) SELECT E'a\\n\"b\",' || n FROM generate_series(1, 2000) n",
)
KINDS: dict[str, dict[str, Any]] = {
    "full_snapshot": {},
    "xmin": {},
    "outbox": {},
    "timestamp": {"watermark_col": "updated_at"},
    "integer": {"watermark_col": "id"},
    "composite": {"watermark_cols": ["updated_at", "id"]},
}


def parts(world: World) -> list[str]:
    return [key for key in world.objects() if "/part-" in key]


def by_ranges(world: World) -> bool:
    return int(world.execute("SHOW server_version_num")[0][0]) >= 140000


@pytest.mark.parametrize("kind", KINDS)
def test_first_load_increments_and_repairs_are_exported_by_the_server(world: World, kind: str) -> None:
    table = config("t", kind, export="aurora", **KINDS[kind])
    world.execute(*TABLE, "ANALYZE t")
    with_files_of(world, 60_000)
    if kind == "outbox":
        world.make(table)
    assert world.sync(table).inserted == 2000
    if by_ranges(world):
        assert len(parts(world)) >= 2
    world.execute("INSERT INTO t (v) VALUES ('new'), ('')")
    if kind != "integer":
        world.execute("UPDATE t SET v = NULL WHERE id < 4")
    world.sync(table)
    world.assert_equal(table)
    world.execute("DELETE FROM t WHERE id = 5")
    world.sync(table, reconcile=True)
    world.assert_equal(table)
    assert not [key for key in world.objects() if key.endswith(".zst")]


def test_chunk_of_a_large_table_is_exported_in_files_of_its_own_blocks(world: World) -> None:
    """Six files for each of three chunks, and no call outside of the chunk."""
    need_version(world.dsn, 14, "TID range scans")
    world.execute(*TABLE, "ANALYZE t")
    ((size,),) = world.execute("SELECT pg_table_size('t')")
    with_files_of(world, size // 18)
    calls: list[int] = []
    table = config(export="aurora", load={"chunk_bytes": size // 3})
    receipt = world.sync(table, on_progress=lambda each: calls.append(each.rows))
    assert receipt.load
    loaded = Counter(key.split("/")[2] for key in parts(world))
    assert all(3 <= files <= 9 for files in loaded.values()), loaded
    assert len(calls) < 4 * len(parts(world))
    world.sync(table)
    world.assert_equal(table)


@pytest.mark.parametrize("kind", ["xmin", "outbox"])
def test_rows_that_are_read_again_are_exported_by_the_server(world: World, kind: str) -> None:
    table = config("t", kind, export="aurora")
    world.execute(*TABLE)
    if kind == "outbox":
        world.make(table)
    world.sync(table)
    world.query('UPDATE "PUBLIC"."T" SET "V" = \'edited\' WHERE "ID" BETWEEN 10 AND 19')
    world.execute("DELETE FROM t WHERE id = 15")
    receipt = reload(table, world.places, Reload(lower="10", upper="20"))
    assert (receipt.updated, receipt.deleted) == (9, 1)
    world.assert_equal(table)


def test_rows_that_a_reconcile_finds_are_written_beside_the_increment(world: World) -> None:
    """Both belong to one attempt, and the second export must not overwrite the first."""
    table = config("t", "integer", watermark_col="id", export="aurora")
    world.execute(*TABLE)
    world.sync(table)
    world.execute("INSERT INTO t (v) VALUES ('new')", "UPDATE t SET v = 'changed' WHERE id IN (7, 8)")
    receipt = world.sync(table, reconcile=True)
    assert receipt.repair
    assert (receipt.inserted, receipt.repair.stale) == (1, 2)
    world.assert_equal(table)
    (attempt,) = {key.rpartition("/")[0] for key in parts(world) if key.endswith("/part-00001.csv")}
    assert f"{attempt}/part-00000.csv" in parts(world)


def test_run_without_changes_leaves_no_object(world: World) -> None:
    table = config(export="aurora")
    world.execute(*TABLE)
    world.sync(table)
    before = parts(world)
    assert not world.sync(table).changed
    assert parts(world) == before


def test_canaries_are_those_of_the_client(world: World) -> None:
    world.execute(*TABLE)
    of_aurora = world.sync(config(export="aurora")).watermark_after.canaries
    of_client = world.sync(config(target_table="other")).watermark_after.canaries
    assert of_aurora
    assert {each.key for each in of_aurora} <= {(str(number),) for number in range(1, 2001)}
    assert len(of_aurora) == len(of_client)
    assert not world.sync(config(export="aurora")).warnings


def test_names_with_quotes_and_percent_signs_are_exported(world: World) -> None:
    name, column = 'it\'s 100 %s "t"', "a'b\\%c"
    world.execute(
        """CREATE TABLE "it's 100 %s ""t""\" (id int PRIMARY KEY, "a'b\\%c" text)""",
        """INSERT INTO "it's 100 %s ""t""\" SELECT n, E'\\\\%s' FROM generate_series(1, 9) n""",
    )
    table = config(name, export="aurora", target_table="t", columns={"include": ["id", column]})
    assert world.sync(table).inserted == 9
    world.assert_equal(table)


def test_progress_is_reported_after_each_file(world: World) -> None:
    need_version(world.dsn, 14, "TID range scans")
    world.execute(*TABLE, "ANALYZE t")
    with_files_of(world, 50_000)
    seen: list[tuple[int, int]] = []
    world.sync(config(export="aurora"), on_progress=lambda each: seen.append((each.rows, each.bytes)))
    rows = [rows for rows, _ in seen]
    assert len(set(rows)) > 2
    assert max(rows) == 2000


def test_plan_says_who_exports_and_estimates_files_without_compression(world: World) -> None:
    world.execute(*TABLE)
    lines = "\n".join(map(str, preview_lines(preview(config(export="aurora"), world.places))))
    assert "  export       aurora\n" in lines
    assert "1 file (not compressed; estimated in the first 2,000 rows)" in lines
    assert world.objects() == []


def test_scan_of_a_stream_is_exported_by_the_server_and_plan_says_why_its_changes_are_not(
    world: World, streamed: Streamed
) -> None:
    table = streamed.table(export="aurora")
    world.execute(*TABLE)
    streamed.setup(table)
    assert preview(table, world.places).export == "aurora"
    assert streamed.one(table).inserted == 2000
    assert [key.rpartition("/")[2] for key in world.objects() if "part" in key] == ["part-00000.csv"]
    world.execute("UPDATE t SET v = 'changed' WHERE id = 1")
    assert "watermark_type logical do not come from a query" in preview(table, world.places).export
    assert streamed.one(table).updated == 1
    world.assert_equal(table)


def test_abandoned_parts_are_collected(world: World, aurora_functions: Any) -> None:
    aurora_functions.set(split_bytes="10000")
    world.execute(*TABLE)
    world.sync(config(export="aurora"))
    for key in world.objects():
        if key.endswith("manifest.json"):
            world.places.stage.store.delete([key])
    left = parts(world)
    assert len(left) > 2
    assert any(key.endswith("_part3") for key in left)
    gc.collect(world.places, now=datetime.now(UTC) + gc.OLDER_THAN + timedelta(days=1))
    assert not parts(world)
