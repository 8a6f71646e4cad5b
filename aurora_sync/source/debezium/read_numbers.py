"""Readers of numbers, booleans and points."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from aurora_sync.source.debezium.sent_column import Field, SentColumn
from aurora_sync.source.debezium.spelling import float4_text, float8_text

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_SPECIAL_NUMBERS = {
    "NAN": "NaN",
    "NaN": "NaN",
    "POSITIVE_INFINITY": "Infinity",
    "Infinity": "Infinity",
    "NEGATIVE_INFINITY": "-Infinity",
    "-Infinity": "-Infinity",
}
_SPECIAL_FLOATS = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}


def numeric(sent: SentColumn, value: Any, field: Field) -> str | None:
    kind = field.get("type") or {"string": "string", "precise": "bytes", "double": "double"}[sent.modes.decimal]
    if kind != "string":
        mode = "double" if kind in ("double", "float64") else "precise"
        why = {"double": "rounds", "precise": "sends NaN as NULL or 0, and drops trailing zeros"}[mode]
        sent.refuse(f"decimal.handling.mode={mode} {why}", "set decimal.handling.mode=string")
    if value is None:
        return None
    if value in _SPECIAL_NUMBERS:
        return _SPECIAL_NUMBERS[value]
    if not isinstance(value, str) or not _NUMBER.fullmatch(value):
        raise ValueError("expected digits")
    text = f"{Decimal(value):f}" if "E" in value or "e" in value else value
    modifier = -1 if sent.element else sent.column.base_modifier
    if modifier >= 4 and ((modifier - 4) & 0x7FF) > 1000:  # a negative scale (11 bits): PostgreSQL prints no fraction
        whole, _, fraction = text.partition(".")
        if fraction.strip("0"):
            raise ValueError("expected no fraction")
        text = "0" if whole == "-0" else whole
    return text


def float8(sent: SentColumn, value: Any, field: Field) -> str | None:
    return None if value is None else float8_text(_as_float(value))


def float4(sent: SentColumn, value: Any, field: Field) -> str | None:
    return None if value is None else float4_text(_as_float(value))


def integer(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("expected an integer")
    return str(value)


def boolean(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is None:
        return None
    if not isinstance(value, bool):
        raise TypeError("expected true or false")
    return "t" if value else "f"


def point(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is None:
        return None
    return f"({float8_text(_as_float(value['x']))},{float8_text(_as_float(value['y']))})"


def _as_float(value: Any) -> float:
    if isinstance(value, str):
        return float(_SPECIAL_FLOATS[value])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("expected a number")
    if isinstance(value, int) and int(float(value)) != value:
        raise ValueError("expected a number that a double can represent")
    return float(value)
