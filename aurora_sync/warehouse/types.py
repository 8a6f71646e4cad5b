"""The declared map from PostgreSQL's types to Snowflake's, as data: code and documentation read the same.

A value arrives as PostgreSQL's own text (UTC, ISO dates, ``\\x`` bytes). A natural type is taken only where
it holds the value exactly; a value that it cannot hold is found by ``misfit`` before anything is merged and
stops the increment, it is never turned into NULL, clamped or rounded. Everything else is the exact text.
"""

from __future__ import annotations

from dataclasses import dataclass

from aurora_sync.increment import Column

TEXT = "VARCHAR"


@dataclass(frozen=True)
class TypeRule:
    """``cast`` and ``misfit`` are SQL over the staged text, which stands at ``{0}``; no ``misfit``: all fit. ``form``
    is the text that source and warehouse make alike of a value (sums.py of each); empty: they cannot."""

    target: str
    cast: str = "{0}"
    misfit: str = ""
    note: str = ""
    form: str = "text"


def _cast(target: str, misfit: str = "", note: str = "", cast: str = "CAST({0} AS %s)", form: str = "text") -> TypeRule:
    return TypeRule(target, cast.replace("%s", target), misfit, note, form)


_NO_TIMESTAMP = "({0} NOT LIKE '____-__-__ __:__:__%' OR {0} LIKE '% BC')"  # infinity, BC, years of 5 digits
# VARIANT holds a number of up to 38 digits exactly and rounds any longer one to a double. Strings may hold
# long runs of digits too, so they are taken out first, after the escapes in them (no backslash in a regular
# expression: engines read those differently). Long are 39 digits, or 39 digits and a point.
_NO_STRINGS = "REGEXP_REPLACE(REPLACE(REPLACE({0}, '\\\\\\\\', ''), '\\\\\"', ''), '\"[^\"]*\"', '')"
_LONG_NUMBER = f"{_NO_STRINGS} <> REGEXP_REPLACE({_NO_STRINGS}, '[0-9]{{{{39}}}}|[0-9.]{{{{40}}}}', '')"

_FLOAT = "CAST(REPLACE({0}, 'Infinity', 'inf') AS %s)"

NATURAL: dict[str, TypeRule] = {
    "int2": _cast("NUMBER(5,0)"),
    "int4": _cast("NUMBER(10,0)"),
    "int8": _cast("NUMBER(19,0)"),
    "oid": _cast("NUMBER(10,0)"),
    "float4": _cast("FLOAT", cast=_FLOAT, note="the double nearest to the text", form=""),
    "float8": _cast("FLOAT", cast=_FLOAT, form=""),
    "bool": _cast("BOOLEAN", form="bool"),
    "date": _cast("DATE", "{0} NOT LIKE '____-__-__'", "not infinity, BC or years after 9999"),
    "time": _cast("TIME(6)", "{0} = '24:00:00'", "not 24:00:00", form="time"),
    "timestamp": _cast("TIMESTAMP_NTZ(6)", _NO_TIMESTAMP, "not infinity, BC or years after 9999", form="timestamp"),
    "timestamptz": _cast(
        "TIMESTAMP_TZ(6)",
        _NO_TIMESTAMP,
        "in UTC; not infinity, BC or years after 9999",
        cast="CAST({0} || ':00' AS %s)",  # the text ends in +00; Snowflake documents +00:00
        form="timestamptz",
    ),
    "bytea": _cast("BINARY", cast="TO_BINARY(SUBSTR({0}, 3), 'HEX')", form="hex"),
    "jsonb": _cast("VARIANT", _LONG_NUMBER, "not numbers of more than 38 digits", cast="PARSE_JSON({0})", form=""),
}

# Why these stay text. A type that is named nowhere stays text too: every output is exact.
AS_TEXT: dict[str, str] = {
    "numeric": "numeric(p,s) with p <= 38 and 0 <= s <= 37 is NUMBER(p,s); any other keeps its exact digits",
    "timetz": "Snowflake has no time with an offset",
    "json": "keeps duplicate keys, their order and spacing",
    "interval": "ISO 8601",
    "uuid": "lower-case canonical form",
    "money": "the source's lc_monetary",
    "bpchar": "with its padding",
    **dict.fromkeys(("text", "varchar", "name", "char", "xml"), "text"),
    **dict.fromkeys(("bit", "varbit"), "digits 0 and 1"),
    **dict.fromkeys(("inet", "cidr", "macaddr", "macaddr8"), "network address"),
    **dict.fromkeys(("point", "line", "lseg", "box", "path", "polygon", "circle"), "PostgreSQL's notation"),
    **dict.fromkeys(("tsvector", "tsquery", "jsonpath"), "PostgreSQL's notation"),
    **dict.fromkeys(("xid", "xid8", "cid", "tid", "pg_lsn", "pg_snapshot", "txid_snapshot"), "system value"),
    **dict.fromkeys(("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"), "range"),
    **dict.fromkeys(("int4multirange", "int8multirange", "nummultirange"), "multirange"),
    **dict.fromkeys(("tsmultirange", "tstzmultirange", "datemultirange"), "multirange"),
}


def type_rule(column: Column, choice: str = "natural") -> TypeRule:
    """The rule for one column; ``choice`` is its entry in ``column_types`` of tables.yaml.

    >>> type_rule(Column("a", 1, "numeric(10,2)", "numeric", base_modifier=655366)).target
    'NUMBER(10,2)'
    """
    if choice == "text":
        return TypeRule(TEXT, note="column_types: text")
    if column.base_type == "numeric":
        return _numeric(column.base_modifier)
    return NATURAL.get(column.base_type) or TypeRule(TEXT, note=AS_TEXT.get(column.base_type, "exact text"))


def _numeric(modifier: int) -> TypeRule:
    # typmod: precision in the high 16 bits, scale in the low 11 as a signed number, plus 4
    precision = ((modifier - 4) >> 16) & 0xFFFF
    scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    if modifier < 0 or precision > 38 or not 0 <= scale <= min(precision, 37):
        return TypeRule(TEXT, note=AS_TEXT["numeric"])
    return _cast(
        f"NUMBER({precision},{scale})",
        "{0} IN ('NaN', 'Infinity', '-Infinity')",
        "not NaN or infinity",
        form="fraction" if scale == precision else "text",
    )


def markdown_table() -> str:
    """The map as a table for the documentation: docs/types.md."""
    lines = ["| PostgreSQL | Snowflake | |", "|---|---|---|"]
    natural = [(name, rule.target, rule.note) for name, rule in NATURAL.items()]
    text = [(name, TEXT, note) for name, note in AS_TEXT.items()]
    lines += [f"| `{name}` | `{target}` | {note} |" for name, target, note in natural + text]
    return "\n".join([*lines, f"| any other type | `{TEXT}` | exact text |"]) + "\n"
