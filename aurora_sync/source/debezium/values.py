"""A value as Debezium sends it, as the text that PostgreSQL prints of it: exactly, or not at all.

What the connector does to values was measured with the real engine (Debezium 3.6, PostgreSQL 18). Much of it leaves no
trace in the message, so a column is refused as a whole where any of its values might not be what it seems:

================================= ==================================================================================
numeric, not ``string``           ``double`` rounds; ``precise`` makes NaN NULL (0 where NOT NULL), and drops zeros at
                                  the end of an unconstrained numeric
money                             the text is the source's lc_monetary, the event has digits only
time, ``isostring``               24:00:00 comes as 00:00:00
timestamp, ``nanoseconds``        what does not fit into 64 bits (before 1677, after 2262) comes as NULL
timestamp(4 to 6), ``connect``    milliseconds
timetz                            the offset is lost; fractions are, in arrays
interval, not ``string``          months and days become microseconds by an average
varbit                            the length is lost
arrays of dates and times         infinity, BC and 24:00 come as other values
arrays of numeric and of enums    with NaN or NULL in them come as NULL: unless the connector is told to fail, NULL is
                                  refused (``Modes.conversion_fails``); so it is where an update may have left a value
                                  as it is, for arrays and bit
any array                         subscripts that do not begin at 1 are lost, inner arrays come as NULL or the name of a
                                  Java object: the user says that there are none (``Modes.plain_arrays``)
float, bytea, interval            come changed under settings of Debezium's own session: ``Modes.pinned_session``
interval, PostgreSQL 17 and later infinity comes as zero: zero is refused (``Modes.infinite_intervals``)
NULL, where the column may be     comes as the default of the column, unless the converter is told not to do so:
NULL and has a default            see debezium.py
composite types, reg*, ranges     their text depends on settings of Debezium's session
made by users
lines, boxes, paths, ...          come as Java prints them
================================= ==================================================================================

Two microseconds of the year 294247 are the numbers that the connector sends for infinity, and are read as infinity.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NoReturn, Self

from aurora_sync.config.connector import Connector
from aurora_sync.errors import ConfigError
from aurora_sync.model.column import Column
from aurora_sync.source.debezium.spelling import (
    DAY,
    ISO,
    array_element,
    clock_text,
    date_text,
    days_text,
    float4_text,
    float8_text,
    hstore_text,
    interval_text,
    iso_timestamp_text,
    ranges_in_utc,
    timestamp_text,
    whole_micros,
)
from aurora_sync.source.logical.pgoutput import UNCHANGED, Value

TimeMode = Literal[
    "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured"
]
BinaryMode = Literal["bytes", "base64", "base64-url-safe", "hex"]


Field = Mapping[str, Any]  # a field of a Connect schema; empty where messages carry none


@dataclass(frozen=True)
class Modes:
    """The connector's options that decide what a value means, by the names that they have there, and what only the user
    knows. Whatever is not certain is False.

    Where messages carry their schema, it goes before ``decimal``, ``time`` and ``binary``.
    """

    decimal: Literal["string", "precise", "double"] = "string"  # decimal.handling.mode
    time: TimeMode = "microseconds"  # time.precision.mode
    interval: Literal["string", "numeric"] = "string"  # interval.handling.mode
    binary: BinaryMode = "bytes"  # binary.handling.mode
    placeholder: str = "__debezium_unavailable_value"  # unavailable.value.placeholder, with its hex: if it has one
    full_before: bool = False  # the table has REPLICA IDENTITY FULL, so that the values before are all there
    conversion_fails: bool = False  # event.converting.failure.handling.mode is fail
    plain_arrays: bool = False  # every array has one dimension, and subscripts from 1
    pinned_session: bool = False  # Debezium's role has those of role_settings.py
    infinite_intervals: bool = True  # the source knows them (PostgreSQL 17 and later)
    flattened: bool = False  # events went through ExtractNewRecordState, which drops every TRUNCATE without a word

    @classmethod
    def of(
        cls, connector: Connector, *, pinned_session: bool, infinite_intervals: bool, full_before: bool = False
    ) -> Self:
        return cls(
            decimal=connector.decimal,
            time=connector.time,
            interval=connector.interval,
            binary=connector.binary,
            placeholder=connector.placeholder,
            conversion_fails=connector.failures == "fail",
            plain_arrays=connector.plain_arrays,
            flattened=connector.flattened,
            pinned_session=pinned_session,
            infinite_intervals=infinite_intervals,
            full_before=full_before,
        )


class Values:
    """The values of one column of one table."""

    def __init__(self, table: str, column: Column, modes: Modes) -> None:
        self._where = f"{table}.{column.name}"
        self._column = column
        self._modes = modes
        self._unchanged = _unchanged_forms(modes.placeholder)
        self._element = column.base_type[1:] if column.is_array else ""
        self._precision = column.base_modifier if 0 <= column.base_modifier <= 6 else 6

    def read(self, value: object, field: Field, *, updated: bool) -> Value:
        """PostgreSQL's text, None for NULL, or UNCHANGED.

        ``value`` is what the JSON has, ``field`` the column's schema, ``updated`` whether the row was there before, so
        that a value may be left out. Raises ConfigError where the text is not certain, with the option that would make
        it so.
        """
        if self._is_unchanged(value):
            if updated:
                return UNCHANGED
            self._refuse(
                "a value that looks like the placeholder for one that did not change, in a row that is new",
                "let the header __debezium.oldkey reach this consumer; set unavailable.value.placeholder to a text that"
                " no row has",
            )
        try:
            text = self._array(value, field) if self._element else self._scalar(self._column.base_type, value, field)
        except (ValueError, ArithmeticError, binascii.Error, TypeError, KeyError) as error:
            said = f": {error}" if str(error).startswith("expected ") else ""  # others may repeat the value
            what = f"found a value that is none of type {self._column.type_name}{said}"
            self._refuse(what, "", f"{value!r:.200}: {error}")
        if text is None:
            self._check_null(updated, _is_enum(field))
            return None
        return text.encode()

    def _refuse(self, what: str, hint: str, values: str = "") -> NoReturn:
        hint = hint or "see that the modes given here are those of the connector"
        raise ConfigError(what, where=self._where, hint=hint, values=values) from None

    def _is_unchanged(self, value: object) -> bool:
        if isinstance(value, str):
            if self._column.base_type == "hstore" and value.startswith("{"):
                value = json.loads(value)
            else:
                binary = self._column.base_type == "bytea" or self._column.base_type in _OPAQUE
                return value == self._unchanged.text or (binary and value in self._unchanged.binary)
        if isinstance(value, dict):
            return self._column.base_type == "hstore" and value == {self._unchanged.text: self._unchanged.text}
        return isinstance(value, list) and value in self._unchanged.lists

    def _check_null(self, updated: bool, is_enum: bool) -> None:
        """Refuse a NULL that may be none: the connector sends NULL for many a value that it cannot convert."""
        left_out = updated and not self._modes.full_before
        base_type, mode = self._column.base_type, self._modes.binary
        binary = {"bytes": set[str](), "hex": {"_bytea"}}.get(mode, {"bytea", "_bytea", *_OPAQUE})
        if left_out and base_type in binary:
            self._refuse(
                f"under binary.handling.mode={mode} a value that an update left as it is comes as NULL",
                "set binary.handling.mode=bytes",
            )
        hidden = base_type == "bit" or (self._element and self._element not in _ELEMENTS_WITH_PLACEHOLDER)
        failing = base_type == "_numeric" or is_enum
        if not self._modes.conversion_fails and (failing or (hidden and left_out)):
            self._refuse(
                f"for type {self._column.type_name} NULL may be a value that the connector could not convert, such as "
                + ("one with NaN or NULL in it" if failing else "one that an update left as it is"),
                "set event.converting.failure.handling.mode=fail",
            )

    def _array(self, value: object, field: Field) -> str | None:
        items: Field = field.get("items") or {}
        is_enum = _is_enum(field)
        if self._element not in _ELEMENTS and not is_enum:
            self._refuse(
                f"the elements of {self._column.type_name} do not come as they are"
                + ("" if field else ", unless they are of an enum, which only a schema tells"),
                "leave the column out" + ("" if field else ", or set value.converter.schemas.enable=true"),
            )
        if not self._modes.plain_arrays:
            self._refuse(
                "an array comes without its subscripts and inner arrays",
                "say plain_arrays where every array has one dimension and begins at 1 (a CHECK with array_ndims and"
                " array_lower keeps it so), or leave the column out",
            )
        if value is None:
            return None
        if not isinstance(value, list):
            raise TypeError("expected a list")
        if any(isinstance(item, str) and _JAVA_OBJECT.fullmatch(item) for item in value):
            what = "an array of more than one dimension came"
            self._refuse(what, "leave the column out", f"{value!r:.200}")
        element = "enum" if is_enum else self._element
        return "{" + ",".join([array_element(self._scalar(element, item, items)) for item in value]) + "}"

    def _scalar(self, base_type: str, value: Any, field: Field) -> str | None:
        if self._column.type_category == "E" and not self._element:
            base_type = "enum"
        reader = _READERS.get(base_type)
        if reader is None:
            self._refuse(
                f"values of type {base_type} do not come as they are",
                _NO_READER.get(base_type, "leave the column out, or sync the table with another watermark_type"),
            )
        if base_type in _OF_THE_SESSION and not self._modes.pinned_session:
            self._refuse(
                f"values of type {base_type} depend on settings of Debezium's session",
                "say pinned_session when its role has them (ALTER ROLE ... SET bytea_output = hex, extra_float_digits"
                " = 1, IntervalStyle = iso_8601)",
            )
        return reader(self, value, field)

    # What follows reads one type each. A NULL comes here, too: that a column is refused does not depend on its values.

    def _numeric(self, value: Any, field: Field) -> str | None:
        kind = field.get("type") or {"string": "string", "precise": "bytes", "double": "double"}[self._modes.decimal]
        if kind != "string":
            mode = "double" if kind in ("double", "float64") else "precise"
            why = {"double": "rounds", "precise": "makes NaN NULL or 0, and drops zeros at the end"}[mode]
            self._refuse(f"decimal.handling.mode={mode} {why}", "set decimal.handling.mode=string")
        if value is None:
            return None
        if value in _SPECIAL_NUMBERS:
            return _SPECIAL_NUMBERS[value]
        if not isinstance(value, str) or not _NUMBER.fullmatch(value):
            raise ValueError("expected digits")
        text = f"{Decimal(value):f}" if "E" in value or "e" in value else value
        modifier = -1 if self._element else self._column.base_modifier
        if modifier >= 4 and ((modifier - 4) & 0x7FF) > 1000:  # a negative scale, of 11 bits: its zeros are not ours
            whole, _, fraction = text.partition(".")
            if fraction.strip("0"):
                raise ValueError("expected no fraction")
            text = "0" if whole == "-0" else whole
        return text

    def _float8(self, value: Any, field: Field) -> str | None:
        return None if value is None else float8_text(_as_float(value))

    def _float4(self, value: Any, field: Field) -> str | None:
        return None if value is None else float4_text(_as_float(value))

    def _integer(self, value: Any, field: Field) -> str | None:
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError("expected an integer")
        return str(value)

    def _bool(self, value: Any, field: Field) -> str | None:
        if value is None:
            return None
        if not isinstance(value, bool):
            raise TypeError("expected true or false")
        return "t" if value else "f"

    def _text(self, value: Any, field: Field) -> str | None:
        if value is not None and not isinstance(value, str):
            raise TypeError("expected a text")
        return value

    def _date(self, value: Any, field: Field) -> str | None:
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

    def _unit(self, names: Mapping[str, int], field: Field, by_mode: int) -> int:
        """How many of the column's units make a second, by its schema or else by the mode."""
        name = field.get("name")
        if name is None and field:
            raise ValueError("expected a schema with a name")
        if name is not None and name not in names:
            raise ValueError(f"schema {name} is not known")
        unit = names[name] if name else by_mode
        if (name or f"connect {self._modes.time}") in _OF_CONNECT and self._precision > 3:
            self._refuse("time.precision.mode=connect cuts microseconds", "set time.precision.mode=microseconds")
        return unit

    def _time(self, value: Any, field: Field) -> str | None:
        mode = self._modes.time
        if field.get("name") == "io.debezium.time.IsoTime" or (not field and mode == "isostring"):
            self._refuse(
                "under time.precision.mode=isostring 24:00:00 comes as 00:00:00",
                "set time.precision.mode=microseconds",
            )
        short = self._precision <= 3
        by_mode = {"adaptive": 1000 if short else 10**6, "connect": 1000, "nanoseconds": 10**9}.get(mode, 10**6)
        unit = self._unit(_TIME_UNITS, field, by_mode)
        if value is None:
            return None
        micros = whole_micros(value, unit)
        if not 0 <= micros <= DAY:
            raise ValueError("expected a time of the day")
        return clock_text(micros)

    def _timestamp(self, value: Any, field: Field) -> str | None:
        mode = self._modes.time
        if field.get("name") == "io.debezium.time.NanoTimestamp" or (not field and mode == "nanoseconds"):
            self._refuse(
                "under time.precision.mode=nanoseconds a timestamp before 1677 or after 2262 comes as NULL",
                "set time.precision.mode=microseconds",
            )
        short = self._precision <= 3 and mode in ("adaptive", "adaptive_time_microseconds")
        iso = field.get("name") == "io.debezium.time.IsoTimestamp" or (not field and mode == "isostring")
        unit = 0 if iso else self._unit(_TIMESTAMP_UNITS, field, 1000 if short or mode == "connect" else 10**6)
        if value is None:
            return None
        if iso:
            return _ISO_TIMESTAMPS.get(value) or iso_timestamp_text(value, "")
        if (value, unit) in _INFINITE_TIMES:
            return _INFINITE_TIMES[value, unit]
        return timestamp_text(whole_micros(value, unit), "")

    def _timestamptz(self, value: Any, field: Field) -> str | None:
        if value is None or value in ("infinity", "-infinity"):
            return value  # type: ignore[no-any-return]
        return iso_timestamp_text(value, "+00")

    def _interval(self, value: Any, field: Field) -> str | None:
        kind = field.get("type") or {"string": "string", "numeric": "int64"}[self._modes.interval]
        if kind != "string":
            self._refuse(
                "interval.handling.mode=numeric makes months and days microseconds",
                "set interval.handling.mode=string",
            )
        if value is None:
            return None
        text = interval_text(value)
        if text == "PT0S" and self._modes.infinite_intervals:
            self._refuse(
                "an infinite interval comes as zero as well",
                "leave the column out, or say infinite_intervals=False where the source is older than PostgreSQL 17",
            )
        return text

    def _bytes(self, value: Any, field: Field) -> bytes | None:
        if value is None:
            return None
        mode = "bytes" if field.get("type") == "bytes" else self._modes.binary
        if not isinstance(value, str):
            raise TypeError("expected a text")
        if field.get("type") == "string" and mode == "bytes":
            self._refuse("bytes come as text, and which one is not known", "give the connector's binary.handling.mode")
        if mode == "hex":
            return bytes.fromhex(value)
        return base64.b64decode(value, altchars=b"-_" if mode == "base64-url-safe" else None, validate=True)

    def _bytea(self, value: Any, field: Field) -> str | None:
        data = self._bytes(value, field)
        return None if data is None else "\\x" + data.hex()

    def _opaque(self, value: Any, field: Field) -> str | None:
        """Text as bytes: what include.unknown.datatypes sends."""
        data = self._bytes(value, field)
        return None if data is None else data.decode()

    def _bit(self, value: Any, field: Field) -> str | None:
        if value is None:
            return None
        length = self._column.base_modifier
        if isinstance(value, bool):
            number = int(value)
        else:
            number = int.from_bytes(base64.b64decode(value, validate=True), "little")
        if length < 1 or number >> length:
            raise ValueError(f"expected {length} bits")
        return f"{number:0{length}b}"

    def _hstore(self, value: Any, field: Field) -> str | None:
        if value is None:
            return None
        pairs = json.loads(value) if isinstance(value, str) else value
        return hstore_text(pairs)

    def _point(self, value: Any, field: Field) -> str | None:
        if value is None:
            return None
        return f"({float8_text(_as_float(value['x']))},{float8_text(_as_float(value['y']))})"

    def _tstzrange(self, value: Any, field: Field) -> str | None:
        return None if value is None else ranges_in_utc(value)

    def _tstzmultirange(self, value: Any, field: Field) -> str | None:
        text = self._opaque(value, field)
        return None if text is None else ranges_in_utc(text)


_Reader = Callable[[Values, Any, Field], str | None]
_STRINGS = ("text", "varchar", "bpchar", "char", "name", "citext", "enum", "uuid", "json", "jsonb", "xml", "ltree")
_NETWORKS = ("inet", "cidr", "macaddr", "macaddr8")
_RANGES = ("int4range", "int8range", "numrange", "tsrange", "daterange")
_MULTIRANGES = ("int4multirange", "int8multirange", "nummultirange", "tsmultirange", "datemultirange")
_SYSTEM = ("xid", "xid8", "cid", "tid", "pg_lsn", "pg_snapshot", "txid_snapshot")
# Debezium does not know these: include.unknown.datatypes makes it send the bytes of their text, which are the same in
# every session but for the time zone.
_OPAQUE = {*_MULTIRANGES, *_SYSTEM, "tstzmultirange", "tsquery", "jsonpath", "refcursor"}
_READERS: dict[str, _Reader] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), Values._integer),
    **dict.fromkeys((*_STRINGS, *_NETWORKS, *_RANGES, "tsvector"), Values._text),
    **dict.fromkeys(_OPAQUE, Values._opaque),
    "tstzmultirange": Values._tstzmultirange,
    "tstzrange": Values._tstzrange,
    "numeric": Values._numeric,
    "float4": Values._float4,
    "float8": Values._float8,
    "bool": Values._bool,
    "date": Values._date,
    "time": Values._time,
    "timestamp": Values._timestamp,
    "timestamptz": Values._timestamptz,
    "interval": Values._interval,
    "bytea": Values._bytea,
    "bit": Values._bit,
    "hstore": Values._hstore,
    "point": Values._point,
}
_NO_READER = {
    "timetz": "no option keeps its offset: leave the column out",
    "money": "its text is the source's lc_monetary, of which the event has no word: leave the column out",
    "varbit": "no option keeps its length: leave the column out",
}
_OF_THE_SESSION = {"float4", "float8", "bytea", "interval", "point"}
# An unchanged array of these has the placeholder in it; of all others it comes as NULL.
_ELEMENTS_WITH_PLACEHOLDER = {"bytea", "int4", "int8", "text", "varchar", "bpchar", "json", "jsonb", "uuid"}
_ELEMENTS = _ELEMENTS_WITH_PLACEHOLDER | {
    *("int2", "oid", "bool", "float4", "float8", "numeric", "char", "citext", "hstore"),
    *(*_NETWORKS, *_RANGES, "tstzrange"),
}
_JAVA_OBJECT = re.compile(r"\[+(L[\w.$]+;|[BCDFIJSZ])@[0-9a-f]+")
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
# What the connector sends for infinity: the driver's numbers for it, as days, fractions of a second, and ISO.
_INFINITE_DAYS = {-2_147_472_692: "infinity", -2_147_472_691: "-infinity"}
_INFINITE_TIMES = {
    (9_223_372_036_825_200_000, 10**6): "infinity",
    (-9_223_372_036_832_400_000, 10**6): "-infinity",
    (9_223_372_036_825_200, 1000): "infinity",
    (-9_223_372_036_832_400, 1000): "-infinity",
}
_ISO_DATES = {"-5877611-06-21Z": "infinity", "-5877611-06-22Z": "-infinity"}
_ISO_TIMESTAMPS = {"+294247-01-10T04:00:25.2Z": "infinity", "-290308-12-21T19:59:27.6Z": "-infinity"}


def _is_enum(field: Field) -> bool:
    """Whether it is an array of an enum."""
    return (field.get("items") or {}).get("name") == "io.debezium.data.Enum"


@dataclass(frozen=True)
class _Forms:
    """What the placeholder looks like."""

    text: str
    binary: frozenset[str]
    lists: tuple[list[Any], ...]


def _unchanged_forms(placeholder: str) -> _Forms:
    data = bytes.fromhex(placeholder[4:]) if placeholder.startswith("hex:") else placeholder.encode()
    text = data.decode(errors="replace")
    digest = bytearray(hashlib.md5(data, usedforsecurity=False).digest())
    digest[6], digest[8] = digest[6] & 0x0F | 0x30, digest[8] & 0x3F | 0x80  # Java's UUID.nameUUIDFromBytes
    hexed = digest.hex()
    uuid = f"{hexed[:8]}-{hexed[8:12]}-{hexed[12:16]}-{hexed[16:20]}-{hexed[20:]}"
    binary = {text, data.hex(), base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()}
    coded = base64.b64encode(data).decode()
    return _Forms(text, frozenset(binary), ([text], [coded], [uuid], list(struct.unpack(f"{len(data)}b", data))))


def _as_float(value: Any) -> float:
    if isinstance(value, str):
        return float(_SPECIAL_FLOATS[value])
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("expected a number")
    if isinstance(value, int) and int(float(value)) != value:
        raise ValueError("expected a number that a double holds")
    return float(value)
