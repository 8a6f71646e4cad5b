"""The type map: every value that its natural type can hold arrives exactly, and the others are found as misfits."""

from __future__ import annotations

import datetime as dt
import json
import math
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_sync.model.column import Column
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.duckdb import to_duckdb
from aurora_sync.warehouse.types import AS_TEXT, NATURAL, TEXT, type_rule
from aurora_sync_tests.warehouse.increments import column


def numeric(precision: int, scale: int) -> Column:
    return column("n", "numeric", modifier=((precision << 16) | (scale & 0x7FF)) + 4)


def read(session: Session, type_: Column, text: str | None) -> tuple[Any, bool]:
    """Return the typed value, None if it does not fit, and whether it fits."""
    rule = type_rule(type_)
    misfit = rule.misfit.format("s.V") or "FALSE"
    source = "FROM (SELECT CAST(? AS VARCHAR) AS V) AS s"
    ((misfits,),) = session.query(f"SELECT COUNT(CASE WHEN {misfit} THEN 1 END) {source}", (text,))
    if misfits:
        return None, False
    ((value,),) = session.query(f"SELECT {rule.cast.format('s.V')} {source}", (text,))
    return value, True


UTC = dt.UTC
FITTING = [
    ("int2", "-32768", -32768),
    ("int4", "2147483647", 2147483647),
    ("int8", "-9223372036854775808", -9223372036854775808),
    ("oid", "4294967295", 4294967295),
    ("float4", "0.1", 0.1),
    ("float8", "1.7976931348623157e+308", 1.7976931348623157e308),
    ("float8", "5.5511151231257827e-17", 5.5511151231257827e-17),
    ("float8", "Infinity", math.inf),
    ("float8", "-Infinity", -math.inf),
    ("bool", "t", True),
    ("bool", "f", False),
    ("date", "0001-01-01", dt.date(1, 1, 1)),
    ("date", "9999-12-31", dt.date(9999, 12, 31)),
    ("time", "23:59:59.999999", dt.time(23, 59, 59, 999999)),
    ("time", "00:00:00", dt.time(0)),
    ("timestamp", "2024-02-29 23:59:59.000001", dt.datetime(2024, 2, 29, 23, 59, 59, 1)),
    ("timestamp", "1883-11-18 12:00:00", dt.datetime(1883, 11, 18, 12)),
    ("timestamptz", "2024-02-29 23:59:59.123456+00", dt.datetime(2024, 2, 29, 23, 59, 59, 123456, UTC)),
    ("timestamptz", "1969-12-31 23:59:59+00", dt.datetime(1969, 12, 31, 23, 59, 59, 0, UTC)),
    ("bytea", "\\x", b""),
    ("bytea", "\\x00ff5c22", b'\x00\xff\\"'),
    ("text", "Infinity", "Infinity"),
]


@pytest.mark.parametrize(("type_", "text", "value"), FITTING)
def test_a_value_arrives_as_it_was(session: Session, type_: str, text: str, value: Any) -> None:
    assert read(session, column("c", type_), text) == (value, True)


@pytest.mark.parametrize("type_", NATURAL)
def test_null_is_null_and_fits(duckdb_session: Session, type_: str) -> None:
    assert read(duckdb_session, column("c", type_), None) == (None, True)


MISFITTING = [
    ("date", "infinity"),
    ("date", "-infinity"),
    ("date", "0044-03-15 BC"),
    ("date", "10000-01-01"),
    ("time", "24:00:00"),
    ("timestamp", "infinity"),
    ("timestamp", "-infinity"),
    ("timestamp", "0044-03-15 12:00:00 BC"),
    ("timestamp", "294276-12-31 23:59:59.999999"),
    ("timestamptz", "infinity"),
    ("timestamptz", "0044-03-15 12:00:00+00 BC"),
    ("timestamptz", "10000-01-01 00:00:00+00"),
    ("jsonb", "1" * 39),
    ("jsonb", f'{{"a": [-0.{"1" * 39}]}}'),
    ("jsonb", f'{{"a\\\\": {"1" * 39}}}'),
]


@pytest.mark.parametrize(("type_", "text"), MISFITTING)
def test_a_value_that_cannot_be_held_is_found(session: Session, type_: str, text: str) -> None:
    assert read(session, column("c", type_), text) == (None, False)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_a_numeric_that_is_no_number_is_found(session: Session, text: str) -> None:
    assert read(session, numeric(10, 2), text) == (None, False)


@pytest.mark.parametrize(
    ("precision", "scale", "target"),
    [
        (10, 2, "NUMBER(10,2)"),
        (38, 0, "NUMBER(38,0)"),
        (38, 37, "NUMBER(38,37)"),
        (1, 1, "NUMBER(1,1)"),
        (38, 38, TEXT),
        (39, 0, TEXT),
        (1000, 1000, TEXT),
        (3, 5, TEXT),  # PostgreSQL 15: more digits after the point than digits
        (5, -2, TEXT),  # PostgreSQL 15: rounded to hundreds
    ],
)
def test_a_numeric_is_a_number_where_snowflake_has_the_digits(precision: int, scale: int, target: str) -> None:
    assert type_rule(numeric(precision, scale)).target == target


def test_a_numeric_without_precision_keeps_its_text() -> None:
    assert type_rule(column("n", "numeric")).target == TEXT


@pytest.mark.parametrize("text", ["12345678901234567890123456789012345678", "-99999999999999999999999999999999999999"])
def test_38_digits_are_exact(duckdb_session: Session, text: str) -> None:
    assert read(duckdb_session, numeric(38, 0), text) == (Decimal(text), True)


@pytest.mark.parametrize(
    "document",
    [
        '{"a": [1, 1.5, true, null, "x"], "b": {"ü": "\\"\\\\"}}',
        "null",
        f'"{"1" * 50}"',
        '"\\\\"',
        "1" * 38,
        f'{{"{"7" * 45}\\"{"8" * 45}": 1}}',
    ],
)
def test_a_json_document_keeps_its_meaning(session: Session, document: str) -> None:
    value, fits = read(session, column("c", "jsonb"), document)
    assert fits
    assert json.loads(value) == json.loads(document)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**37), 10**37)
        | st.text()
        | st.text('0123456789"\\. ', max_size=99),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('1\\"', max_size=60), inner, max_size=3),
        max_leaves=5,
    )
)
def test_no_document_of_short_numbers_is_taken_for_one_of_long_numbers(document: Any) -> None:
    import duckdb

    misfit = NATURAL["jsonb"].misfit.format("V")
    text = json.dumps(document, ensure_ascii=False)
    assert duckdb.execute(to_duckdb(f"SELECT {misfit} FROM (SELECT ? AS V)"), [text]).fetchall() == [(False,)]


def test_text_can_be_chosen_for_any_column() -> None:
    for type_ in NATURAL:
        rule = type_rule(column("c", type_, policy="text"))
        assert (rule.target, rule.cast, rule.misfit) == (TEXT, "{0}", "")


def test_a_type_that_nobody_named_keeps_its_text() -> None:
    for type_ in ("hstore", "my_enum", "my_composite", "geometry", *AS_TEXT):
        assert type_rule(column("c", type_)).target == TEXT


def test_no_type_is_declared_twice() -> None:
    assert not NATURAL.keys() & AS_TEXT.keys()
