"""The bounds of the staged keys never exclude a row of the target whose key is staged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Evolution
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.warehouse.increments import Folder, column
from aurora_sync_tests.warehouse.test_apply import Table, counts
from aurora_sync_tests.warehouse.test_golden import Recorder

KEYS: dict[str, tuple[Column, tuple[str, ...]]] = {
    "int8": (column("k", "int8"), ("-10", "-9", "9", "10")),
    "numeric": (column("k", "numeric", 655366), ("-10.00", "-9.00", "9.00", "10.00")),
    "date": (column("k", "date"), ("0999-12-31", "1000-01-01", "9999-12-31")),
    "timestamp": (column("k", "timestamp"), ("2024-01-01 00:00:00", "2024-01-01 00:00:00.5", "2024-01-01 00:00:01")),
    "timestamptz": (
        column("k", "timestamptz"),
        ("0001-01-01 00:00:00+00", "2024-01-01 00:00:00.45+00", "2024-01-01 00:00:00.5+00"),
    ),
    "text": (column("k"), ("", "A", "a", "it's a \\ ? %s\n", "é", "𝒳")),
}


@pytest.fixture
def snowflake_session(snowflake_warehouse: SnowflakeWarehouse) -> Iterator[Session]:
    with snowflake_warehouse.session(query_tag=QueryTag("test")) as session:
        yield session


@pytest.mark.parametrize("further", [False, True], ids=["one column", "two columns"])
@pytest.mark.parametrize("name", KEYS)
def test_no_row_is_doubled(
    name: str, further: bool, snowflake_session: Session, folder: Folder, orders: TableConfig
) -> None:
    """Keys of one column are listed, those of several are between the least and the greatest."""
    key, values = KEYS[name]
    columns = (key, column("n", "int4"), column("v"))
    names = ("k", "n") if further else ("k",)
    table = Table(snowflake_session, folder, orders, columns, key=names)
    table.upsert(*((value, "1", "a", "5") for value in values))
    assert table.upsert(*((value, "1", "b", "6") for value in values)) == (0, len(values), 0, len(values))


@pytest.mark.parametrize("further", [False, True], ids=["one column", "two columns"])
def test_key_that_stays_text_in_the_target_has_no_bounds_of_numbers(
    further: bool, snowflake_session: Session, folder: Folder
) -> None:
    """The source's column became a number, and a row that is marked as deleted has a key that is none."""
    config = TableConfig(table_name="orders", watermark_type="xmin", deletes="soft")
    columns = (column("k"), column("n", "int4"), column("v"))
    table = Table(snowflake_session, folder, config, columns, key=("k", "n") if further else ("k",))
    table.replace(("abc", "1", "a", "5"), ("1", "1", "a", "5"))
    table.replace(("1", "1", "a", "5"))
    table.columns = (column("k", "int8"), *columns[1:])
    retyped = table.manifest([("1", "1", "b", "6")], Disposition.UPSERT, evolution=Evolution(retyped=("k",)))
    assert counts(table.apply(retyped)) == (0, 1, 0, 1)


@pytest.mark.parametrize(
    ("key", "bounds"), [(("k",), 'AND t."K" IN (1, 2)'), (("k", "d"), 'AND t."K" BETWEEN 1 AND 2 WHEN')]
)
def test_value_that_does_not_fit_removes_only_the_bound_of_its_column(
    key: tuple[str, ...], bounds: str, duckdb_session: Session, folder: Folder, orders: TableConfig
) -> None:
    recorder = Recorder(duckdb_session)
    recorder.dialect = dataclasses.replace(recorder.dialect, prunes=True)
    table = Table(recorder, folder, orders, (column("k", "int8"), column("d", "date"), column("v")), key=key)
    table.upsert(("1", "2024-01-01", "a", "5"), ("2", "2024-01-01", "a", "5"))
    table.upsert(("1", "infinity", "b", "6"), ("2", "2024-01-01", "b", "6"))
    assert bounds in [sent for sent in recorder.statements if sent.startswith("MERGE")][-1]
    assert len(table.rows('"K"')) == len(key) + 1
