"""Arrays converted in Python are equal to the JSON that PostgreSQL makes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection as Connection

from aurora_sync.model.column import Column
from aurora_sync.source.arrays import as_json
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import value

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ELEMENTS: dict[str, st.SearchStrategy[object]] = {
    "int4": st.integers(-(2**31), 2**31 - 1),
    "bool": st.booleans(),
    "float8": st.floats(),
    "numeric": st.decimals(allow_nan=False),
    "text": TEXT | st.sampled_from(["NULL", "null", "", "{}", '"', "\\", " a ", "a,b", "t"]),
    "timestamptz": st.datetimes(),
    "bytea": st.binary(max_size=9).map(lambda data: "\\x" + data.hex()),
}


@pytest.fixture
def reader(dsn: str) -> Iterator[Connection]:
    with connect(dsn) as connection:
        yield connection


def shown(reader: Connection, column: Column) -> str:
    return f"SELECT v::text, {value(column).as_string(reader)}".replace("%", "%%")


@pytest.mark.parametrize("type_", ELEMENTS)
def test_any_array(reader: Connection, type_: str) -> None:
    column = Column("v", 1, f"{type_}[]", f"_{type_}", type_category="A")
    rows = st.lists(st.none() | ELEMENTS[type_], max_size=6)

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(rows | st.integers(1, 3).flatmap(lambda n: st.lists(st.lists(ELEMENTS[type_], min_size=n, max_size=n))))
    def check(elements: list[object]) -> None:
        with reader.cursor() as cursor:
            cursor.execute(f"{shown(reader, column)} FROM (SELECT %s::{type_}[] AS v) AS t", (elements,))
            text, expected = cursor.fetchone() or ("", "")
        assert as_json(text, column.base_type) == expected

    check()


@pytest.mark.parametrize("array", ["[0:1]={1,2}", "[-2:-1][5:5]={{1},{2}}", "{}", "{{1,2},{3,NULL}}"])
def test_bounds_and_dimensions(reader: Connection, array: str) -> None:
    column = Column("v", 1, "int4[]", "_int4", type_category="A")
    with reader.cursor() as cursor:
        cursor.execute(f"{shown(reader, column)} FROM (SELECT %s::int4[] AS v) AS t", (array,))
        assert cursor.fetchone() == (array, as_json(array, "_int4"))
