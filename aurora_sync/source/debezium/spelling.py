"""Formats values as PostgreSQL prints them with the pinned settings (connection.py), from the forms of other programs.

The functions raise ValueError or TypeError for a value that PostgreSQL does not have.
"""

from __future__ import annotations

import math
import re
import struct
from datetime import date
from decimal import Decimal
from fractions import Fraction

DAY = 86_400 * 10**6
_FIRST_DAY, _LAST_DAY = -2_440_588, 2_145_042_905  # 4714-11-24 BC, 5874897-12-31
_LAST_MICRO = 9_224_318_016 * 10**9 - 1  # 294276-12-31 23:59:59.999999
ISO = re.compile(
    r"(?P<year>[+-]?\d{4,})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d{1,9}))?)?)?(?P<zone>Z|[+-]\d\d:\d\d)?",
    re.ASCII,
)
_INTERVAL = re.compile(r"P(-?\d+)Y(-?\d+)M(-?\d+)DT(-?\d+)H(-?\d+)M(-?)(\d+)(?:\.(\d{1,6})0*)?S", re.ASCII)
_BOUND = re.compile(
    r'"(\d{4,})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?([+-])(\d\d)(?::(\d\d))?(?::(\d\d))?( BC)?"', re.ASCII
)
_BOUNDLESS = re.compile(r'(?:[\[\](){},]|""|-?infinity|empty)*')
_SPECIAL_IN_ARRAY = re.compile(r'["\\{},\s]', re.ASCII)


def float8_text(value: float) -> str:
    """Format a double as the shortest text that reads back as the same double.

    >>> float8_text(1e22), float8_text(1e23), float8_text(-0.0), float8_text(123456789012345.0)
    ('1e+22', '9.999999999999999e+22', '-0', '123456789012345')
    """
    if value != value or value in (float("inf"), float("-inf")):
        return {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(value)]
    text = repr(value)
    # Python may choose a text half-way between two doubles, which it rounds to even. PostgreSQL does not rely on that
    # rule, and prints another digit. Below 2**52 such a text is never the shortest.
    if abs(value) >= 2**52:
        text = _shortest(value, 53)
    return _spelled(text, 15)


def float4_text(value: float) -> str:
    """Format a float4 as the shortest text that reads back as the same float4.

    >>> float4_text(16777216.0), float4_text(1.4e-45), float4_text(0.1)
    ('1.6777216e+07', '1e-45', '0.1')
    """
    if value != value or value in (float("inf"), float("-inf")):
        return float8_text(value)
    return _spelled(_shortest(float(struct.unpack("f", struct.pack("f", value))[0]), 24), 6)


def _shortest(value: float, bits: int) -> str:
    """Return the decimal of fewest digits that lies strictly within the interval that rounds to ``value``; of several,
    the nearest. ``bits`` is the length of the mantissa."""
    if value == 0:
        return repr(value)
    exact = Fraction(abs(value))
    first, smallest = {24: (-126, -149), 53: (-1022, -1074)}[bits]  # smallest exponents, of normal and of all numbers
    power = math.frexp(value)[1] - 1
    step = Fraction(2) ** max(power - bits + 1, smallest)
    narrow = exact == Fraction(2) ** power and power > first  # the next number below is half a step away
    low, high = exact - step / (4 if narrow else 2), exact + step / 2
    place = int(f"{abs(value):e}".partition("e")[2]) + 1
    while True:
        place -= 1
        unit = Fraction(10) ** place
        below = exact // unit
        fitting = [n for n in (below, below + 1) if low < n * unit < high]
        if fitting:
            best = min(fitting, key=lambda n: (abs(n * unit - exact), n % 2))
            return f"{'-' if value < 0 else ''}{best}e{place}"


def _spelled(text: str, plain_digits: int) -> str:
    """Format a float in PostgreSQL's notation: with an exponent below 1e-4, and from 10**``plain_digits`` on."""
    sign, number, exponent = Decimal(text).as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, number)).rstrip("0") or "0"
    exponent += len(number) - 1
    minus = "-" if sign else ""
    if digits == "0":
        return minus + "0"
    if exponent < -4 or exponent >= plain_digits:
        point = f"{digits[0]}.{digits[1:]}" if len(digits) > 1 else digits
        return f"{minus}{point}e{exponent:+03d}"
    if exponent < 0:
        return f"{minus}0.{'0' * (-exponent - 1)}{digits}"
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return minus + whole + (f".{fraction}" if fraction else "")


def whole_micros(value: object, unit: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("expected a number")
    micros, rest = divmod(value * 10**6, unit)
    if rest:
        raise ValueError("expected whole microseconds")
    return micros


def date_text(year: int, month: int, day: int, rest: str) -> str:
    """Format a date, with the time of the day as ``rest``. Year 0 is 1 BC, and smaller years are BC too."""
    date(2000 + year % 400, month, day)  # raises ValueError if there is no such day
    era = "" if year > 0 else " BC"
    return f"{year if year > 0 else 1 - year:04d}-{month:02d}-{day:02d}{rest}{era}"


def _civil(days: int) -> tuple[int, int, int]:
    """Return year, month and day of a number of days since 1970-01-01, in the proleptic Gregorian calendar."""
    cycles, day = divmod(days + 719_162, 146_097)  # 400 years each, since 0001-01-01
    found = date.fromordinal(day + 1)
    return found.year + 400 * cycles, found.month, found.day


def days_text(days: int, rest: str = "") -> str:
    if not _FIRST_DAY <= days <= _LAST_DAY:
        raise ValueError("expected a date in the range of PostgreSQL")
    return date_text(*_civil(days), rest)


def clock_text(micros: int) -> str:
    seconds, fraction = divmod(micros, 10**6)
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return clock + (f".{fraction:06d}".rstrip("0") if fraction else "")


def timestamp_text(micros: int, offset: str) -> str:
    if not _FIRST_DAY * DAY <= micros <= _LAST_MICRO:
        raise ValueError(
            "expected a timestamp in the range of PostgreSQL, or infinity; Debezium changes later timestamps"
        )
    days, clock = divmod(micros, DAY)
    return days_text(days, f" {clock_text(clock)}{offset}")


def iso_timestamp_text(value: object, offset: str) -> str:
    """Format an ISO timestamp in UTC.

    >>> iso_timestamp_text("-0043-03-15T00:00:00.000000Z", "+00")
    '0044-03-15 00:00:00+00 BC'
    """
    found = ISO.fullmatch(value) if isinstance(value, str) else None
    if not found or not found["hour"] or found["zone"] != "Z":
        raise ValueError("expected an ISO timestamp in UTC")
    fraction = (found["fraction"] or "").ljust(9, "0")
    if fraction[6:] != "000":
        raise ValueError("expected whole microseconds")
    clock = f"{found['hour']}:{found['minute']}:{found['second'] or '00'}"
    clock += f".{fraction[:6]}".rstrip("0").rstrip(".")
    return date_text(int(found["year"]), int(found["month"]), int(found["day"]), f" {clock}{offset}")


def interval_text(value: object) -> str:
    """Format an ISO 8601 interval, whose fields are all present, in PostgreSQL's IntervalStyle iso_8601.

    >>> interval_text("P0Y10M3DT-4H-5M-6.789S"), interval_text("P0Y0M0DT0H0M0S"), interval_text("P0Y-14M0DT0H0M1.5S")
    ('P10M3DT-4H-5M-6.789S', 'PT0S', 'P-1Y-2MT1.5S')
    """
    found = _INTERVAL.fullmatch(value) if isinstance(value, str) else None
    if not found:
        raise ValueError("expected an ISO 8601 interval")
    years, months, days, hours, minutes = (int(found[n]) for n in range(1, 6))
    seconds = int(found[7] + (found[8] or "").ljust(6, "0"))
    micros = (hours * 3600 + minutes * 60) * 10**6 + (-seconds if found[6] else seconds)
    months += 12 * years
    text = _parts(months, (12, "Y"), (1, "M")) + (f"{days}D" if days else "")
    sign, rest = ("-" if micros < 0 else ""), abs(micros)
    clock = _parts(micros, (3600 * 10**6, "H"), (60 * 10**6, "M"))
    if rest := rest % (60 * 10**6):
        whole, fraction = divmod(rest, 10**6)
        clock += sign + str(whole) + (f".{fraction:06d}".rstrip("0") if fraction else "") + "S"
    return "P" + text + (f"T{clock}" if clock else "") if text or clock else "PT0S"


def _parts(amount: int, *units: tuple[int, str]) -> str:
    """Format an amount in whole units, the largest first, each with its sign."""
    sign, rest, text = ("-" if amount < 0 else ""), abs(amount), ""
    for size, letter in units:
        whole, rest = divmod(rest, size)
        text += f"{sign}{whole}{letter}" if whole else ""
    return text


def hstore_text(pairs: object) -> str:
    """Format an hstore. PostgreSQL puts shorter keys first.

    >>> hstore_text({"aa": 'x"y', "b": None})
    '"b"=>NULL, "aa"=>"x\\\\"y"'
    """
    if not isinstance(pairs, dict) or not all(v is None or isinstance(v, str) for v in pairs.values()):
        raise TypeError("expected a mapping of strings")

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    ordered = sorted(pairs, key=lambda key: (len(key.encode()), key.encode()))
    return ", ".join([f"{quoted(k)}=>{'NULL' if pairs[k] is None else quoted(pairs[k])}" for k in ordered])


def ranges_in_utc(text: object) -> str:
    """Convert a range or multirange of timestamptz from the time zone of Debezium's session to UTC.

    >>> ranges_in_utc('["2024-01-01 05:30:00+05:30",infinity)')
    '["2024-01-01 00:00:00+00",infinity)'
    """
    if not isinstance(text, str):
        raise TypeError("expected a string")

    def bound(found: re.Match[str]) -> str:
        year, month, day, hour, minute, second = (int(found[n]) for n in range(1, 7))
        date(2000 + year % 400, month, day)
        year = 1 - year if found[12] else year
        cycle, place = divmod(year - 1, 400)
        days = cycle * 146_097 + date(place + 1, month, day).toordinal() - 719_163
        offset = int(found[9]) * 3600 + int(found[10] or 0) * 60 + int(found[11] or 0)
        seconds = hour * 3600 + minute * 60 + second - (offset if found[8] == "+" else -offset)
        fraction = int((found[7] or "").ljust(6, "0"))
        return f'"{timestamp_text(days * DAY + seconds * 10**6 + fraction, "+00")}"'

    if not _BOUNDLESS.fullmatch(_BOUND.sub("", text)):
        raise ValueError("expected a range of timestamps in ISO")
    return _BOUND.sub(bound, text)


def array_element(element: str | None) -> str:
    """Format an element of an array as PostgreSQL's array_out() does."""
    if element is None:
        return "NULL"
    if element and element.upper() != "NULL" and not _SPECIAL_IN_ARRAY.search(element):
        return element
    return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'
