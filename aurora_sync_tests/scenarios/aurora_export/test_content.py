"""The files that Aurora writes have the bytes of those that the client writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pytest
import zstandard
from psycopg2 import sql

from aurora_sync.model.manifest import StagedFile
from aurora_sync.source.aurora_export import AuroraExport
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.exporter import ClientCopy, Exporter
from aurora_sync.source.reading import Reading
from aurora_sync.stage.layout import new_load_id
from aurora_sync_tests.fixtures.aurora_functions import AuroraFunctions
from aurora_sync_tests.fixtures.server_build import need_version
from aurora_sync_tests.scenarios.type_matrix.cases import CASES
from aurora_sync_tests.scenarios.type_matrix.of_server import of_server
from aurora_sync_tests.scenarios.type_matrix.test_type_matrix import insert, make
from aurora_sync_tests.scenarios.world import World, config

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
ROWS = "INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 3000) i"  # 1.1 MB


class Content(NamedTuple):
    rows: int
    files: tuple[StagedFile, ...]
    longest: int


def exported(
    world: World,
    reading: Reading,
    exporter: Exporter,
    where: sql.Composable | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Content, bytes]:
    """Export the open snapshot, and return the files' content as well."""
    reading._exporter = exporter
    with world.places.stage.attempt("public.t", new_load_id()) as attempt:
        result = reading.export(reading.statement(reading.table.columns, where), attempt, progress)
    content = b""
    for file in attempt.files:
        body = world.places.stage.store.get(attempt.prefix + file.name)
        assert body is not None
        assert len(body) == file.bytes
        content += zstandard.decompress(body, max_output_size=2**28) if file.compression else body
    return Content(result.rows, attempt.files, result.longest), content


def both(world: World, exporter: AuroraExport | None = None) -> tuple[Content, bytes]:
    """Assert that both exporters write the same rows, and return what Aurora's left."""
    with world.places.source.reading("public", "t") as reading:
        reading.observe(None, max_minutes=5)
        by_client, expected = exported(world, reading, ClientCopy())
        by_aurora, found = exported(world, reading, exporter or AuroraExport())
    assert found == expected
    assert by_aurora.rows == by_client.rows == sum(file.rows for file in by_aurora.files)
    assert not any(file.compression for file in by_aurora.files)
    assert by_aurora.longest >= max(map(len, expected.split(b"\n")))
    return by_aurora, found


def test_every_value_has_the_bytes_that_the_client_exports(world: World, subtests: pytest.Subtests) -> None:
    cases = of_server(world, CASES, subtests)
    make(world, cases, [case.exact for case in cases])
    insert(world, 1000, [tuple(case.unfit) for case in cases])
    assert both(world)[0].rows > 20


def test_texts_with_separators_and_the_empty_text_are_quoted_and_null_is_not(world: World) -> None:
    world.execute(TABLE, "INSERT INTO t VALUES (1, NULL), (2, ''), (3, E'a\\nb,\"c\"\\\\N'), (4, 'ü 名')")
    _, found = both(world)
    lines = (b"1,,", b'2,"",', b'3,"a\nb,""c""\\N",', "4,ü 名,".encode())
    assert [line in found for line in lines] == [True] * 4


@pytest.mark.parametrize("empty_file", ["on", "off"])
def test_table_without_rows_leaves_no_file(world: World, aurora_functions: AuroraFunctions, empty_file: str) -> None:
    aurora_functions.set(empty_file=empty_file)
    world.execute(TABLE)
    found, content = both(world)
    assert (found.files, content, found.rows) == ((), b"", 0)
    assert world.objects() == []


def test_large_read_is_divided_into_files_of_about_the_same_size(world: World) -> None:
    need_version(world.dsn, 14, "TID range scans")
    world.execute(TABLE, ROWS, "ANALYZE t")
    found, _ = both(world, AuroraExport(call_bytes=200_000))
    sizes = [file.bytes for file in found.files]
    assert len(sizes) >= 5
    assert all(100_000 < size < 300_000 for size in sizes[:-1]), sizes
    assert [file.name for file in found.files] == [f"part-{number:05d}.csv" for number in range(len(sizes))]


def test_rows_of_all_partitions_and_of_children_are_read_once(world: World) -> None:
    need_version(world.dsn, 14, "TID range scans")
    world.execute(
        "CREATE TABLE t (id int, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (200)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (200) TO (5000) PARTITION BY HASH (id)",
        "CREATE TABLE t3 PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE t4 PARTITION OF t2 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        ROWS,
    )
    with world.places.source.reading("public", "t") as reading:
        reading.observe(None, max_minutes=5)
        _, expected = exported(world, reading, ClientCopy())
        found, content = exported(world, reading, AuroraExport(call_bytes=200_000))
    assert len(found.files) >= 5
    assert sorted(content.split(b"\n")) == sorted(expected.split(b"\n"))


@pytest.mark.parametrize("condition", ["id + 0 IN (1, 3000)", "id % 2999 = 1 AND v > '' OR false"])
def test_ranges_grow_where_a_condition_leaves_out_most_rows(world: World, condition: str) -> None:
    """The two rows are at both ends of 150 blocks, and each range may have one block more than those before it."""
    need_version(world.dsn, 14, "TID range scans")
    world.execute(TABLE, ROWS, "ANALYZE t")
    calls: list[Progress] = []
    with world.places.source.reading("public", "t") as reading:
        reading.observe(None, max_minutes=5)
        _, expected = exported(world, reading, ClientCopy(), sql.SQL(condition))
        found, content = exported(world, reading, AuroraExport(call_bytes=700), sql.SQL(condition), calls.append)
    assert content == expected
    assert found.rows == len(found.files) == 2
    assert 1 < len(calls) < 12


def test_parts_of_a_large_file_are_loaded_and_belong_to_their_attempt(
    world: World, aurora_functions: AuroraFunctions
) -> None:
    aurora_functions.set(split_bytes="150000")
    world.execute(TABLE, ROWS)
    found, _ = both(world)
    names = [file.name for file in found.files]
    assert names[:3] == ["part-00000.csv", "part-00000.csv_part2", "part-00000.csv_part3"]
    assert len(names) > 5
    table = config(export="aurora")
    assert world.sync(table).inserted == 3000
    world.assert_equal(table)


def test_longest_row_of_a_large_file_is_queried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aurora_sync.source.aurora_export._SHORT_FILE", 10_000)
    world.execute(TABLE, ROWS, "INSERT INTO t VALUES (0, repeat('\"', 50000)), (-1, NULL)")
    found, content = both(world)
    assert 100_000 < found.longest < 101_000 < len(content)


def test_database_of_another_encoding_is_exported_in_utf8(
    world: World, aurora_functions_in_latin1: AuroraFunctions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aurora_sync.source.aurora_export._SHORT_FILE", 0)
    other = World(aurora_functions_in_latin1.dsn, world.stage_url, world.warehouse_path)
    other.execute(TABLE, "INSERT INTO t VALUES (1, 'größe'), (2, repeat('é', 1000))")
    found, content = both(other)
    assert "größe".encode() in content
    assert found.longest > 2000


def test_value_that_is_too_long_for_the_warehouse_is_found(world: World) -> None:
    world.execute(TABLE, "INSERT INTO t VALUES (1, 'a'), (2, repeat('x', 50))")
    world.warehouse.dialect = replace(world.warehouse.dialect, longest_value=20)
    world.places = replace(world.places)
    receipt = world.sync(config(export="aurora", column_types={"v": "null"}))
    assert [(each.column, each.values) for each in receipt.adjusted] == [("v", 1)]
    assert dict(world.query('SELECT "ID", "V" FROM "PUBLIC"."T"')) == {1: "a", 2: None}
