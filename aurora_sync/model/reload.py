"""Rows that a person asks to read again: the request, and its bounds as values of the column's type."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from aurora_sync.errors import ConfigError
from aurora_sync.model.column import Column

# A reload of more rows needs a higher limit, so that a mistyped bound does not read most of a large table.
MAX_ROWS = 1_000_000
TIMES = ("timestamptz", "timestamp", "date")
INTEGERS = ("int2", "int4", "int8")


@dataclass(frozen=True)
class OptionNames:
    """The names by which errors name the options of a request: those that the person used to give them."""

    since: str = "since"
    column: str = "column"
    lower: str = "from"
    upper: str = "to"
    max_rows: str = "max_rows"


@dataclass(frozen=True)
class Reload:
    """A request as a person wrote it; empty: not given. Either ``since``, a time in ``column`` (by default the column
    of the strategy), or ``lower`` and ``upper``, which bound the first column of the merge key. ``upper`` itself is not
    in the range."""

    since: str = ""
    column: str = ""
    lower: str = ""
    upper: str = ""
    max_rows: int = MAX_ROWS
    names: OptionNames = OptionNames()

    def __post_init__(self) -> None:
        names = self.names
        if bool(self.since) == bool(self.lower or self.upper):
            raise ConfigError(
                f"expected either {names.since}, or a range of keys ({names.lower}, {names.upper} or both)"
            )
        if self.column and not self.since:
            raise ConfigError(
                f"found {names.column} without {names.since}: a range of keys is one of the first key column"
            )


@dataclass(frozen=True)
class RowRange:
    """The rows with ``lower <= column < upper``. A bound is the text that PostgreSQL prints; empty: no bound. ``rows``
    is the number of these rows at the source. ``is_key``: the target's rows in the range are removed if the source does
    not have them; else no deletes are found."""

    column: str
    type: str
    lower: str
    upper: str
    is_key: bool
    rows: int = 0

    def __str__(self) -> str:
        bounds = [f"{self.column} {sign} {bound}" for sign, bound in ((">=", self.lower), ("<", self.upper)) if bound]
        return " and ".join(bounds)


def since(text: str, column: Column, names: OptionNames) -> RowRange:
    """Return the rows whose time in a column is not before ``text``."""
    if column.base_type not in TIMES:
        raise ConfigError(
            f"{names.since}: column {column.name} is {column.type_name}; expected a timestamp or a date; set"
            f" {names.column} to another column, or give a range of keys"
        )
    return RowRange(column.name, column.base_type, _printed(names.since, text, column), "", is_key=False)


def between(lower: str, upper: str, column: Column, names: OptionNames) -> RowRange:
    """Return the rows whose first key column is in a range."""
    if column.base_type not in _PARSERS:
        raise ConfigError(
            f"{names.lower}, {names.upper}: the first key column {column.name} is {column.type_name}, which source and"
            " warehouse may order differently; expected an integer, a numeric, a date, a timestamp or a uuid; give a"
            f" time with {names.since}, or run a reconcile"
        )
    found = RowRange(
        column.name,
        column.base_type,
        lower and _printed(names.lower, lower, column),
        upper and _printed(names.upper, upper, column),
        is_key=True,
    )
    parse = _PARSERS[column.base_type][1]
    if lower and upper and parse(lower) >= parse(upper):  # type: ignore[operator]
        raise ConfigError(
            f"found the range from {found.lower} to {found.upper}; expected {names.lower} to be less than {names.upper}"
        )
    return found


def _printed(option: str, text: str, column: Column) -> str:
    expected, parse = _PARSERS[column.base_type]
    try:
        value = parse(text)
        if isinstance(value, Decimal):
            _assert_fits(value, column)
        return _as_text(value)
    except ValueError:
        raise ConfigError(
            f"{option}: found {text!r}; expected {expected}, for column {column.name} of type {column.type_name}"
        ) from None


def _as_text(value: object) -> str:
    """Return a value as PostgreSQL prints it, in the settings of a sync."""
    if isinstance(value, datetime):
        text = value.replace(tzinfo=None).isoformat(" ")
        return text if value.tzinfo is None else text + "+00"
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _assert_fits(value: Decimal, column: Column) -> None:
    """Raise ValueError if a value of the column cannot equal ``value``: an engine may round it before it compares."""
    if column.base_modifier < 0:
        return
    precision, scale = ((column.base_modifier - 4) >> 16) & 0xFFFF, (column.base_modifier - 4) & 0x7FF
    if value.normalize().adjusted() >= precision - scale or int(value.normalize().as_tuple().exponent) < -scale:
        raise ValueError(value)


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", text.strip()) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(text)
    return int(text)


def _numeric(text: str) -> Decimal:
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError(text) from None
    if not value.is_finite() or len(value.as_tuple().digits) > 38 or abs(value.adjusted()) > 38:
        raise ValueError(text)
    return value


def _local(text: str) -> datetime:
    value = datetime.fromisoformat(text.strip())
    if value.tzinfo:
        raise ValueError(text)
    return value


def _moment(text: str) -> datetime:
    value = datetime.fromisoformat(text.strip())
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        raise ValueError(text) from None


_PARSERS: dict[str, tuple[str, Callable[[str], object]]] = {
    **dict.fromkeys(INTEGERS, ("an integer, such as 1000", _integer)),
    "numeric": ("a number that the column can hold, such as 10.5", _numeric),
    "date": ("a date, such as 2026-01-31", lambda text: date.fromisoformat(text.strip())),
    "timestamp": ("a time without zone, as the column has it, such as 2026-01-31T12:00:00", _local),
    "timestamptz": ("a time, such as 2026-01-31T12:00:00+01:00 (without zone: UTC)", _moment),
    "uuid": ("a uuid", lambda text: uuid.UUID(text.strip())),
}
