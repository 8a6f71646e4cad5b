"""The map from PostgreSQL's types to Snowflake's, as data that code and documentation share.

A value arrives as PostgreSQL's own text (UTC, ISO dates, ``\\x`` bytes). A natural type is used only when it holds the
value exactly. ``misfit`` finds the values that it cannot hold before anything is merged, and the column's policy
decides about them: no value is turned into NULL, clamped or rounded silently. All other types are stored as the exact
text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aurora_sync.model.column import Column

# The longest text that a VARCHAR of Snowflake holds.
MAX_VALUE_BYTES = 128 * 2**20
TEXT = f"VARCHAR({MAX_VALUE_BYTES})"
# The length of a text whose type has none. It is always written, because Snowflake's own default is going to change
# from this one to the maximum (BCR-2118).
DEFAULT_LENGTH = 16 * 2**20


@dataclass(frozen=True)
class TypeRule:
    """How one type is stored. ``cast`` and ``misfit`` are SQL over the staged text, written ``{0}``; without
    ``misfit`` all values fit. ``nearest`` is the text that ``clamp`` uses for a misfit; empty when the type has no
    nearest value. ``form`` names the text of a value that source and warehouse print alike (sums.py of each); empty
    when they cannot."""

    target: str
    cast: str = "{0}"
    misfit: str = ""
    note: str = ""
    form: str = "text"
    nearest: str = ""
    policy: str = "exact"

    @property
    def is_text(self) -> bool:
        return self.target.startswith("VARCHAR")

    def under(self, policy: str) -> TypeRule:
        """Return this rule under ``policy``. The policies null and clamp replace misfits before the cast, because an
        engine may cast before it evaluates a CASE."""
        if not self.misfit or policy not in ("null", "clamp"):
            return replace(self, policy=policy)
        instead = self.nearest if policy == "clamp" else "NULL"
        fitting = f"(CASE WHEN {self.misfit} THEN {instead} ELSE {{0}} END)"
        return replace(self, cast=self.cast.replace("{0}", fitting), form="", policy=policy)


def _cast(
    target: str,
    misfit: str = "",
    note: str = "",
    cast: str = "CAST({0} AS %s)",
    form: str = "text",
    nearest: str = "",
) -> TypeRule:
    return TypeRule(target, cast.replace("%s", target), misfit, note, form, nearest)


_NO_TIMESTAMP = "({0} NOT LIKE '____-__-__ __:__:__%' OR {0} LIKE '% BC')"  # infinity, BC, years of 5 digits
_EARLY = "({0} = '-infinity' OR {0} LIKE '% BC')"
_NEAREST_TIMESTAMP = (
    f"CASE WHEN {_EARLY} THEN '0001-01-01 00:00:00%s' ELSE '9999-12-31 23:59:59.999999%s' END"  # %s: the offset
)
# VARIANT holds a number of up to 38 digits exactly and rounds a longer one to a double. Strings may contain long runs
# of digits too, so they are removed first, after their escapes. (No backslash in a regular expression: engines read it
# differently.) A number is long with 39 digits, or with 39 digits and a point.
_NO_STRINGS = "REGEXP_REPLACE(REPLACE(REPLACE({0}, '\\\\\\\\', ''), '\\\\\"', ''), '\"[^\"]*\"', '')"
# Few documents have so many digits in a row anywhere, which is quicker to see: only those are searched for strings.
_LONG_NUMBER = (
    "(CASE WHEN {0} = REGEXP_REPLACE({0}, '[0-9.]{{39}}', '') THEN FALSE"
    f" ELSE {_NO_STRINGS} <> REGEXP_REPLACE({_NO_STRINGS}, '[0-9]{{{{39}}}}|[0-9.]{{{{40}}}}', '') END)"
)

_FLOAT = "CAST(REPLACE({0}, 'Infinity', 'inf') AS %s)"

NATURAL: dict[str, TypeRule] = {
    "int2": _cast("NUMBER(5,0)"),
    "int4": _cast("NUMBER(10,0)"),
    "int8": _cast("NUMBER(19,0)"),
    "oid": _cast("NUMBER(10,0)"),
    "float4": _cast("FLOAT", cast=_FLOAT, note="the double nearest to the text", form=""),
    "float8": _cast("FLOAT", cast=_FLOAT, form=""),
    "bool": _cast("BOOLEAN", form="bool"),
    "date": _cast(
        "DATE",
        "{0} NOT LIKE '____-__-__'",
        "not infinity, BC or years after 9999",
        nearest=f"CASE WHEN {_EARLY} THEN '0001-01-01' ELSE '9999-12-31' END",
    ),
    "time": _cast("TIME(6)", "{0} = '24:00:00'", "not 24:00:00", form="time", nearest="'23:59:59.999999'"),
    "timestamp": _cast(
        "TIMESTAMP_NTZ(6)",
        _NO_TIMESTAMP,
        "not infinity, BC or years after 9999",
        form="timestamp",
        nearest=_NEAREST_TIMESTAMP.replace("%s", ""),
    ),
    "timestamptz": _cast(
        "TIMESTAMP_TZ(6)",
        _NO_TIMESTAMP,
        "in UTC; `timestamptz: ltz` and `ntz` choose another type; not infinity, BC or years after 9999",
        cast="CAST({0} || ':00' AS %s)",  # the text ends in +00; Snowflake documents +00:00
        form="timestamptz",
        nearest=_NEAREST_TIMESTAMP.replace("%s", "+00"),
    ),
    "bytea": _cast(f"BINARY({MAX_VALUE_BYTES // 2})", cast="TO_BINARY(SUBSTR({0}, 3), 'HEX')", form="hex"),
    "jsonb": _cast("VARIANT", _LONG_NUMBER, "not numbers of more than 38 digits", cast="PARSE_JSON({0})", form=""),
}
# The rules for timestamptz by the option of this name in tables.yaml. A text in another zone than UTC, which files of
# DMS may contain, is converted to UTC by the time zone of the session.
_TIMESTAMPTZ = {
    "tz": NATURAL["timestamptz"],
    "ltz": replace(NATURAL["timestamptz"], target="TIMESTAMP_LTZ(6)", cast="CAST({0} || ':00' AS TIMESTAMP_LTZ(6))"),
    "ntz": replace(
        NATURAL["timestamptz"],
        target="TIMESTAMP_NTZ(6)",
        cast="CAST(CAST({0} || ':00' AS TIMESTAMP_LTZ(6)) AS TIMESTAMP_NTZ(6))",
    ),
}
# The option under which a column of timestamptz got its type, by the type that ddl.existing_columns() reports.
TIMESTAMPTZ_OPTIONS = {rule.target.partition("(")[0]: option for option, rule in _TIMESTAMPTZ.items()}
# Elements that are numbers or booleans are so in JSON; all others are PostgreSQL's text. source/copy_out.py writes the
# JSON. An array whose subscripts do not begin at 1 has no JSON form, and is left as PostgreSQL prints it.
ARRAY = _cast(
    "ARRAY",
    "{0} LIKE '%}}'",
    "elements as numbers, booleans or text; not arrays whose subscripts do not begin at 1",
    cast="CAST(PARSE_JSON({0}) AS %s)",
    form="",
)

# Why these types stay text. A type that is not listed anywhere is stored as its exact text too.
AS_TEXT: dict[str, str] = {
    "numeric": "numeric(p,s) with p <= 38 and 0 <= s <= 37 is NUMBER(p,s); any other keeps its exact digits",
    "timetz": "Snowflake has no time with an offset",
    "json": "keeps duplicate keys, their order and spacing",
    "interval": "ISO 8601",
    "uuid": "lower-case canonical form",
    "money": "formatted by lc_monetary of the source",
    "bpchar": "padded with spaces to the length of the column",
    **dict.fromkeys(("text", "varchar", "name", "char", "xml"), "text"),
    **dict.fromkeys(("bit", "varbit"), "digits 0 and 1"),
    **dict.fromkeys(("inet", "cidr", "macaddr", "macaddr8"), "network address"),
    **dict.fromkeys(("point", "line", "lseg", "box", "path", "polygon", "circle"), "PostgreSQL's notation"),
    **dict.fromkeys(("tsvector", "tsquery", "jsonpath"), "PostgreSQL's notation"),
    **dict.fromkeys(("xid", "xid8", "cid", "tid", "pg_lsn", "pg_snapshot", "txid_snapshot"), "system value"),
    **dict.fromkeys(
        ("regclass", "regtype", "regproc", "regprocedure", "regrole", "regnamespace"),
        "the current name; after a rename the whole table is read again",
    ),
    **dict.fromkeys(("int4range", "int8range", "numrange", "tsrange", "tstzrange", "daterange"), "range"),
    **dict.fromkeys(("int4multirange", "int8multirange", "nummultirange"), "multirange"),
    **dict.fromkeys(("tsmultirange", "tstzmultirange", "datemultirange"), "multirange"),
}


# Other names of types that a user may write under ``types:``.
ALIASES = {
    "smallint": "int2",
    "integer": "int4",
    "int": "int4",
    "bigint": "int8",
    "real": "float4",
    "double precision": "float8",
    "boolean": "bool",
    "decimal": "numeric",
    "time without time zone": "time",
    "time with time zone": "timetz",
    "timestamp without time zone": "timestamp",
    "timestamp with time zone": "timestamptz",
    "character varying": "varchar",
    "character": "bpchar",
    "bit varying": "varbit",
}
NAMES = (*NATURAL, *AS_TEXT, "array")


# A value's text by its form, as source/sums.py prints it. DuckDB omits zeros at the end of a fraction of a second, and
# the zero before the point of a numeric(2,2). Snowflake prints by the output formats of its session.
_TIME = "SUBSTR({0}, 1, {1}) || '.' || RPAD(SUBSTR({0}, {1} + 2), 6, '0')"
FORMS = {
    "text": "CAST({0} AS VARCHAR)",
    "fraction": "LTRIM(REPLACE(REPLACE(' ' || CAST({0} AS VARCHAR), ' .', ' 0.'), ' -.', ' -0.'))",
    "bool": "CASE WHEN {0} THEN 't' WHEN NOT {0} THEN 'f' END",
    "time": _TIME.format("CAST({0} AS VARCHAR)", 8),
    "timestamp": _TIME.format("CAST({0} AS VARCHAR)", 19),
    "timestamptz": _TIME.format("CAST(CAST({0} AS TIMESTAMP_NTZ(6)) AS VARCHAR)", 19),
    "hex": "LOWER(HEX_ENCODE({0}))",
}
_TRIMMED = "RTRIM(RTRIM({0}, '0'), '.')"
# A cast prints a FLOAT like PostgreSQL, but Snowflake's loses digits of some, and DuckDB adds a point and a zero. 'TME'
# prints all digits, as 1.5E0.
_SHORT_FLOAT = "REPLACE(REPLACE(CAST({0} AS VARCHAR) || '|', '.0|', '|'), '|', '')"
_PRINTED_FLOAT = (
    "CASE WHEN {0} = CAST('NaN' AS FLOAT) THEN 'NaN' WHEN {0} = CAST('inf' AS FLOAT) THEN 'Infinity'"
    " WHEN {0} = CAST('-inf' AS FLOAT) THEN '-Infinity'"
    f" WHEN CAST(CAST({{0}} AS VARCHAR) AS FLOAT) = {{0}} THEN {_SHORT_FLOAT} ELSE TO_VARCHAR({{0}}, 'TME') END"
)
_PRINTED_TIMESTAMPTZ = _TRIMMED.format(FORMS["timestamptz"]) + " || '+00'"
# SQL for PostgreSQL's text of a value, by the type that ddl.existing_columns() reports.
_PRINTED = {
    "FLOAT": _PRINTED_FLOAT,
    "NUMBER": FORMS["fraction"],
    "BOOLEAN": FORMS["bool"],
    "TIME": _TRIMMED.format(FORMS["time"]),
    "TIMESTAMP_NTZ": _TRIMMED.format(FORMS["timestamp"]),
    "TIMESTAMP_TZ": _PRINTED_TIMESTAMPTZ,
    "TIMESTAMP_LTZ": _PRINTED_TIMESTAMPTZ,
    "BINARY": "'\\\\x' || " + FORMS["hex"],
    "VARIANT": "TO_JSON({0})",
    "ARRAY": "TO_JSON({0})",
}


def printed(reported: str, value: str, column: Column) -> str:
    """Return SQL for the text that PostgreSQL prints for a value of the warehouse. ``column`` is that of the source."""
    type_ = reported.split("(")[0]
    if type_ == "TIMESTAMP_NTZ" and column.base_type == "timestamptz":
        return _PRINTED_TIMESTAMPTZ.format(value)
    return _PRINTED.get(type_, FORMS["text"]).format(value)


def type_rule(column: Column, timestamptz: str = "tz") -> TypeRule:
    """Return the rule for one column under its policy. ``timestamptz`` is the option of this name in tables.yaml.

    >>> type_rule(Column("a", 1, "numeric(10,2)", "numeric", base_modifier=655366)).target
    'NUMBER(10,2)'
    """
    if column.policy == "text":
        return as_text.under(column.policy)
    rule = _TIMESTAMPTZ[timestamptz] if column.base_type == "timestamptz" else _natural(column)
    return rule.under(column.policy)


as_text = TypeRule(TEXT, note="exact text")
# The texts of their values are short.
_SHORT = ("numeric", "date", "time", "timestamp", "timestamptz")


def widened(column: Column) -> TypeRule:
    """Return the rule of a column with a value that its natural type cannot hold."""
    if column.base_type in _SHORT:
        return replace(as_text, target=f"VARCHAR({DEFAULT_LENGTH})")
    return as_text


def sized(rule: TypeRule, column: Column, *, has: int | None, longest: bool) -> TypeRule:
    """Return the rule with the length of its text in the target. ``has`` is the length of the existing column, which is
    never reduced; None when it is not known. ``longest``: the maximum is wanted.

    Snowflake counts the length in characters, as PostgreSQL does. A misfit counts bytes, which are never fewer.
    """
    if not rule.is_text:
        return rule
    declared = _declared_length(column)
    wanted = MAX_VALUE_BYTES if longest else declared or min(_length(rule), DEFAULT_LENGTH)
    length = max(wanted, has or 0)
    rule = replace(rule, target=f"VARCHAR({length})")
    if length >= MAX_VALUE_BYTES or (declared or length + 1) <= length:
        return rule
    checked = replace(rule, misfit=f"OCTET_LENGTH({{0}}) > {length}", nearest=f"SUBSTR({{0}}, 1, {length // 4})")
    policy = "exact" if rule.policy == "text" else rule.policy  # both keep every value
    return replace(checked.under(policy), form=rule.form)


def length_of(type_: str) -> int | None:
    """Return the length of a text type; None when it has none.

    >>> length_of("VARCHAR(20)"), length_of("VARCHAR"), length_of("NUMBER(5,0)")
    (20, None, None)
    """
    name, _, rest = type_.partition("(")
    return int(rest.partition(")")[0]) if name == "VARCHAR" and rest else None


def _length(rule: TypeRule) -> int:
    return length_of(rule.target) or MAX_VALUE_BYTES


def _declared_length(column: Column) -> int | None:
    """Return n of varchar(n) and character(n)."""
    return column.base_modifier - 4 if column.base_type in ("varchar", "bpchar") and column.base_modifier > 4 else None


def type_key(column: Column) -> str:
    """Return the name of the column's type in ``types:`` and in the map."""
    return "array" if column.is_array else column.base_type


def may_misfit(column: Column) -> bool:
    """Return whether some values do not fit the column's natural type."""
    return bool(_natural(column).misfit)


def has_nearest(column: Column) -> bool:
    """Return whether ``clamp`` applies to the column's type: it is ordered, or text that can be cut."""
    rule = _natural(column)
    return bool(rule.nearest) or (rule.is_text and column.base_type in ("text", "varchar"))


def _natural(column: Column) -> TypeRule:
    if column.base_type == "numeric":
        return _numeric(column.base_modifier)
    if column.is_array:
        return ARRAY
    return NATURAL.get(column.base_type) or replace(as_text, note=AS_TEXT.get(column.base_type, as_text.note))


def _numeric(modifier: int) -> TypeRule:
    # typmod: precision in the high 16 bits, scale in the low 11 as a signed number, plus 4
    precision = ((modifier - 4) >> 16) & 0xFFFF
    scale = (((modifier - 4) & 0x7FF) ^ 1024) - 1024
    if modifier < 0 or precision > 38 or not 0 <= scale <= min(precision, 37):
        return replace(as_text, note=AS_TEXT["numeric"])
    return _cast(
        f"NUMBER({precision},{scale})",
        "{0} IN ('NaN', 'Infinity', '-Infinity')",
        "not NaN or infinity",
        form="fraction" if scale == precision else "text",
    )


def markdown_table() -> str:
    """Return the map as a table for the documentation: docs/types.md."""
    lines = ["| PostgreSQL | Snowflake | |", "|---|---|---|"]
    natural = [(f"`{name}`", rule.target, rule.note) for name, rule in NATURAL.items()]
    natural.append(("arrays", ARRAY.target, ARRAY.note))
    text = [(f"`{name}`", "VARCHAR", note) for name, note in AS_TEXT.items()]
    lines += [f"| {name} | `{target}` | {note} |" for name, target, note in natural + text]
    return "\n".join([*lines, "| any other type | `VARCHAR` | exact text |"]) + "\n"
