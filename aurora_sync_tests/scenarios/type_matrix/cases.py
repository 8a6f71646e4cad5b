"""Every type, with values that break other tools. Values are SQL, so that PostgreSQL defines them. ``unfit`` are the
values that the natural type of the warehouse cannot hold, each with the result of ``clamp``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    type: str
    exact: tuple[str, ...]
    unfit: dict[str, str | None] = field(default_factory=dict)
    before: str = ""  # statements that create the type
    since: int = 13  # the first major version that has the type
    infinite_since: int = 13  # the first major version in which the type has infinite values

    def __str__(self) -> str:
        return self.type

    @property
    def extension(self) -> str:
        return self.before.removeprefix("CREATE EXTENSION ") if self.before.startswith("CREATE EXTENSION ") else ""

    @property
    def type_name(self) -> str:
        """The name of the type under ``types:`` in tables.yaml."""
        return "array" if self.type.endswith("[]") else self.type.partition("(")[0]


def texts(*values: str) -> tuple[str, ...]:
    return tuple("'" + value.replace("'", "''") + "'" for value in values)


_FLOATS = texts("0", "-0", "NaN", "Infinity", "-Infinity")
_STRINGS = (
    *texts("", " ", "a'b", 'say "hi"', "\\", "\\N", "\\\\N", "NULL", "a,b", "a\tb", "tab\\t", "ends in \\"),
    *(
        "E'line\\nbreak'",
        "E'cr\\rlf\\r\\n'",
        "E'\\x01\\x7f'",
        "E'\\u00a0\\u2028\\u200b'",
        "U&'\\+01F600'",
        "'日本語 é ß'",
    ),
    *("repeat('x', 100000)", "E'e\\u0301'", "'\"'", "'\"\"'", "E'\\n'", "E'\\ufeffbom'"),
)
_LONG_STRINGS = (
    "repeat('0123456789', 1048576)",
    "(SELECT string_agg(chr(i), '') FROM generate_series(1, 1114111) i WHERE i NOT BETWEEN 55296 AND 57343)",
)
_DATES = texts("2024-02-29", "1970-01-01", "0001-01-01", "9999-12-31", "1582-10-10", "1900-03-01")


def _far(first: str | None, last: str | None) -> dict[str, str | None]:
    late, early = texts("infinity", "10000-01-01"), texts("-infinity", "0044-03-15 BC")
    return {**dict.fromkeys(late, last), **dict.fromkeys(early, first)}


_STAMPS = texts(
    "2024-02-29 23:59:59.999999", "1970-01-01 00:00:00", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"
)
_JSON = texts(
    "{}",
    "[]",
    "null",
    '"text"',
    "1",
    "-0.10",
    "1e10",
    "12345678901234567890123456789012345678",
    '{"a": {"b": [1, null, true, "x"]}}',
    '{"a": "\\u00e9\\n\\"\\\\"}',
    '"12345678901234567890123456789012345678901234567890"',
)
_LONG_JSON = texts("1234567890123456789012345678901234567890", "0.1234567890123456789012345678901234567890", "1e300")


def _bounds(*values: str) -> dict[str, str | None]:
    return dict.fromkeys(texts(*values))


CASES = [
    Case("int2", texts("0", "-32768", "32767")),
    Case("int4", texts("0", "-2147483648", "2147483647")),
    Case("int8", texts("0", "-9223372036854775808", "9223372036854775807", "9007199254740993")),
    Case("oid", texts("0", "4294967295")),
    Case("float4", (*_FLOATS, *texts("1.17549435e-38", "1e-45", "3.4028235e38", "0.1", "16777217"))),
    Case("float8", (*_FLOATS, *texts("2.2250738585072014e-308", "5e-324", "1.7976931348623157e308", "0.1", "1e22"))),
    Case(
        "numeric",
        (
            *texts("0", "-0.0", "1.10", "NaN", "Infinity", "-Infinity", "1e-20", "0.000000000000000000000000000001"),
            *("('1' || repeat('0', 999))::numeric", "('0.' || repeat('0', 998) || '1')::numeric"),
        ),
        infinite_since=14,
    ),
    Case("numeric(38,0)", ("repeat('9', 38)::numeric", "-repeat('9', 38)::numeric"), {"'NaN'": None}),
    Case("numeric(38,37)", ("('9.' || repeat('9', 37))::numeric", "'0'"), {"'NaN'": None}),
    Case("numeric(10,2)", texts("0", "-0.01", "99999999.99", "1.5"), {"'NaN'": None}),
    Case("numeric(5,-2)", texts("1234500", "-100", "49"), since=15),
    Case("numeric(3,5)", texts("0.00999", "-0.00001"), since=15),
    Case("numeric(1000,500)", ("repeat('9', 500)::numeric",)),
    Case("money", texts("0", "-92233720368547758.08", "92233720368547758.07")),
    Case("bool", texts("t", "f")),
    Case("date", _DATES, _far("0001-01-01", "9999-12-31")),
    Case("time", texts("00:00:00", "23:59:59.999999", "12:00:00.1"), {"'24:00:00'": "23:59:59.999999"}),
    Case("timetz", texts("00:00:00+00", "23:59:59.999999-15:59:59", "24:00:00+05:30", "12:00:00+00:19:32")),
    Case("timestamp", _STAMPS, _far("0001-01-01 00:00:00", "9999-12-31 23:59:59.999999")),
    Case(
        "timestamptz",
        (
            *_STAMPS,
            *texts("2024-03-31 02:30:00 Europe/Berlin", "1880-01-01 00:00:00 Europe/Amsterdam"),
            *texts("2024-10-27 02:30:00+02", "2024-10-27 02:30:00+01", "1900-01-01 00:00:00-00:19:32"),
        ),
        _far("0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
    ),
    Case(
        "interval",
        texts(
            *("0", "1 year -2 mons 3 days -04:05:06.789", "-178000000 years", "1 month -1 day 00:00:00.000001"),
            *("P1Y2M3DT4H5M6S", "1 day ago", "infinity", "-infinity"),
        ),
        infinite_since=17,
    ),
    Case("text", (*_STRINGS, *_LONG_STRINGS)),
    Case("varchar(100000)", _STRINGS),
    Case("char(5)", texts("", "a", "abcde", "a  b")),
    Case('"char"', texts("a", "", "\\")),
    Case("name", texts("relname", "")),
    Case("bytea", ("''", "'\\x00'", "'\\xdeadbeef'", "'\\x5c4e'", "decode(repeat('00ff', 5000000), 'hex')")),
    Case("json", (*_JSON, *_LONG_JSON, *texts('{"a": 1, "a": 2}', ' {"b" :1}', '"\\u0000"'))),
    Case("jsonb", _JSON, dict.fromkeys(_LONG_JSON)),
    Case("uuid", texts("00000000-0000-0000-0000-000000000000", "FFFFFFFF-ffff-4fff-8fff-ffffffffffff")),
    Case("bit(3)", texts("000", "101")),
    Case("varbit", texts("", "1", "10101010101")),
    Case("inet", texts("10.0.0.1", "10.0.0.1/8", "::1", "2001:db8::/32")),
    Case("cidr", texts("10.0.0.0/8", "2001:db8::/32")),
    Case("macaddr", texts("08:00:2b:01:02:03")),
    Case("macaddr8", texts("08:00:2b:01:02:03:04:05")),
    Case("point", texts("(0.1,-0)", "(Infinity,NaN)")),
    Case("line", texts("{1,-1,0.1}")),
    Case("lseg", texts("[(0,0),(1,1e-300)]")),
    Case("box", texts("(1,1),(0,-0)")),
    Case("path", texts("((0,0),(1,1))", "[(0,0),(1,1)]")),
    Case("polygon", texts("((0,0),(1,1),(1,0))")),
    Case("circle", texts("<(0,0),1e-300>")),
    Case("tsvector", texts("a:1A b:2,3 'it''s'", "")),
    Case("tsquery", texts("a & !b | c:*")),
    Case("jsonpath", texts("$.a[*] ? (@ > 1)")),
    Case("pg_lsn", texts("FFFFFFFF/FFFFFFFF", "0/0")),
    Case("xid", texts("4294967295")),
    Case("xid8", texts("18446744073709551615")),
    Case("cid", texts("0")),
    Case("tid", texts("(4294967295,65535)")),
    Case("pg_snapshot", texts("10:20:10,14,15")),
    Case("txid_snapshot", texts("10:20:10,14,15")),
    Case("refcursor", texts("c1")),
    Case("aclitem", texts("=r/pg_monitor")),
    Case("regclass", texts("pg_catalog.pg_class", "-")),
    Case("regtype", texts("timestamp with time zone", "integer[]")),
    Case("regproc", texts("now")),
    Case("regprocedure", texts("lower(text)")),
    Case("regoper", texts("||/")),
    Case("regoperator", texts("+(integer,integer)")),
    Case("regrole", texts("pg_monitor")),
    Case("regnamespace", texts("pg_catalog")),
    Case("regcollation", texts('"C"')),
    Case("regconfig", texts("english")),
    Case("regdictionary", texts("simple")),
    Case("int4range", texts("[1,5)", "empty", "(,)")),
    Case("int8range", texts("[1,9223372036854775807)")),
    Case("tsrange", texts('["0044-01-01 BC",infinity)')),
    Case("numrange", texts("(0.1,1e100]", "[,NaN]")),
    Case("tstzrange", texts('["2024-01-01 00:00:00+05:30",infinity]')),
    Case("daterange", texts("[2024-01-01,)")),
    Case("int4multirange", texts("{[1,2),[5,7)}", "{}"), since=14),
    Case("int8multirange", texts("{[1,2)}"), since=14),
    Case("nummultirange", texts("{(,0.10],[1e30,NaN]}"), since=14),
    Case("datemultirange", texts("{[2024-01-01,2024-01-02)}"), since=14),
    Case("tstzmultirange", texts("{[2024-01-01 00:00:00+00,2024-01-02 00:00:00+00)}"), since=14),
    Case("tsmultirange", texts("{[2024-01-01,2024-01-02)}"), since=14),
    Case("int4[]", texts("{}", "{1,NULL,-3}", "{{1,2},{3,4}}"), _bounds("[0:1]={5,6}", "[-2:-1][5:5]={{1},{2}}")),
    Case("int8[]", texts("{9223372036854775807}")),
    Case("bool[]", texts("{t,f,NULL}")),
    Case("float8[]", texts("{0.1,NaN,Infinity,5e-324,1.7976931348623157e308}", "{1,-0}", "{-0}")),
    Case(
        "text[]", texts("{}", '{"a,b",NULL,"NULL","","\\"","\\\\"}', '{{"{}","x y"}}', '{"]}"}'), _bounds("[0:0]={a}")
    ),
    Case("numeric[]", texts("{1.10,NaN,1e-20,123456789012345678901234567890123456789012345}")),
    Case("timestamptz[]", texts('{infinity,"2024-01-01 00:00:00+00",NULL}')),
    Case("bytea[]", texts('{"\\\\x00ff",NULL}')),
    Case("jsonb[]", texts('{"{\\"a\\": 1}","null",NULL}')),
    Case("box[]", texts("{(1,1),(0,0);(2,2),(1,1)}")),
    Case("int2vector", texts("1 2")),
    Case("mood", texts("sad", 'it\'s "ok"'), before="CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\"')"),
    Case(
        "inner_domain",
        texts("1", "3"),
        before="CREATE DOMAIN d AS int4; CREATE DOMAIN inner_domain AS d CHECK (VALUE > 0)",
    ),
    Case("pair", texts('(1,"a ""b"", c")', "(,)", '(1,"")'), before="CREATE TYPE pair AS (n int, t text)"),
    Case("pair[]", texts('{"(1,a)",NULL}'), before="CREATE TYPE pair AS (n int, t text)"),
    Case("span", texts("[1.5,2)"), before="CREATE TYPE span AS RANGE (subtype = float8)"),
    Case("hstore", texts('a=>1, b=>NULL, "c \\"d\\""=>"x,y"', ""), before="CREATE EXTENSION hstore"),
    Case("citext", texts("Straße", ""), before="CREATE EXTENSION citext"),
    Case("ltree", texts("Top.Science", ""), before="CREATE EXTENSION ltree"),
]

# Only a server built with libxml has it.
XML = Case("xml", texts('<a b="c">&lt;d/&gt;</a>', "text <b/>"))

# These cannot be types of a table's column.
INTERNAL = {"gtsvector", "pg_brin_bloom_summary", "pg_brin_minmax_multi_summary", "pg_dependencies"} | {
    "pg_mcv_list",
    "pg_ndistinct",
    "pg_node_tree",
}


def markdown_table() -> str:
    """Return the size of the matrix, for docs/types.md."""
    exact, unfit = sum(len(case.exact) for case in CASES), sum(len(case.unfit) for case in CASES)
    nearest = [value for case in CASES for value in case.unfit.values() if value]
    misfits = sum(bool(case.unfit) for case in CASES)
    return (
        "| what | types | values |\n|---|---|---|\n"
        f"| arrive exactly in the column's natural type | {len(CASES)} | {exact} |\n"
        f"| beyond the natural type: exact in a column that becomes text (`exact`, `text`) | {misfits} | {unfit} |\n"
        f"| the same under `fail`: refused, nothing merged | {misfits} | {unfit} |\n"
        f"| the same under `null`: NULL, counted and reported | {misfits} | {unfit} |\n"
        f"| the same under `clamp`, where there is a nearest value: that | {len(CLAMPED)} | {len(nearest)} |\n"
    )


UNFIT = [case for case in CASES if case.unfit]
CLAMPED = [case for case in UNFIT if any(case.unfit.values())]
