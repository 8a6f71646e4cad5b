"""Every type with values that break other tools, from the type matrix, and with values that break Debezium."""

from __future__ import annotations

from dataclasses import dataclass

from aurora_sync_tests.scenarios.type_matrix.cases import CASES, texts


@dataclass(frozen=True)
class Type:
    type: str
    values: tuple[str, ...]


# These stop the connector, which everybody notices: offsets with seconds; arrays of composite types, of numeric with
# NaN, and of enums with NULL.
_STOPS = {"timetz", "pair[]", "numeric[]"}
_LONG = ("repeat('x', 100000)", "repeat('0123456789'", "1114111", "5000000")
MADE = "; ".join(sorted({case.before for case in CASES if case.before}))
_MORE = [
    Type("timetz", texts("12:00:00+02", "12:00:00.1+00")),
    Type("numeric[]", texts("{1.10,0.00000000000000000001,NULL}", "{}")),
    Type("time(3)", texts("12:00:00.123", "24:00:00")),
    Type("time(0)", texts("12:00:00")),
    Type(
        "timestamp(3)",
        texts("2024-02-29 12:00:00.123", "infinity", "-infinity", "0044-03-15 BC", "1960-01-01 00:00:00.001"),
    ),
    Type("timestamp(0)", texts("2024-02-29 12:00:00")),
    Type("timestamp(6)", texts("1960-01-01 00:00:00.000001", "294247-01-10 04:00:54.7", "4713-01-01 BC")),
    Type("timestamptz(3)", texts("2024-02-29 12:00:00.12+01", "294276-12-31 23:59:59.999+00", "4713-02-02 BC")),
    Type("date", texts("5874897-12-31", "4713-01-01 BC", "0001-12-31 BC", "0001-01-01")),
    Type("interval", texts("1.5 s", "-1.000001 s", "100 h", "1 mon -1 day", "14 mons", "-14 mons", "00:00:59.999999")),
    Type("bit(12)", texts("000000000001", "100000000000", "000000000000")),
    Type("bit(1)", texts("0", "1")),
    Type("point", texts("(1.5,-0)", "(1e300,Infinity)")),
    Type(
        "tstzrange",
        texts('["0044-03-15 BC",infinity)', '[,"2024-07-01 00:00:00.123456+00")', "empty", '["1880-01-01",)'),
    ),
    Type("int2[]", texts("{1,NULL}")),
    Type("oid[]", texts("{4294967295}")),
    Type("float4[]", texts("{0.1,1e20,-0,1e-45}")),
    Type("uuid[]", texts("{00000000-0000-0000-0000-000000000000}")),
    Type("inet[]", texts("{10.0.0.1/8,::1}")),
    Type("int4range[]", texts('{"[1,2)",empty}')),
    Type("tstzrange[]", texts('{"[2024-01-01,)"}')),
    Type("char(5)[]", texts("{a,NULL}")),
    Type("varchar(5)[]", texts('{a," b","c,d",nUll}')),
    Type("citext[]", texts('{Ab,"b,c",NULL}')),
    Type("hstore[]", texts('{"a=>1,bb=>NULL",NULL}')),
    Type("json[]", texts('{"{\\"a\\": 1}"}')),
    Type("mood[]", texts("{sad}")),
    Type("timestamp[]", texts('{"2024-01-01"}')),
    Type("date[]", texts("{2024-01-01}")),
    Type("time[]", texts("{12:00:00}")),
]
# Debezium sends these arrays without their subscripts; Modes.plain_arrays declares that there are none.
_NOT_PLAIN = {
    *texts("[0:1]={5,6}", "[-2:-1][5:5]={{1},{2}}", "{{1,2},{3,4}}", "[0:0]={a}", '{{"{}","x y"}}'),
}
# Types whose values cannot be trusted under any configuration of the connector.
REFUSED = {
    *("money", "timetz", "varbit", "line", "lseg", "box", "path", "polygon", "circle", "aclitem", "pair", "span"),
    *("regclass", "regtype", "regproc", "regprocedure", "regoper", "regoperator", "regrole", "regnamespace"),
    *("regcollation", "regconfig", "regdictionary", "int2vector"),
    *("timestamptz[]", "timestamp[]", "date[]", "time[]", "box[]"),
}


def _types() -> dict[str, Type]:
    types = [Type(c.type, (*c.exact, *c.unfit)) for c in CASES if c.type not in _STOPS] + _MORE
    dropped = (*_LONG, *_NOT_PLAIN)
    kept = [Type(t.type, tuple(v for v in t.values if not any(part in v for part in dropped))) for t in types]
    return {f"t{number}": type_ for number, type_ in enumerate(kept)}


TYPES = _types()
_TOASTED = {
    "text": "string_agg(md5(i::text), '')",
    "varchar": "string_agg(md5(i::text), '')",
    "char(9000)": "string_agg(md5(i::text), '')::char(9000)",
    "citext": "string_agg(md5(i::text), '')",
    "bytea": "decode(string_agg(md5(i::text), ''), 'hex')",
    "json": "to_json(array_agg(md5(i::text)))",
    "jsonb": "to_jsonb(array_agg(md5(i::text)))",
    "numeric": "string_agg(((i * 7919) % 100007)::text, '')::numeric",
    "numrange": "numrange(('0.' || string_agg(((i * 7919) % 100007)::text, ''))::numeric, NULL)",
    "hstore": "hstore(array_agg(md5(i::text)), array_agg(md5(i::text)))",
    "tsvector": "to_tsvector('simple', string_agg(md5(i::text), ' '))",
    "ltree": "text2ltree(string_agg(md5(i::text), '.'))",
    "int4multirange": "range_agg(int4range(i * 2, i * 2 + 1))",
    "int4[]": "array_agg(i)",
    "int8[]": "array_agg(i::int8)",
    "text[]": "array_agg(md5(i::text))",
    "varchar[]": "array_agg(md5(i::text))",
    "json[]": "array_agg(to_json(i))",
    "jsonb[]": "array_agg(to_jsonb(md5(i::text)))",
    "uuid[]": "array_agg(md5(i::text)::uuid)",
    "char(5)[]": "array_agg('a'::char(5))",
    "int2[]": "array_agg(i::int2)",
    "float8[]": "array_agg(i * 1.5)",
    "bool[]": "array_agg(i % 2 = 0)",
    "numeric[]": "array_agg(i * 1.5)",
    "bytea[]": "array_agg(decode(md5(i::text), 'hex'))",
    "inet[]": "array_agg('10.0.0.0'::inet + i)",
    "citext[]": "array_agg(md5(i::text)::citext)",
    "int4range[]": "array_agg(int4range(i, i + 1))",
    "bit(60000)": "string_agg('10110101110100110101', '')::bit(60000)",
}
TOASTED = {f"x{number}": Type(type_, (value,)) for number, (type_, value) in enumerate(_TOASTED.items())}
# An unchanged value of these types is sent as NULL, or stops a connector that is configured to fail.
HIDDEN = {"int2[]", "float8[]", "bool[]", "numeric[]", "inet[]", "citext[]", "int4range[]", "bit(60000)"}
