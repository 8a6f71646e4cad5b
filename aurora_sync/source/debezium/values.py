"""Converts a value that Debezium sends into the text that PostgreSQL prints for it: exactly, or not at all.

The changes that the connector makes to values were measured with the real engine (Debezium 3.6, PostgreSQL 18). Many of
them leave no trace in the message, so a column is refused as a whole if any of its values may have been changed:

================================= ==================================================================================
numeric, not ``string``           ``double`` rounds; ``precise`` turns NaN into NULL (0 if NOT NULL), and drops zeros at
                                  the end of an unconstrained numeric
money                             its text depends on the source's lc_monetary, the event has digits only
time, ``isostring``               24:00:00 is sent as 00:00:00
timestamp, ``nanoseconds``        values beyond 64 bits (before 1677, after 2262) are sent as NULL
timestamp(4 to 6), ``connect``    is cut to milliseconds
timetz                            the offset is lost; in arrays, fractions are lost too
interval, not ``string``          months and days become microseconds by an average
varbit                            the length is lost
arrays of dates and times         infinity, BC and 24:00 are sent as other values
arrays of numeric and of enums    an array that contains NaN or NULL is sent as NULL. NULL is refused, unless the
                                  connector fails on such an array (``Modes.conversion_fails``). So is the NULL of an
                                  array or bit that an update may have left unchanged
any array                         subscripts that do not begin at 1 are lost; inner arrays are sent as NULL or as the
                                  name of a Java object. The user states that there are none (``Modes.plain_arrays``)
float, bytea, interval            settings of Debezium's own session change them: ``Modes.pinned_session``
interval, PostgreSQL 17 and later infinity is sent as zero: zero is refused (``Modes.infinite_intervals``)
NULL in a column that may be NULL is sent as the default of the column, unless the converter is configured not to do so
and has a default                 (events.py)
composite types, reg*, ranges     their text depends on settings of Debezium's session
made by users
lines, boxes, paths, ...          are sent as Java prints them
================================= ==================================================================================

Two microseconds of the year 294247 have the numbers that the connector sends for infinity. They are read as infinity.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from typing import Any

from aurora_sync.model.column import Column
from aurora_sync.source.debezium import read_binary, read_numbers, read_texts, read_times
from aurora_sync.source.debezium.modes import Modes
from aurora_sync.source.debezium.sent_column import Field, SentColumn
from aurora_sync.source.debezium.spelling import array_element
from aurora_sync.source.debezium.unchanged import placeholder_forms
from aurora_sync.source.logical.pgoutput import UNCHANGED, Value

# Returns PostgreSQL's text of a value; raises ValueError or TypeError if the value is not of the type. A reader is
# called for NULL too, so that refusing a column does not depend on its values.
_Reader = Callable[[SentColumn, Any, Field], str | None]
_STRINGS = ("text", "varchar", "bpchar", "char", "name", "citext", "enum", "uuid", "json", "jsonb", "xml", "ltree")
_NETWORKS = ("inet", "cidr", "macaddr", "macaddr8")
_RANGES = ("int4range", "int8range", "numrange", "tsrange", "daterange")
_MULTIRANGES = ("int4multirange", "int8multirange", "nummultirange", "tsmultirange", "datemultirange")
_SYSTEM = ("xid", "xid8", "cid", "tid", "pg_lsn", "pg_snapshot", "txid_snapshot")
# Types that Debezium does not know: with include.unknown.datatypes it sends the bytes of their text, which are equal in
# every session, except for the time zone.
_OPAQUE = {*_MULTIRANGES, *_SYSTEM, "tstzmultirange", "tsquery", "jsonpath", "refcursor"}
_READERS: dict[str, _Reader] = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), read_numbers.integer),
    **dict.fromkeys((*_STRINGS, *_NETWORKS, *_RANGES, "tsvector"), read_texts.text),
    **dict.fromkeys(_OPAQUE, read_binary.opaque),
    "tstzmultirange": read_binary.tstzmultirange,
    "tstzrange": read_texts.tstzrange,
    "numeric": read_numbers.numeric,
    "float4": read_numbers.float4,
    "float8": read_numbers.float8,
    "bool": read_numbers.boolean,
    "date": read_times.date,
    "time": read_times.time,
    "timestamp": read_times.timestamp,
    "timestamptz": read_times.timestamptz,
    "interval": read_times.interval,
    "bytea": read_binary.bytea,
    "bit": read_binary.bit,
    "hstore": read_texts.hstore,
    "point": read_numbers.point,
}
_NO_READER = {
    "timetz": "no option of the connector keeps the offset: exclude the column",
    "money": "the text depends on lc_monetary of the source, which is not in the event: exclude the column",
    "varbit": "no option of the connector keeps the length: exclude the column",
}
_OF_THE_SESSION = {"float4", "float8", "bytea", "interval", "point"}
# Element types of arrays that are sent as the placeholder if unchanged; other unchanged arrays are sent as NULL.
_ELEMENTS_WITH_PLACEHOLDER = {"bytea", "int4", "int8", "text", "varchar", "bpchar", "json", "jsonb", "uuid"}
_ELEMENTS = _ELEMENTS_WITH_PLACEHOLDER | {
    *("int2", "oid", "bool", "float4", "float8", "numeric", "char", "citext", "hstore"),
    *(*_NETWORKS, *_RANGES, "tstzrange"),
}
_JAVA_OBJECT = re.compile(r"\[+(L[\w.$]+;|[BCDFIJSZ])@[0-9a-f]+")


class Values:
    """Reads the values of a column."""

    def __init__(self, table: str, column: Column, modes: Modes) -> None:
        self._sent = SentColumn(table, column, modes)
        self._column = column
        self._modes = modes
        self._unchanged = placeholder_forms(modes.placeholder)

    def read(self, value: object, field: Field, *, updated: bool) -> Value:
        """Return PostgreSQL's text, None for NULL, or UNCHANGED.

        ``value`` is the value in the JSON, ``field`` the column's schema, ``updated`` whether the row existed before,
        so that a value may be left out. Raises ConfigError if the text is not certain, with the option that would make
        it certain.
        """
        if self._is_unchanged(value):
            if updated:
                return UNCHANGED
            self._sent.refuse(
                "a value of a new row equals the placeholder for unchanged values",
                "keep the header __debezium.oldkey in the messages; set unavailable.value.placeholder to a text that no"
                " row has",
            )
        base_type = self._column.base_type
        try:
            text = self._array(value, field) if self._sent.element else self._scalar(base_type, value, field)
        except (ValueError, ArithmeticError, binascii.Error, TypeError, KeyError) as error:
            said = f": {error}" if str(error).startswith("expected ") else ""  # other messages may repeat the value
            what = f"found a value that does not have the type {self._column.type_name}{said}"
            self._sent.refuse(what, "", f"{value!r:.200}: {error}")
        if text is None:
            self._check_null(updated, _is_enum(field))
            return None
        return text.encode()

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
        """Raise ConfigError for a NULL that may be a value: the connector sends NULL for values it cannot convert."""
        left_out = updated and not self._modes.full_before
        base_type, mode = self._column.base_type, self._modes.binary
        binary = {"bytes": set[str](), "hex": {"_bytea"}}.get(mode, {"bytea", "_bytea", *_OPAQUE})
        if left_out and base_type in binary:
            self._sent.refuse(
                f"binary.handling.mode={mode} sends a value that an update did not change as NULL",
                "set binary.handling.mode=bytes",
            )
        element = self._sent.element
        hidden = base_type == "bit" or (element and element not in _ELEMENTS_WITH_PLACEHOLDER)
        failing = base_type == "_numeric" or is_enum
        if not self._modes.conversion_fails and (failing or (hidden and left_out)):
            self._sent.refuse(
                f"for type {self._column.type_name} NULL may be a value that the connector could not convert, such as "
                + ("a value with NaN or NULL in it" if failing else "a value that an update did not change"),
                "set event.converting.failure.handling.mode=fail",
            )

    def _array(self, value: object, field: Field) -> str | None:
        items: Field = field.get("items") or {}
        is_enum = _is_enum(field)
        if self._sent.element not in _ELEMENTS and not is_enum:
            self._sent.refuse(
                f"the connector does not send the exact elements of {self._column.type_name}"
                + ("" if field else ", except those of an enum, which needs the schema of the message"),
                "exclude the column" + ("" if field else ", or set value.converter.schemas.enable=true"),
            )
        if not self._modes.plain_arrays:
            self._sent.refuse(
                "the connector sends an array without its subscripts and inner arrays",
                "set plain_arrays: true if every array has one dimension and begins at 1 (a CHECK with array_ndims and"
                " array_lower can enforce this), or exclude the column",
            )
        if value is None:
            return None
        if not isinstance(value, list):
            raise TypeError("expected a list")
        if any(isinstance(item, str) and _JAVA_OBJECT.fullmatch(item) for item in value):
            what = "found an array of more than one dimension"
            self._sent.refuse(what, "exclude the column", f"{value!r:.200}")
        element = "enum" if is_enum else self._sent.element
        return "{" + ",".join([array_element(self._scalar(element, item, items)) for item in value]) + "}"

    def _scalar(self, base_type: str, value: Any, field: Field) -> str | None:
        if self._column.type_category == "E" and not self._sent.element:
            base_type = "enum"
        reader = _READERS.get(base_type)
        if reader is None:
            self._sent.refuse(
                f"the connector does not send exact values of type {base_type}",
                _NO_READER.get(base_type, "exclude the column, or sync the table with another watermark_type"),
            )
        if base_type in _OF_THE_SESSION and not self._modes.pinned_session:
            self._sent.refuse(
                f"values of type {base_type} depend on settings of Debezium's session",
                "set them for the role of the connector (ALTER ROLE ... SET bytea_output = hex, extra_float_digits = 1,"
                " IntervalStyle = iso_8601), and restart the connector",
            )
        return reader(self._sent, value, field)


def _is_enum(field: Field) -> bool:
    """Return whether a column is an array of an enum."""
    return (field.get("items") or {}).get("name") == "io.debezium.data.Enum"
