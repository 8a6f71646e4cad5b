"""Tables with any columns and rows, through CSV, stage and warehouse: equal to what PostgreSQL prints."""

from __future__ import annotations

import json
from datetime import timedelta

from hypothesis import HealthCheck, assume, given, note, settings
from hypothesis import strategies as st

from aurora_sync.source.connection import connect
from aurora_sync_tests.fixtures.server_build import missing
from aurora_sync_tests.scenarios.type_matrix.cases import Case
from aurora_sync_tests.scenarios.type_matrix.oracle import assert_arrived
from aurora_sync_tests.scenarios.world import World, config

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
_NUMBERS = st.decimals(allow_nan=False).map(str) | st.just("NaN")
_FAR = st.sampled_from(["infinity", "-infinity", "0044-03-15 BC", "12345-06-07"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
).map(json.dumps)
_DIGITS = st.text("01", max_size=40)


def _array(elements: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def literal(values: list[str | None]) -> str:
        quoted = ("NULL" if v is None else '"' + v.replace("\\", "\\\\").replace('"', '\\"') + '"' for v in values)
        return "{" + ",".join(quoted) + "}"

    return st.lists(st.none() | elements, max_size=4).map(literal)


def _interval(time: timedelta) -> str:
    return f"{time.days} days {time.seconds}.{time.microseconds:06} seconds"


def _range(bounds: tuple[int, int, str, str]) -> str:
    low, high = sorted(bounds[:2])
    return f"{bounds[2]}{low},{high}{bounds[3]}"


_SMALL = st.integers(-(2**31), 2**31 - 2)
VALUES: dict[str, st.SearchStrategy[str]] = {
    "int2": st.integers(-(2**15), 2**15 - 1).map(str),
    "int4": st.integers(-(2**31), 2**31 - 1).map(str),
    "int8": st.integers(-(2**63), 2**63 - 1).map(str),
    "numeric": _NUMBERS,
    "numeric(30,10)": st.decimals(-(10**19), 10**19).map(str) | st.just("NaN"),
    "float4": st.floats(width=32).map(repr),
    "float8": st.floats().map(repr),
    "bool": st.booleans().map(str),
    "text": TEXT,
    "varchar(40)": TEXT,
    "char(40)": TEXT.map(lambda text: text.rstrip(" ")),
    "bytea": st.binary(max_size=40).map(lambda data: "\\x" + data.hex()),
    "date": st.dates().map(str) | _FAR,
    "time": st.times().map(str) | st.just("24:00:00"),
    "timetz": st.times().map(lambda time: f"{time}+05:30"),
    "timestamp": st.datetimes().map(str) | _FAR,
    "timestamptz": st.datetimes().map(lambda time: f"{time}-03:25") | _FAR,
    "interval": st.timedeltas().map(_interval),
    "uuid": st.uuids().map(str),
    "json": _JSON,
    "jsonb": _JSON.filter(lambda text: "\\u0000" not in text),
    "bit(8)": st.text("01", min_size=8, max_size=8),
    "varbit": _DIGITS,
    "inet": st.ip_addresses().map(str),
    "int4range": st.tuples(_SMALL, _SMALL, st.sampled_from("[("), st.sampled_from(")]")).map(_range),
    "int8[]": _array(st.integers(-(2**63), 2**63 - 1).map(str)),
    "float8[]": _array(st.floats().map(repr)),
    "text[]": _array(TEXT),
    "numeric[]": _array(_NUMBERS),
}


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[str | None, ...]]]:
    """Generate types of columns, and rows of them as text."""
    types = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=8))
    rows = draw(st.lists(st.tuples(*(st.none() | VALUES[type_] for type_ in types)), max_size=12))
    return types, rows


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(tables())
def test_any_table_makes_the_round_trip(world: World, table: tuple[list[str], list[tuple[str | None, ...]]]) -> None:
    """Each example recreates the table of the previous one, so the target follows from any columns to any others."""
    types, rows = table
    if any("Infinity" in str(value) for row in rows for value, type_ in zip(row, types, strict=True) if "num" in type_):
        assume(not missing(world.dsn, major=14, what="an infinite numeric"))
    note(str(types))
    columns = ", ".join(f"v{number} {type_}" for number, type_ in enumerate(types))
    world.execute("DROP TABLE IF EXISTS t", f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    with world.session() as connection, connection.cursor() as cursor:
        casts = ", ".join(f"%s::{type_}" for type_ in types)
        for number, row in enumerate(rows):
            cursor.execute(f"INSERT INTO t VALUES (%s, {casts})", (number, *row))
        connection.commit()
    assert world.assert_verified(config(), allow_deletes=True) == len(rows)
    names = ", ".join(f'"V{number}"' for number in range(len(types)))
    held = {int(id_): values for id_, *values in world.query(f'SELECT "ID", {names} FROM "PUBLIC"."T"')}
    texts = ", ".join(f"CASE WHEN v{n} IS NOT NULL THEN format('%s', v{n}) END" for n in range(len(types)))
    with connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id, {texts} FROM public.t")
        source = {id_: values for id_, *values in cursor.fetchall()}
        assert held.keys() == source.keys()
        for id_, oracles in source.items():
            for type_, value, oracle in zip(types, held[id_], oracles, strict=True):
                assert_arrived(connection, Case(type_, ()), value, oracle)
