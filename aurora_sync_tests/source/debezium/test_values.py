"""Types and modes, compared with PostgreSQL's own text. scenarios/debezium_events runs the real engine."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.errors import ConfigError
from aurora_sync.model.column import Column
from aurora_sync.source.connection import connect, write
from aurora_sync.source.debezium.modes import BinaryMode, Modes, TimeMode
from aurora_sync.source.debezium.sent_column import Field
from aurora_sync.source.debezium.spelling import float4_text, float8_text, hstore_text, interval_text, ranges_in_utc
from aurora_sync.source.debezium.values import Values
from aurora_sync.source.logical.pgoutput import UNCHANGED
from aurora_sync_tests.fixtures.server_build import need_extension

VOUCHED = Modes(pinned_session=True, plain_arrays=True, conversion_fails=True, infinite_intervals=False)


def read(
    type_: str,
    value: Any,
    modes: Modes = VOUCHED,
    field: Field | None = None,
    modifier: int = -1,
    updated: bool = False,
) -> Any:
    """Read a value of column c, and return its text, None or UNCHANGED."""
    column = Column("c", 1, type_, type_, modifier, "A" if type_.startswith("_") else "S")
    found = Values("s.t", column, modes).read(value, field or {}, updated=updated)
    return found.decode() if isinstance(found, bytes) else found


def times(mode: TimeMode) -> Modes:
    return replace(VOUCHED, time=mode)


def schema(name: str, type_: str = "int64") -> Field:
    return {"type": type_, "name": name, "field": "c"}


@pytest.mark.parametrize(
    ("type_", "modifier", "mode", "value", "text"),
    [
        ("date", -1, "microseconds", -2147472692, "infinity"),
        ("date", -1, "connect", -719163, "0001-12-31 BC"),
        ("date", -1, "isostring", "-5877611-06-22Z", "-infinity"),
        ("date", -1, "isostring", "+10000-01-01Z", "10000-01-01"),
        ("time", 3, "adaptive", 43200123, "12:00:00.123"),
        ("time", -1, "adaptive", 86400000000, "24:00:00"),
        ("time", 3, "adaptive_time_microseconds", 43200123000, "12:00:00.123"),
        ("time", -1, "nanoseconds", 43200100000000, "12:00:00.1"),
        ("time", 3, "connect", 43200123, "12:00:00.123"),
        ("timestamp", 3, "adaptive", 1709208000123, "2024-02-29 12:00:00.123"),
        ("timestamp", -1, "adaptive", 1709208000100000, "2024-02-29 12:00:00.1"),
        ("timestamp", 0, "adaptive_time_microseconds", 1709208000000, "2024-02-29 12:00:00"),
        ("timestamp", 3, "connect", -315619199999, "1960-01-01 00:00:00.001"),
        ("timestamp", 3, "connect", -9223372036832400, "-infinity"),
        ("timestamp", -1, "microseconds", 9223372036825200000, "infinity"),
        ("timestamp", -1, "isostring", "+294276-12-31T23:59:59.999999Z", "294276-12-31 23:59:59.999999"),
        ("timestamp", -1, "isostring", "-290308-12-21T19:59:27.6Z", "-infinity"),
    ],
)
def test_times_by_mode(type_: str, modifier: int, mode: TimeMode, value: object, text: str) -> None:
    assert read(type_, value, times(mode), modifier=modifier) == text


@pytest.mark.parametrize(
    ("type_", "modifier", "name", "value", "text"),
    [
        ("time", -1, "io.debezium.time.Time", 43200123, "12:00:00.123"),
        ("time", -1, "io.debezium.time.MicroTime", 1, "00:00:00.000001"),
        ("time", -1, "io.debezium.time.NanoTime", 1000, "00:00:00.000001"),
        ("time", 3, "org.apache.kafka.connect.data.Time", 1, "00:00:00.001"),
        ("timestamp", -1, "io.debezium.time.Timestamp", 1, "1970-01-01 00:00:00.001"),
        ("timestamp", -1, "io.debezium.time.MicroTimestamp", -1, "1969-12-31 23:59:59.999999"),
        ("timestamp", -1, "io.debezium.time.IsoTimestamp", "1970-01-01T00:00:00Z", "1970-01-01 00:00:00"),
        ("date", -1, "org.apache.kafka.connect.data.Date", 1, "1970-01-02"),
    ],
)
def test_times_by_schema_whatever_the_modes(type_: str, modifier: int, name: str, value: object, text: str) -> None:
    for mode in ("connect", "nanoseconds", "isostring"):
        assert read(type_, value, times(mode), schema(name), modifier) == text


@pytest.mark.parametrize(
    ("type_", "value", "modes", "field", "option"),
    [
        ("numeric", 1.5, replace(VOUCHED, decimal="double"), {}, "decimal.handling.mode=string"),
        ("numeric", None, replace(VOUCHED, decimal="precise"), {}, "decimal.handling.mode=string"),
        ("numeric", {"scale": 1, "value": "Cw=="}, VOUCHED, {"type": "struct"}, "decimal.handling.mode=string"),
        ("interval", 5, replace(VOUCHED, interval="numeric"), {}, "interval.handling.mode=string"),
        ("interval", 5, VOUCHED, schema("io.debezium.time.MicroDuration"), "interval.handling.mode=string"),
        ("time", "12:00:00Z", times("isostring"), {}, "time.precision.mode=microseconds"),
        ("time", None, times("connect"), {}, "time.precision.mode=microseconds"),
        ("timestamp", 1, times("connect"), {}, "time.precision.mode=microseconds"),
        ("timestamp", None, times("nanoseconds"), {}, "time.precision.mode=microseconds"),
        (
            "timestamp",
            1,
            VOUCHED,
            schema("org.apache.kafka.connect.data.Timestamp"),
            "time.precision.mode=microseconds",
        ),
        ("bytea", "AA==", VOUCHED, {"type": "string"}, "binary.handling.mode"),
        ("bytea", "AA==", replace(VOUCHED, pinned_session=False), {}, "ALTER ROLE"),
        ("interval", "P0Y0M0DT0H0M0S", replace(VOUCHED, infinite_intervals=True), {}, "exclude the column"),
        ("_int4", [1], replace(VOUCHED, plain_arrays=False), {}, "plain_arrays"),
        ("_text", ["[Ljava.lang.String;@3b34c321"], VOUCHED, {}, "exclude the column"),
        ("_mood", ["a"], VOUCHED, {}, "value.converter.schemas.enable=true"),
        ("_numeric", None, replace(VOUCHED, conversion_fails=False), {}, "event.converting.failure.handling.mode=fail"),
        ("_date", [1], VOUCHED, {}, "exclude the column"),
        ("timetz", "10:00:00Z", VOUCHED, {}, "exclude the column"),
        ("money", "1.00", VOUCHED, {}, "exclude the column"),
        ("varbit", "", VOUCHED, {}, "exclude the column"),
        ("geometry", {}, VOUCHED, {}, "exclude the column"),
    ],
)
def test_what_cannot_be_exact_is_refused_with_what_to_set(
    type_: str, value: object, modes: Modes, field: Field, option: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(type_, value, modes, field)
    assert raised.value.where == "s.t.c"
    assert option in raised.value.hint


@pytest.mark.parametrize(
    ("type_", "value", "modifier"),
    [
        ("timestamp", -9223372036853775810, -1),  # 294276-12-31, which overflows the connector's arithmetic
        ("timestamp", "2024-01-01T00:00:00Z", -1),
        ("timestamptz", "2024-01-01T00:00:00+01:00", -1),
        ("timestamptz", "2024-02-30T00:00:00Z", -1),
        ("timestamptz", "2024-01-01T00:00:00.1234567Z", -1),
        ("date", 2147483647, -1),
        ("date", "2024-01-01T00:00:00Z", -1),
        ("time", 86400000001, -1),
        ("numeric", "Cw==", -1),
        ("numeric", 5, -1),
        ("numeric", "1.5", ((5 << 16) | (-2 & 0x7FF)) + 4),
        ("int4", "5", -1),
        ("int4", True, -1),
        ("int4", 1.0, -1),
        ("bool", 1, -1),
        ("float8", "nan", -1),
        ("float8", 2**53 + 1, -1),
        ("bytea", "not base64", -1),
        ("bytea", "3q2-7w==", -1),
        ("bit", "/w==", 3),
        ("bit", True, -1),
        ("interval", "P1D", -1),
        ("hstore", '{"a": 1}', -1),
        ("hstore", "[]", -1),
        ("point", {"x": 1}, -1),
        ("tstzrange", '["2024-01-01 00:00:00",)', -1),
        ("jsonpath", "/w==", -1),
        ("_int4", "{1}", -1),
        ("_int4", [[1]], -1),
        ("text", ["a"], -1),
    ],
)
def test_a_value_of_another_type_is_refused(type_: str, value: object, modifier: int) -> None:
    with pytest.raises(ConfigError, match=r"s\.t\.c: found a value that does not have the type") as raised:
        read(type_, value, modifier=modifier)
    assert f"{value!r:.200}" not in str(raised.value).replace("'isostring'", "")
    raised.value.show_values()
    assert f"{value!r:.200}" in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("mode", "value"),
    [("bytes", "3q2+7w=="), ("base64", "3q2+7w=="), ("base64-url-safe", "3q2-7w=="), ("hex", "deadbeef")],
)
def test_bytes_by_mode(mode: BinaryMode, value: str) -> None:
    assert read("bytea", value, replace(VOUCHED, binary=mode)) == "\\xdeadbeef"
    assert read("bytea", "", replace(VOUCHED, binary=mode)) == "\\x"


@pytest.mark.parametrize(
    ("type_", "value", "modifier", "text"),
    [
        ("numeric", "NAN", -1, "NaN"),
        ("numeric", "NEGATIVE_INFINITY", -1, "-Infinity"),
        ("numeric", "1E-20", -1, "0.00000000000000000001"),
        ("numeric", "1.50E+3", -1, "1500"),
        ("numeric", "1234500.000", ((5 << 16) | (-2 & 0x7FF)) + 4, "1234500"),
        ("bit", "AAg=", 12, "100000000000"),
        ("bit", "", 3, "000"),
        ("bit", True, 1, "1"),
        ("bool", False, -1, "f"),
        ("point", {"x": 0.1, "y": "NaN"}, -1, "(0.1,NaN)"),
        ("tstzmultirange", "e1siMjAyNC0wMS0wMSAwNTozMDowMCswNTozMCIsKX0=", -1, '{["2024-01-01 00:00:00+00",)}'),
        ("_text", ["", "null", "a b", 'q"\\', None, "{}"], -1, '{"","null","a b","q\\"\\\\",NULL,"{}"}'),
        ("_bool", [True, None], -1, "{t,NULL}"),
        ("_hstore", ['{"a":null}'], -1, '{"\\"a\\"=>NULL"}'),
    ],
)
def test_other_types(type_: str, value: object, modifier: int, text: str) -> None:
    assert read(type_, value, modifier=modifier) == text
    assert read(type_, None, modifier=modifier) is None


@pytest.mark.parametrize("placeholder", ["__debezium_unavailable_value", "hex:6162636465f0", "other"])
def test_the_placeholder_in_each_of_its_forms(placeholder: str) -> None:
    modes = replace(VOUCHED, placeholder=placeholder)
    data = bytes.fromhex(placeholder[4:]) if placeholder.startswith("hex:") else placeholder.encode()
    text = data.decode(errors="replace")
    for type_, value in {
        "text": text,
        "numeric": text,
        "numrange": text,
        "hstore": json.dumps({text: text}),
        "_text": [text],
        "_jsonb": [text],
        "_int4": list(struct.unpack(f"{len(data)}b", data)),
    }.items():
        assert read(type_, value, modes, updated=True) is UNCHANGED
        with pytest.raises(ConfigError, match="placeholder"):
            read(type_, value, modes)
    assert read("hstore", {text: text}, modes, updated=True) is UNCHANGED


def test_the_placeholder_of_an_array_of_uuid_is_a_digest_of_it() -> None:
    assert read("_uuid", ["b68a35a7-17ad-35b3-af2a-ae46edb4545a"], updated=True) is UNCHANGED


def test_null_in_an_update_is_refused_where_it_may_stand_for_what_did_not_change() -> None:
    careless = replace(VOUCHED, conversion_fails=False)
    for type_ in ("_float8", "_int2", "bit"):
        with pytest.raises(ConfigError, match=r"event\.converting\.failure\.handling\.mode=fail"):
            read(type_, None, careless, updated=True, modifier=3)
        for trusted in (VOUCHED, replace(careless, full_before=True)):
            assert read(type_, None, trusted, updated=True, modifier=3) is None
        assert read(type_, None, careless, modifier=3) is None
    base64 = replace(VOUCHED, binary="base64")
    with pytest.raises(ConfigError, match=r"binary\.handling\.mode=bytes"):
        read("bytea", None, base64, updated=True)
    assert read("bytea", None, updated=True) is None


def test_floats_are_spelled_as_postgresql_does(dsn: str) -> None:
    chance = random.Random(5)
    doubles = [struct.unpack("d", chance.randbytes(8))[0] for _ in range(1500)]
    doubles += [float(f"{chance.randrange(1, 999)}e{e}") for e in range(-30, 40) for _ in range(8)]
    doubles += [2.0**e for e in range(-1074, 1024, 5)] + [0.0, float("inf"), float("-inf")]
    doubles = [double for double in doubles if double == double]
    floats = [struct.unpack("f", chance.randbytes(4))[0] for _ in range(1500)]
    floats += [struct.unpack("f", struct.pack("f", 2.0**e))[0] for e in range(-149, 128)] + [16777216.0, 1e10]
    floats = [single for single in floats if single == single]
    with connect(dsn) as connection, connection.cursor() as cursor:
        for type_, values, spelled in (("float8", doubles, float8_text), ("float4", floats, float4_text)):
            cursor.execute(f"SELECT x::{type_}::text FROM unnest(%s::float8[]) x", (values,))
            assert [spelled(value) for value in values] == [text for (text,) in cursor.fetchall()]


def test_dates_times_and_intervals_are_spelled_as_postgresql_does(dsn: str) -> None:
    chance = random.Random(6)
    days = [chance.randrange(-2_440_588, 2_145_042_906) for _ in range(500)] + list(range(-719_600, -718_800, 3))
    micros = [chance.randrange(-210_866_803_200_000_000, 2**63) for _ in range(500)] + [-1, 0, 1]
    intervals = [[chance.choice((0, chance.randrange(-99, 99))) for _ in range(6)] for _ in range(500)]
    iso = [f"P{y}Y{m}M{d}DT{h}H{n}M{s}S" for y, m, d, h, n, s in intervals]
    with connect(dsn) as connection, connection.cursor() as cursor:

        def printed(query: str, values: list[Any]) -> list[str]:
            cursor.execute(query, (values,))
            return [text for (text,) in cursor.fetchall()]

        assert [read("date", d) for d in days] == printed(
            "SELECT (date '1970-01-01' + x)::text FROM unnest(%s) x", days
        )
        split = "x / 86400000000 * interval '1 day' + x %% 86400000000 * interval '1 us'"
        assert [read("timestamp", m) for m in micros] == printed(
            f"SELECT (timestamp '1970-01-01' + ({split}))::text FROM unnest(%s::int8[]) x", micros
        )
        assert [interval_text(text) for text in iso] == printed("SELECT x::interval::text FROM unnest(%s) x", iso)


def test_hstore_and_ranges_are_spelled_as_postgresql_does(dsn: str) -> None:
    need_extension(dsn, "hstore")
    pairs = {"bb": None, "a": 'x"\\', "é": "", "z": "NULL", "aaa": ",", "": "=>"}
    zones = [
        '["2024-01-01 05:30:00.5+05:30","2024-07-01 00:00:00-03:30")',
        '("0044-03-15 05:53:28+05:53:28 BC",infinity)',
    ]
    with connect(dsn) as connection, connection.cursor() as cursor:
        write(cursor, "CREATE EXTENSION hstore SCHEMA public")
        cursor.execute("SELECT public.hstore(%s, %s)::text", (list(pairs), list(pairs.values())))
        assert hstore_text(pairs) == next(cursor)[0]
        cursor.execute("SELECT x::tstzrange::text FROM unnest(%s) x", (zones,))
        assert [ranges_in_utc(zone) for zone in zones] == [text for (text,) in cursor.fetchall()]
