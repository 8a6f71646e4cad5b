"""Readers of dates, times and intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aurora_sync.source.debezium.sent_column import Field, SentColumn
from aurora_sync.source.debezium.spelling import (
    DAY,
    ISO,
    clock_text,
    date_text,
    days_text,
    interval_text,
    iso_timestamp_text,
    timestamp_text,
    whole_micros,
)

_TIME_UNITS = {
    "io.debezium.time.Time": 1000,
    "io.debezium.time.MicroTime": 10**6,
    "io.debezium.time.NanoTime": 10**9,
    "org.apache.kafka.connect.data.Time": 1000,
}
_TIMESTAMP_UNITS = {
    "io.debezium.time.Timestamp": 1000,
    "io.debezium.time.MicroTimestamp": 10**6,
    "org.apache.kafka.connect.data.Timestamp": 1000,
}
_OF_CONNECT = {"connect connect", "org.apache.kafka.connect.data.Time", "org.apache.kafka.connect.data.Timestamp"}
# Values that the connector sends for infinity: the driver's numbers for it, as days, as parts of a second, and as ISO.
_INFINITE_DAYS = {-2_147_472_692: "infinity", -2_147_472_691: "-infinity"}
_INFINITE_TIMES = {
    (9_223_372_036_825_200_000, 10**6): "infinity",
    (-9_223_372_036_832_400_000, 10**6): "-infinity",
    (9_223_372_036_825_200, 1000): "infinity",
    (-9_223_372_036_832_400, 1000): "-infinity",
}
_ISO_DATES = {"-5877611-06-21Z": "infinity", "-5877611-06-22Z": "-infinity"}
_ISO_TIMESTAMPS = {"+294247-01-10T04:00:25.2Z": "infinity", "-290308-12-21T19:59:27.6Z": "-infinity"}


def date(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        if value in _ISO_DATES:
            return _ISO_DATES[value]
        if not (found := ISO.fullmatch(value)) or found["hour"] or found["zone"] not in (None, "Z"):
            raise ValueError("expected an ISO date in UTC")
        return date_text(int(found["year"]), int(found["month"]), int(found["day"]), "")
    if type(value) is not int:
        raise TypeError("expected a number of days")
    return _INFINITE_DAYS.get(value) or days_text(value)


def time(sent: SentColumn, value: Any, field: Field) -> str | None:
    mode = sent.modes.time
    if field.get("name") == "io.debezium.time.IsoTime" or (not field and mode == "isostring"):
        sent.refuse(
            "time.precision.mode=isostring sends 24:00:00 as 00:00:00",
            "set time.precision.mode=microseconds",
        )
    short = sent.precision <= 3
    by_mode = {"adaptive": 1000 if short else 10**6, "connect": 1000, "nanoseconds": 10**9}.get(mode, 10**6)
    unit = _unit(sent, _TIME_UNITS, field, by_mode)
    if value is None:
        return None
    micros = whole_micros(value, unit)
    if not 0 <= micros <= DAY:
        raise ValueError("expected a time of day")
    return clock_text(micros)


def timestamp(sent: SentColumn, value: Any, field: Field) -> str | None:
    mode = sent.modes.time
    if field.get("name") == "io.debezium.time.NanoTimestamp" or (not field and mode == "nanoseconds"):
        sent.refuse(
            "time.precision.mode=nanoseconds sends a timestamp before 1677 or after 2262 as NULL",
            "set time.precision.mode=microseconds",
        )
    short = sent.precision <= 3 and mode in ("adaptive", "adaptive_time_microseconds")
    iso = field.get("name") == "io.debezium.time.IsoTimestamp" or (not field and mode == "isostring")
    unit = 0 if iso else _unit(sent, _TIMESTAMP_UNITS, field, 1000 if short or mode == "connect" else 10**6)
    if value is None:
        return None
    if iso:
        return _ISO_TIMESTAMPS.get(value) or iso_timestamp_text(value, "")
    if (value, unit) in _INFINITE_TIMES:
        return _INFINITE_TIMES[value, unit]
    return timestamp_text(whole_micros(value, unit), "")


def timestamptz(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is None or value in ("infinity", "-infinity"):
        return value  # type: ignore[no-any-return]
    return iso_timestamp_text(value, "+00")


def interval(sent: SentColumn, value: Any, field: Field) -> str | None:
    kind = field.get("type") or {"string": "string", "numeric": "int64"}[sent.modes.interval]
    if kind != "string":
        sent.refuse(
            "interval.handling.mode=numeric converts months and days to microseconds",
            "set interval.handling.mode=string",
        )
    if value is None:
        return None
    text = interval_text(value)
    if text == "PT0S" and sent.modes.infinite_intervals:
        sent.refuse(
            "the connector sends zero for an infinite interval too", "exclude the column under columns: in tables.yaml"
        )
    return text


def _unit(sent: SentColumn, names: Mapping[str, int], field: Field, by_mode: int) -> int:
    """Return how many of the column's units make a second, by its schema or else by the mode."""
    name = field.get("name")
    if name is None and field:
        raise ValueError("expected a schema with a name")
    if name is not None and name not in names:
        raise ValueError(f"schema {name} is unknown")
    unit = names[name] if name else by_mode
    if (name or f"connect {sent.modes.time}") in _OF_CONNECT and sent.precision > 3:
        sent.refuse("time.precision.mode=connect drops microseconds", "set time.precision.mode=microseconds")
    return unit
