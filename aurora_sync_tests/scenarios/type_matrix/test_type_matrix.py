"""PostgreSQL's own text is the oracle: what the warehouse holds, turned back to text, equals it, or the run fails."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pytest

from aurora_sync.errors import WarehouseError
from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.type_matrix.cases import CASES, Case
from aurora_sync_tests.scenarios.world import World, config

REFUSED = [pytest.param(case, value, id=f"{case}-{value}") for case in CASES for value in case.refused]


def make(world: World, case: Case, *values: str) -> None:
    world.execute(*filter(None, case.before.split("; ")), f"CREATE TABLE t (id int PRIMARY KEY, v {case.type})")
    for number, value in enumerate((*values, "NULL")):
        world.execute(f"INSERT INTO t VALUES ({number}, {value})")


def in_source(world: World) -> dict[int, str | None]:
    """By the session settings of an export."""
    with connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, CASE WHEN v IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', v) END FROM public.t"
        )
        return dict(cursor.fetchall())


def as_text(value: Any, oracle: str) -> str:
    """A value of the warehouse as PostgreSQL would print it. Floats and JSON, of which one value has many texts, give
    the oracle's where they are the same value."""
    match value:
        case str():
            return value
        case bool():
            return "t" if value else "f"
        case float():
            read = float(oracle.replace("Infinity", "inf"))
            same = (
                math.isnan(value)
                if math.isnan(read)
                else (value, math.copysign(1, value))
                == (
                    read,
                    math.copysign(1, read),
                )
            )
            return oracle if same else repr(value)
        case Decimal() | int():
            return f"{value:f}"
        case datetime():
            return f"{value.year:04}-{value:%m-%d %H:%M:%S}{_fraction(value)}{'+00' if value.tzinfo else ''}"
        case date():
            return f"{value.year:04}-{value:%m-%d}"
        case time():
            return f"{value:%H:%M:%S}{_fraction(value)}"
        case bytes():
            return "\\x" + value.hex()
    raise AssertionError(f"no text for {value!r}")


def _fraction(value: datetime | time) -> str:
    return f".{value.microsecond:06}".rstrip("0") if value.microsecond else ""


def parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_arrives_as_postgresql_prints_it(world: World, case: Case) -> None:
    make(world, case, *case.exact)
    table = config()
    world.sync(table)
    source = in_source(world)
    held = {int(id_): v for id_, v in world.query('SELECT "ID", "V" FROM "PUBLIC"."T"')}
    assert held.keys() == source.keys()
    for number, oracle in source.items():
        if oracle is None:
            assert held[number] is None
        elif case.type == "jsonb":
            assert parsed(held[number]) == parsed(oracle)
        else:
            assert as_text(held[number], oracle) == oracle, case.exact[number]
    verified = world.sync(table, verify=True).verification
    assert verified is not None
    assert verified.equal, verified.examples


@pytest.mark.parametrize(("case", "value"), REFUSED)
def test_value_that_does_not_fit_is_refused_and_arrives_as_text(world: World, case: Case, value: str) -> None:
    make(world, case, value)
    with pytest.raises(WarehouseError, match=r"public\.t: 1 values of column v do not fit .*column_types: \{v: text\}"):
        world.sync(config())
    world.sync(config(column_types={"v": "text"}))
    held = {int(id_): v for id_, v in world.query('SELECT "ID", "V" FROM "PUBLIC"."T"')}
    assert held == in_source(world)
