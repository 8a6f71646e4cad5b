"""Bounds of a reload are values of the column's type."""

from __future__ import annotations

import pytest

from aurora_sync.errors import ConfigError
from aurora_sync.model.column import Column
from aurora_sync.model.reload import OptionNames, between, since

NAMES = OptionNames()


def column(type_: str, precision: int = 0, scale: int = 0) -> Column:
    return Column("k", 1, type_, type_, ((precision << 16) | scale) + 4 if precision else -1)


@pytest.mark.parametrize(
    ("key", "lower", "printed"),
    [
        (column("int2"), "-9223372036854775808", "-9223372036854775808"),
        (column("int8"), " +007 ", "7"),
        (column("numeric", 5, 2), "1e2", "100"),
        (column("numeric", 5, 2), "999.990", "999.990"),
        (column("numeric", 5, 2), "-0.5", "-0.5"),
        (column("date"), "2024-02-29", "2024-02-29"),
        (column("timestamp"), "2026-01-31 12:00:00.5", "2026-01-31 12:00:00.500000"),
        (column("timestamptz"), "2026-01-31T12:00:00+05:30", "2026-01-31 06:30:00+00"),
        (column("timestamptz"), "2026-01-31", "2026-01-31 00:00:00+00"),
        (column("uuid"), "{A0000000-0000-0000-0000-00000000000F}", "a0000000-0000-0000-0000-00000000000f"),
    ],
)
def test_bound_is_printed_as_postgresql_prints_it(key: Column, lower: str, printed: str) -> None:
    assert between(lower, "", key, NAMES).lower == printed


@pytest.mark.parametrize(
    ("key", "lower"),
    [
        (column("int4"), "1_000"),
        (column("int4"), "١"),
        (column("int8"), "-9223372036854775809"),
        (column("numeric", 5, 2), "1.555"),  # rounded down, it would be another range in the warehouse
        (column("numeric", 5, 2), "1000"),
        (column("numeric"), "NaN"),
        (column("numeric"), "1e99"),
        (column("date"), "infinity"),
        (column("date"), "2026-02-29"),
        (column("timestamp"), "2026-01-31T12:00:00Z"),
        (column("timestamptz"), "9999-12-31T23:59:59-01:00"),
        (column("uuid"), "0"),
    ],
)
def test_bound_that_the_column_cannot_hold_is_refused(key: Column, lower: str) -> None:
    with pytest.raises(ConfigError, match=r"from: found .* for column k of type"):
        between(lower, "", key, NAMES)


def test_range_of_numbers_is_compared_as_numbers() -> None:
    assert str(between("9", "10", column("int4"), NAMES)) == "k >= 9 and k < 10"
    with pytest.raises(ConfigError, match="expected from to be less than to"):
        between("10", "9", column("int4"), NAMES)


def test_since_of_a_date_is_a_date() -> None:
    assert str(since("2026-01-31", column("date"), NAMES)) == "k >= 2026-01-31"
    with pytest.raises(ConfigError, match="column k is int4; expected a timestamp or a date"):
        since("2026-01-31", column("int4"), NAMES)
