"""Values of a warehouse in the text that PostgreSQL prints."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from psycopg2.extensions import connection as Connection

from aurora_sync_tests.scenarios.type_matrix.cases import Case


def as_text(value: Any, oracle: str) -> str:
    """Return a value of the warehouse as PostgreSQL would print it. One value of a float or JSON has many texts: for an
    equal value, the oracle's text is returned."""
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
        case int():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case datetime():
            return f"{value.year:04}-{value:%m-%d %H:%M:%S}{_fraction(value)}{'+00' if value.tzinfo else ''}"
        case date():
            return f"{value.year:04}-{value:%m-%d}"
        case time():
            return f"{value:%H:%M:%S}{_fraction(value)}"
        case bytes() | bytearray():
            return "\\x" + value.hex()
    raise AssertionError(f"no text for {value!r}")


def _fraction(value: datetime | time) -> str:
    return f".{value.microsecond:06}".rstrip("0") if value.microsecond else ""


def parsed(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def as_array(connection: Connection, schema: str, type_: str, document: Any) -> str:
    """Return a JSON array as PostgreSQL prints the array of that type."""

    def written(element: Any) -> str:
        if isinstance(element, list):
            return "{" + ",".join(map(written, element)) + "}"
        if element is None:
            return "NULL"
        text = json.dumps(element) if isinstance(element, bool | float) else str(element)
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    with connection.cursor() as cursor:
        cursor.execute(f"SET search_path = {schema}; SELECT (%s)::{type_}::text", (written(document),))
        return str(next(cursor)[0])


def assert_arrived(connection: Connection, case: Case, held: Any, oracle: str | None, schema: str = "public") -> None:
    """Assert that ``held``, the values of the warehouse, match ``oracle``, PostgreSQL's texts. ``connection`` comes
    from connect(), with the settings of an export, and is used to print arrays."""
    if oracle is None or held is None:
        assert held is oracle
    elif case.type == "jsonb":
        assert parsed(held) == parsed(oracle)
    elif case.type.endswith("[]") and held[0] == "[" and held[-1] == "]":
        assert as_array(connection, schema, case.type, json.loads(held, parse_float=str)) == oracle
    else:
        assert as_text(held, oracle) == oracle, f"{case}: {held!r} for {oracle!r}"
