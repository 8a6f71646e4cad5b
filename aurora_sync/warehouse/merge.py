"""The statements that apply a staged increment to the target. They depend on the disposition, never on the strategy.

They are written once, in Snowflake's dialect. The alias of the staging table is ``s``. Statements that write rows take
two parameters: the run sequence and the time (UTC) of the increment.
"""

# ruff: noqa: S608 - every name went through identifier(), every value is a parameter

from __future__ import annotations

from collections.abc import Sequence

from aurora_sync.warehouse.ddl import (
    DELETED,
    KEY_NO,
    PART,
    ROW_MD5,
    ROW_NO,
    RUN_SEQ,
    SRC_XMIN,
    SYNCED_AT,
    Layout,
    TableName,
    TargetColumn,
    identifier,
)

# Rows appended to a table without a key are numbered from run sequence * this, so that they never collide with existing
# numbers and the target need not be read. No increment has that many rows, and 900 million increments still fit
# NUMBER(19,0).
NUMBERS_PER_RUN = 10_000_000_000

_FIELDS = 100

PRESENT = f'"{DELETED}" IS DISTINCT FROM TRUE'
MARKED = f'"{DELETED}" = TRUE'


def _names(names: tuple[str, ...], prefix: str = "") -> str:
    return ", ".join(prefix + identifier(name) for name in names)


def _count_if(condition: str) -> str:
    return f"COUNT(CASE WHEN {condition} THEN 1 END)"  # DuckDB's COUNT_IF of no rows is NULL


def xmin() -> str:
    return f'CAST(s."{SRC_XMIN}" AS NUMBER(10,0))'


def key_number(layout: Layout) -> str:
    """Return the key number of a staged row (model/buckets.py), computed from the text that the source printed."""
    if layout.key_is_number:
        return f"CAST({layout.key[0].staged} AS NUMBER(19,0))"
    return digits(joined([f"CAST(LENGTH({key.staged}) AS VARCHAR) || ':' || {key.staged}" for key in layout.key]))


def digits(text: str) -> str:
    """Return 15 digits of the MD5 of a text, which every engine computes alike."""
    return f"CAST(TRANSLATE(SUBSTR(MD5({text}), 1, 15), 'abcdef', '012345') AS NUMBER(15,0))"


def row_md5(layout: Layout) -> str:
    """Return the MD5 of the exact text of all fields. Each field carries its length, so that different rows never give
    the same string."""
    return f"MD5({joined([counted(column.staged) for column in layout.columns])})"


def counted(text: str) -> str:
    """Return a field with its length, or N for NULL."""
    return f"COALESCE(CAST(LENGTH({text}) AS VARCHAR) || ':' || {text}, 'N')"


def joined(fields: Sequence[str]) -> str:
    """Return the concatenation of the fields. They are grouped, because a table has up to 1,600 columns and DuckDB
    parses to a depth of 1,000."""
    groups = [" || ".join(fields[first : first + _FIELDS]) for first in range(0, len(fields), _FIELDS)]
    return groups[0] if len(groups) == 1 else " || ".join(f"({group})" for group in groups)


def staged_rows(
    layout: Layout,
    *,
    append: bool = False,
    source: str = "",
    values: Sequence[str] | None = None,
    further: Sequence[str] = (),
) -> str:
    """Return a SELECT of the staged rows, typed, with the columns that aurora_sync adds. Each key is staged once, which
    staged.py checks. ``source`` replaces the staging table, ``values`` the values of its columns; ``further`` columns
    are added."""
    source = source or f"{layout.staging.sql} AS s"
    typed = values or [column.value for column in layout.columns]
    values = [f"{value} AS {column.sql}" for value, column in zip(typed, layout.columns, strict=True)]
    values += [
        f'{xmin()} AS "{SRC_XMIN}"',
        f'CAST(? AS NUMBER(19,0)) AS "{RUN_SEQ}"',
        f'CAST(? AS TIMESTAMP_NTZ(6)) AS "{SYNCED_AT}"',
    ]
    values += further
    if layout.marks:
        values.append(f'FALSE AS "{DELETED}"')
    if layout.key:
        if not layout.key_is_number:
            values.append(f'{key_number(layout)} AS "{KEY_NO}"')
        return f"SELECT {', '.join(values)} FROM {source}"
    number = f'ROW_NUMBER() OVER (PARTITION BY r."{ROW_MD5}" ORDER BY r."{SRC_XMIN}")'
    if append:
        number = f'r."{RUN_SEQ}" * {NUMBERS_PER_RUN} + {number}'
    return (
        f'SELECT r.*, {number} AS "{ROW_NO}"'
        f' FROM (SELECT {", ".join(values)}, {row_md5(layout)} AS "{ROW_MD5}" FROM {source}) AS r'
    )


def merge(layout: Layout, rows: str = "", *, within: str = "", deletes: str = "") -> str:
    """Insert the staged rows that are new, update those that differ in any column, leave the others unchanged. ``rows``
    replaces the SELECT of all staged rows. ``within`` is a condition on the target ``t`` that follows from the equality
    of the keys; ``deletes`` is the condition on a staged row ``s`` whose target row is deleted.

    A row that was marked as deleted and is staged again differs in its mark, so it is updated. Two parameters.
    """
    written = tuple(layout.types)
    compared = [name for name in written if name not in (*layout.match, RUN_SEQ, SYNCED_AT)]
    on = " AND ".join(f"t.{identifier(name)} = s.{identifier(name)}" for name in layout.match)
    differs = " OR ".join(f"t.{identifier(name)} IS DISTINCT FROM s.{identifier(name)}" for name in compared)
    assignments = ", ".join(
        f"{identifier(name)} = s.{identifier(name)}" for name in written if name not in layout.match
    )
    delete = f" WHEN MATCHED AND {deletes} THEN DELETE" if deletes else ""
    new = f"NOT MATCHED AND NOT ({deletes})" if deletes else "NOT MATCHED"
    return (
        f"MERGE INTO {layout.target.sql} AS t USING ({rows or staged_rows(layout)}) AS s ON {on}"
        f"{f' AND {within}' if within else ''}{delete} WHEN MATCHED AND ({differs}) THEN UPDATE SET {assignments}"
        f" WHEN {new} THEN INSERT ({_names(written)}) VALUES ({_names(written, 's.')})"
    )


def insert(layout: Layout, *, ordered: bool, fitting: bool = False) -> str:
    """Insert every staged row into an empty target; ``ordered`` by the key, so that bounds.py works. ``fitting`` leaves
    out the rows with a value that does not fit its type. Two parameters."""
    names = tuple(layout.types)
    order = f" ORDER BY {_names(layout.match, 's.')}" if ordered else ""
    wanted = [f"NOT COALESCE({column.misfit}, FALSE)" for column in layout.columns if column.misfit]
    fits = f"(SELECT * FROM {layout.staging.sql} AS s WHERE {' AND '.join(wanted)}) AS s"
    source = fits if fitting and wanted else ""
    return (
        f"INSERT INTO {layout.target.sql} ({_names(names)})"
        f" SELECT {_names(names, 's.')} FROM ({staged_rows(layout, source=source)}) AS s{order}"
    )


def append(layout: Layout) -> str:
    """Insert every staged row. Two parameters."""
    names = tuple(layout.types)
    return (
        f"INSERT INTO {layout.target.sql} ({_names(names)})"
        f" SELECT {_names(names, 's.')} FROM ({staged_rows(layout, append=True)}) AS s"
    )


def renumber(layout: Layout) -> str:
    """Number the equal rows of a target without a key 1, 2, 3, ...: appended rows have other numbers."""
    target = layout.target.sql
    new = identifier("_" + layout.target.name)  # always another name than the target's
    return (
        f'UPDATE {target} SET "{ROW_NO}" = {new}.N FROM (SELECT "{ROW_MD5}", "{ROW_NO}",'
        f' ROW_NUMBER() OVER (PARTITION BY "{ROW_MD5}" ORDER BY "{ROW_NO}") AS N FROM {target}) AS {new}'
        f' WHERE {target}."{ROW_MD5}" = {new}."{ROW_MD5}" AND {target}."{ROW_NO}" = {new}."{ROW_NO}"'
        f' AND {new}.N <> {new}."{ROW_NO}"'
    )


def fill(layout: Layout, name: str) -> str:
    """Fill a new column in every row that is not staged, with the value that the source's catalogue holds for older
    rows. Parameters: the value as text, the run sequence, the time, and the value again."""
    column = next(column for column in layout.columns if column.name == name)
    value = column.rule.cast.format("CAST(? AS VARCHAR)")
    staged = " AND ".join(f"{key.value} = {layout.target.sql}.{key.sql}" for key in layout.key)
    return (
        f'UPDATE {layout.target.sql} SET {column.sql} = {value}, "{RUN_SEQ}" = ?, "{SYNCED_AT}" = ?'
        f" WHERE {column.sql} IS DISTINCT FROM {value}"
        f" AND NOT EXISTS (SELECT 1 FROM {layout.staging.sql} AS s WHERE {staged})"
    )


def misfits(column: TargetColumn) -> str:
    """Select 1 if one text, the parameter, does not fit the column, else 0."""
    given = f"(SELECT CAST(? AS VARCHAR) AS {column.sql}) AS s"
    return f"SELECT {_count_if(column.misfit)} FROM {given}"


def unstaged(layout: Layout, within: str = "") -> str:
    """Return the condition that a target row is not staged. ``within`` is a further condition, for a part of the
    target."""
    target = layout.target.sql  # not an alias: a table may be called S or R, like the aliases
    if layout.key:
        staged = f"{layout.staging.sql} AS s"
        same = " AND ".join(f"{column.value} = {target}.{column.sql}" for column in layout.key)
    else:
        rows = f'SELECT {row_md5(layout)} AS "{ROW_MD5}", {xmin()} AS "{SRC_XMIN}" FROM {layout.staging.sql} AS s'
        staged = (
            f'(SELECT r."{ROW_MD5}", ROW_NUMBER() OVER (PARTITION BY r."{ROW_MD5}" ORDER BY r."{SRC_XMIN}")'
            f' AS "{ROW_NO}" FROM ({rows}) AS r) AS s'
        )
        same = " AND ".join(f"s.{identifier(name)} = {target}.{identifier(name)}" for name in layout.match)
    return f"NOT EXISTS (SELECT 1 FROM {staged} WHERE {same}){f' AND ({within})' if within else ''}"


def delete_unstaged(layout: Layout, within: str = "") -> str:
    """Remove the target rows that are not staged. With soft deletes, mark those that are not marked yet, which takes
    the two parameters. ``within`` is a further condition, for a part of the target."""
    if not layout.soft:
        return f"DELETE FROM {layout.target.sql} WHERE {unstaged(layout, within)}"
    return (
        f'UPDATE {layout.target.sql} SET "{DELETED}" = TRUE, "{RUN_SEQ}" = ?, "{SYNCED_AT}" = ?'
        f" WHERE {PRESENT} AND {unstaged(layout, within)}"
    )


def written_by(layout: Layout, sequence: int) -> str:
    """Count the rows of the target that a run was the last to write."""
    return f'SELECT COUNT(*) FROM {layout.target.sql} WHERE "{RUN_SEQ}" = {sequence}'


def count_matched(layout: Layout, within: str = "") -> str:
    """Count the rows of the target whose key is staged. ``within`` is a condition on the target ``t`` that follows from
    the equality of the keys."""
    same = " AND ".join(f"{column.value} = t.{column.sql}" for column in layout.key)
    return (
        f"SELECT COUNT(*) FROM {layout.target.sql} AS t WHERE {f'{within} AND ' if within else ''}"
        f"EXISTS (SELECT 1 FROM {layout.staging.sql} AS s WHERE {same})"
    )


def mark_present(layout: Layout) -> str:
    """Mark all rows as deleted. Two parameters."""
    return f'UPDATE {layout.target.sql} SET "{DELETED}" = TRUE, "{RUN_SEQ}" = ?, "{SYNCED_AT}" = ? WHERE {PRESENT}'


def doubled(layout: Layout) -> str:
    """Select up to three keys that the target has more than once, as text, with their counts. See
    :func:`delete_doubled` about the texts."""
    texts = ", ".join(f"CAST({column.sql} AS VARCHAR)" for column in layout.key)
    return f"SELECT {texts}, COUNT(*) FROM {layout.target.sql} GROUP BY {texts} HAVING COUNT(*) > 1 LIMIT 3"


def unstaged_since(layout: Layout, within: str, sequence: int) -> str:
    """Count the rows of the target that are not staged, and that this run or a later one was the last to write."""
    return (
        f"SELECT COUNT(*) FROM {layout.target.sql} WHERE {unstaged(layout, within)}"
        f' AND {layout.target.sql}."{RUN_SEQ}" >= {sequence}'
    )


def delete_doubled(layout: Layout) -> str:
    """Remove all rows whose key occurs more than once: somebody duplicated them by hand.

    The keys are grouped as texts: Snowflake takes a GROUP BY of the columns of a primary key with RELY as unique.
    """
    target = layout.target.sql
    texts = [f"CAST({target}.{column.sql} AS VARCHAR)" for column in layout.key]
    same = " AND ".join(f"d.K{place} = {text}" for place, text in enumerate(texts))
    keys = ", ".join(f"{text} AS K{place}" for place, text in enumerate(texts))
    doubled = f"SELECT {keys} FROM {target} GROUP BY {', '.join(texts)} HAVING COUNT(*) > 1"
    return f"DELETE FROM {target} WHERE EXISTS (SELECT 1 FROM ({doubled}) AS d WHERE {same})"


def delete_present(layout: Layout) -> str:
    """Remove all rows that are not marked as deleted."""
    return f"DELETE FROM {layout.target.sql}{f' WHERE {PRESENT}' if layout.marks else ''}"


def count_target(target: TableName, marks: bool) -> str:
    """Count all rows and those that are present: with ``marks``, those not marked as deleted. Also sum _RUN_SEQ and
    _SRC_XMIN; the sums change when rows are added, removed or set back by hand."""
    present = _count_if(PRESENT) if marks else "COUNT(*)"
    sums = ", ".join(f'COALESCE(SUM("{name}"), 0) AS "SUM{name}"' for name in (RUN_SEQ, SRC_XMIN))
    return f'SELECT COUNT(*) AS "ROWS", {present} AS "PRESENT", {sums} FROM {target.sql}'


def count_staged(layout: Layout, further: Sequence[str] = ()) -> str:
    """Count the rows; the keys that are staged more than once; for each key column its NULLs; for each column with a
    misfit its misfits. ``further`` expressions come last."""
    doubled = "0"
    if len(layout.key) == 1 and not layout.changes:  # in the same scan as the other counts
        doubled = f"COUNT({layout.key[0].staged}) - COUNT(DISTINCT {fitting(layout.key[0])})"
    elif layout.key:
        key = ", ".join([fitting(column) for column in layout.key] + [f's."{PART}"'] * layout.changes)
        groups = f"SELECT 1 AS D FROM {layout.staging.sql} AS s GROUP BY {key} HAVING COUNT(*) > 1"
        doubled = f"(SELECT COUNT(*) FROM ({groups}) AS d)"
    counts = [_count_if(f"{column.staged} IS NULL") for column in layout.key]
    counts += [_count_if(column.misfit) for column in layout.columns if column.misfit]
    return f"SELECT {', '.join(['COUNT(*)', doubled, *counts, *further])} FROM {layout.staging.sql} AS s"


def has_doubled(layout: Layout) -> str:
    """Select whether the target has a key more than once. Not for Snowflake: see :func:`delete_doubled`."""
    key = ", ".join(column.sql for column in layout.key)
    rows = f"SELECT 1 AS D FROM {layout.target.sql} GROUP BY {key} HAVING COUNT(*) > 1"
    if len(layout.key) == 1:
        rows = f"SELECT 1 AS D FROM {layout.target.sql} HAVING COUNT(*) > COUNT(DISTINCT {key})"
    return f"SELECT COUNT(*) FROM ({rows}) AS d"


def fitting(column: TargetColumn) -> str:
    """Return the typed value of a staged column, and the replacement of a value that does not fit the type. Equal
    values have equal texts, except in a FLOAT, which holds every value."""
    return column.value if not column.misfit or column.rule.policy in ("null", "clamp") else column.staged


def example_misfits(layout: Layout, column: TargetColumn, most: int) -> str:
    """Select staged rows whose value does not fit: the xmin, the key as text, and the beginning of the value."""
    shown = ", ".join((xmin(), *(key.staged for key in layout.key), f"SUBSTR({column.staged}, 1, 80)"))
    order = ", ".join((*(key.staged for key in layout.key), column.staged))
    return f"SELECT {shown} FROM {layout.staging.sql} AS s WHERE {column.misfit} ORDER BY {order} LIMIT {most}"


def duplicate_keys(layout: Layout) -> str:
    """Select up to three keys that are staged more than once, as text, with their counts."""
    key = ", ".join([column.value for column in layout.key] + [f's."{PART}"'] * layout.changes)
    shown = ", ".join(f"MIN({column.staged})" for column in layout.key)
    return f"SELECT {shown}, COUNT(*) FROM {layout.staging.sql} AS s GROUP BY {key} HAVING COUNT(*) > 1 LIMIT 3"
