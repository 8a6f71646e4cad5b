"""The statements that compute net changes (changes.py) from the files of a DMS task, in the warehouse.

The raw table holds the files' rows as text, under the names of the source's columns. Rows of a full load have no change
sequence and come before all others. An update of the key becomes a delete of the old key, which has columns of its own,
and an upsert of the new key. Keys are compared by a text that is the same for equal keys (model/keys.py).

When the log did not repeat values (TOAST), a net row takes each column from the newest change of its key that has it. A
column that no change has is left unchanged in the target. A change of the key that lacks values begins a new part,
because it takes those values from the target's row with the old key, as the earlier changes left it.
"""

# ruff: noqa: S608 - every name went through identifier(), every value is a constant of ours

from __future__ import annotations

from collections.abc import Sequence

from aurora_sync.model.dms_columns import BEFORE, OP, SEQUENCE, TIMESTAMP, UNCHANGED
from aurora_sync.warehouse import merge
from aurora_sync.warehouse.ddl import Layout, TableName, TargetColumn, create_staging_table, identifier, literal

_OP, _SEQ, _TIME = (identifier(name) for name in (OP, SEQUENCE, TIMESTAMP))
# DMS numbers changes with 35 digits.
_NO_SEQ = "0" * 35
_DIGITS = len(_NO_SEQ)
_IS_UNCHANGED = f"= '{UNCHANGED}'"


def raw_table(layout: Layout) -> TableName:
    return TableName(layout.staging.schema, f"{layout.staging.name}_RAW")


def raw_columns(layout: Layout) -> list[str]:
    names = [column.source.name for column in layout.columns] + [OP, SEQUENCE, TIMESTAMP]
    return names + [BEFORE + column.source.name for column in layout.key]


def create_raw(layout: Layout) -> str:
    return create_staging_table(raw_table(layout), raw_columns(layout))


def mixed_table(layout: Layout) -> TableName:
    return TableName(layout.staging.schema, f"{layout.staging.name}_MIXED")


def create_mixed(layout: Layout, width: int) -> str:
    """Create the table for the rows of all tables, as transaction folders hold them."""
    return create_staging_table(mixed_table(layout), [f"C{place}" for place in range(1, width + 1)])


def pick(layout: Layout, table: tuple[str, str], fields: Sequence[str]) -> str:
    """Copy the rows of one table (schema, name) to the raw table. ``fields`` are the names of a row's fields after
    operation, table and schema. A row with another number of fields gets no change sequence."""
    places = {name: f"C{place}" for place, name in enumerate(fields, 4)}
    sequence, beyond = places[SEQUENCE], f"C{len(fields) + 4}"
    is_sequence = f"LENGTH({sequence}) = {_DIGITS} AND {_is_number(sequence)}"
    wanted = {column.source.name: places[column.source.name] for column in layout.columns}
    for before in [BEFORE + column.source.name for column in layout.key if BEFORE + column.source.name in places]:
        # The order of several old keys is not documented; an INSERT has NULL in all of them.
        place = places[before]
        wanted[before] = place if len(layout.key) == 1 else f"CASE WHEN C1 = 'I' THEN {place} END"
    wanted |= {OP: "C1", SEQUENCE: f"CASE WHEN {is_sequence} AND {beyond} IS NULL THEN {sequence} END"}
    schema, name = table
    return (
        f"INSERT INTO {raw_table(layout).sql} ({', '.join(map(identifier, wanted))})"
        f" SELECT {', '.join(wanted.values())}"
        f" FROM {mixed_table(layout).sql} WHERE C2 = {literal(name)} AND C3 = {literal(schema)}"
    )


def survey(layout: Layout) -> str:
    """Select the text that the task writes for NULL, if it writes one; the number of rows without a known operation and
    without a change sequence; the oldest time of a change; and the newest change sequence.

    Only updates have an old key, and rows of a full load have no change sequence: a text in these fields stands for
    NULL.
    """
    texts = [f"NULLIF(r.{identifier(BEFORE + column.source.name)}, '{UNCHANGED}')" for column in layout.key]
    texts.append(f"CASE WHEN NOT {_is_number(f'r.{_SEQ}')} THEN r.{_SEQ} END")
    return (
        f"SELECT MIN(CASE WHEN r.{_OP} = 'I' THEN COALESCE({', '.join(texts)}) END),"
        f" COUNT(CASE WHEN {_OP} IN ('I', 'U', 'D') THEN NULL ELSE 1 END),"
        f" COUNT(CASE WHEN COALESCE({_SEQ}, '') = '' THEN 1 END),"
        f" MIN(CASE WHEN {_SEQ} <> '' THEN {_TIME} END), MAX(NULLIF({_SEQ}, '')) FROM {raw_table(layout).sql} AS r"
    )


def drop_older(layout: Layout) -> str:
    """Remove changes that are older than a change sequence, the parameter."""
    return f"DELETE FROM {raw_table(layout).sql} WHERE {_SEQ} <> '' AND {_SEQ} < ?"


def count_partial(layout: Layout) -> str:
    """Count the rows that lack values."""
    lacks = " OR ".join(f"{_raw(column)} {_IS_UNCHANGED}" for column in layout.columns)
    return f"SELECT COUNT(CASE WHEN {lacks} THEN 1 END) FROM {raw_table(layout).sql}"


def stage_whole(layout: Layout) -> str:
    """Stage the net changes of rows that have all values: the last change of each key."""
    key = ", ".join(_keys(layout))
    values = [_text(column, f"e.{column.sql}") for column in layout.columns]
    nothing = ["NULL"] * len(layout.key)
    selected = [*values, "'0'", "CASE WHEN e._DMS_OP = 'D' THEN 'D' ELSE 'U' END", "NULL", "'0'", *nothing]
    return (
        f"{_into_staging(layout)} SELECT {', '.join(selected)} FROM ({_events(layout)}) AS e"
        f" QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY e._DMS_SEQ DESC, e._DMS_HALF DESC) = 1"
    )


def stage_partial(layout: Layout) -> str:
    """Stage the net changes of rows of which some lack values."""
    key = ", ".join(_keys(layout))
    order = "ORDER BY e._DMS_SEQ, e._DMS_HALF ROWS UNBOUNDED PRECEDING"
    parted = f"SELECT e.*, SUM(e._DMS_BEGINS) OVER ({order}) AS _DMS_PART FROM ({_events(layout)}) AS e"
    count = f"SUM(CASE WHEN e._DMS_OP <> 'U' THEN 1 ELSE 0 END) OVER (PARTITION BY e._DMS_PART, {key} {order})"
    grouped = f"SELECT e.*, {count} AS _DMS_GRP FROM ({parted}) AS e"
    newest = (
        f"SELECT e.* FROM ({grouped}) AS e QUALIFY e._DMS_GRP = MAX(e._DMS_GRP) OVER (PARTITION BY e._DMS_PART, {key})"
    )
    unpacked = "CASE WHEN SUBSTR(n.{0}, {1}, 1) = '1' THEN SUBSTR(n.{0}, {2}) END"
    values = [_text(c, unpacked.format(c.sql, _DIGITS + 1, _DIGITS + 2)) for c in layout.columns]
    known = [f"CASE WHEN n.{column.sql} IS NULL THEN '0' ELSE '1' END" for column in layout.columns]
    mask = f"CASE WHEN n._DMS_OP = 'D' THEN NULL ELSE NULLIF({merge.joined(known)}, '{'1' * len(known)}') END"
    origin = [f"CASE WHEN n._DMS_OP <> 'D' THEN n._DMS_FROM_{place} END" for place in range(len(layout.key))]
    operation = "CASE WHEN n._DMS_OP = 'D' THEN 'D' ELSE 'U' END"
    selected = [*values, "'0'", operation, mask, "CAST(n._DMS_PART AS VARCHAR)", *origin]
    packed = [
        f"MAX(CASE WHEN e.{c.sql} {_IS_UNCHANGED} THEN NULL WHEN e.{c.sql} IS NULL THEN e._DMS_SEQ || '0'"
        f" ELSE e._DMS_SEQ || '1' || e.{c.sql} END) AS {c.sql}"
        for c in layout.columns
    ]
    last = f"SUBSTR(MAX(e._DMS_SEQ || CAST(e._DMS_HALF AS VARCHAR) || e._DMS_OP), {_DIGITS + 2}) AS _DMS_OP"
    froms = [
        f"COALESCE(MAX(CASE WHEN e._DMS_HARD = 1 THEN e._DMS_FORMER_{place} END), e.{name}) AS _DMS_FROM_{place}"
        for place, name in enumerate(_keys(layout))
    ]
    columns = ", ".join(["e._DMS_PART", key, *packed, last, *froms])
    net = f"SELECT {columns} FROM ({newest}) AS e GROUP BY e._DMS_PART, {key}"
    return f"{_into_staging(layout)} SELECT {', '.join(selected)} FROM ({net}) AS n"


def count_parts(layout: Layout) -> str:
    """Select, for each part in order, its number and how many of its rows lack values."""
    part = 'CAST("_PART" AS NUMBER(19,0))'
    return f'SELECT {part}, COUNT("_KNOWN") FROM {layout.staging.sql} GROUP BY {part} ORDER BY {part}'


def _events(layout: Layout) -> str:
    """Select each row; when an update changed its key, the delete of the old key comes first."""
    raw, key = raw_table(layout).sql, layout.key
    former = [f"r.{identifier(BEFORE + column.source.name)}" for column in key]
    old_keys = [column.key_text(old) for column, old in zip(key, former, strict=True)]
    new_keys = [column.key_text(f"r.{_raw(column)}") for column in key]
    differs = " OR ".join(f"{old} IS DISTINCT FROM {new}" for old, new in zip(old_keys, new_keys, strict=True))
    moved = f"r.{_OP} = 'U' AND {' AND '.join(f'{old} IS NOT NULL' for old in former)} AND ({differs})"
    lacks = " OR ".join(f"r.{identifier(c.source.name)} {_IS_UNCHANGED}" for c in layout.columns)
    sequence = f"COALESCE(NULLIF(r.{_SEQ}, ''), '{_NO_SEQ}') AS _DMS_SEQ"
    columns = [f"r.{identifier(column.source.name)} AS {column.sql}" for column in layout.columns]
    olds = [f"{old} AS _DMS_FORMER_{place}" for place, old in enumerate(former)]
    hard = f"CASE WHEN {moved} AND ({lacks}) THEN 1 ELSE 0 END"
    row = [
        *columns,
        *(f"{text} AS {name}" for text, name in zip(new_keys, _keys(layout), strict=True)),
        *olds,
        f"r.{_OP} AS _DMS_OP",
        sequence,
        "1 AS _DMS_HALF",
        f"{hard} AS _DMS_HARD",
        "0 AS _DMS_BEGINS",
    ]
    by_name = {column.name: old for column, old in zip(key, former, strict=True)}
    gone = [f"{by_name.get(column.name, 'NULL')} AS {column.sql}" for column in layout.columns]
    gone += [f"{text} AS {name}" for text, name in zip(old_keys, _keys(layout), strict=True)]
    half = [*gone, *olds, "'D' AS _DMS_OP", sequence, "0 AS _DMS_HALF", "0 AS _DMS_HARD", f"{hard} AS _DMS_BEGINS"]
    rows = f"SELECT {', '.join(row)} FROM {raw} AS r"
    deletes = f"SELECT {', '.join(half)} FROM {raw} AS r WHERE {moved}"
    return f"{rows} UNION ALL {deletes}"


def _keys(layout: Layout) -> list[str]:
    """Return the columns that hold the key of an event."""
    return [f"_DMS_KEY_{place}" for place in range(len(layout.key))]


def _text(column: TargetColumn, value: str) -> str:
    """Return PostgreSQL's text of a value that DMS wrote."""
    if column.source.base_type == "bytea":
        return f"CASE WHEN STARTSWITH({value}, '\\\\x') THEN {value} ELSE '\\\\x' || {value} END"
    if column.source.base_type == "timestamptz":
        zone = f"SUBSTR({value}, 20)"  # after the seconds
        return f"CASE WHEN {zone} LIKE '%+%' OR {zone} LIKE '%-%' THEN {value} ELSE {value} || '+00' END"
    return value


def _is_number(value: str) -> str:
    """Return the condition that a text contains only digits, or is empty."""
    return f"TRANSLATE({value}, '0123456789', '') = ''"


def _raw(column: TargetColumn) -> str:
    return identifier(column.source.name)


def _into_staging(layout: Layout) -> str:
    return f"INSERT INTO {layout.staging.sql} ({', '.join(identifier(name) for name in layout.staged_names)})"
