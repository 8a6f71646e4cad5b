"""Comparison of staged source rows with the target's rows, one by one and by typed values, for verify."""

# ruff: noqa: S608 - every name went through identifier(), and every value is a number

from __future__ import annotations

from aurora_sync.model.buckets import Buckets
from aurora_sync.warehouse import sums
from aurora_sync.warehouse.ddl import ROW_MD5, ROW_NO, SRC_XMIN, Layout, identifier
from aurora_sync.warehouse.merge import PRESENT, row_md5, xmin


def count(layout: Layout, among: Buckets | None) -> str:
    """Count the rows of the target, the rows missing in it, the rows that only it has, the rows that differ, and the
    differing rows that have the version of the source's row."""
    differs = _differs(layout)
    return (
        "SELECT COUNT(CASE WHEN T_IS THEN 1 END), COUNT(CASE WHEN T_IS IS NULL THEN 1 END),"
        " COUNT(CASE WHEN S_IS IS NULL THEN 1 END),"
        f" COUNT(CASE WHEN S_IS AND T_IS AND ({differs}) THEN 1 END),"
        f" COUNT(CASE WHEN S_IS AND T_IS AND S_XMIN = T_XMIN AND ({differs}) THEN 1 END) FROM {_both(layout, among)}"
    )


def examples(layout: Layout, among: Buckets | None, most: int) -> str:
    """Select the first rows that differ: whether each side has them, their xmin on each side, then each column of the
    source and of the target."""
    values = ", ".join(f"{side}.{column.sql}" for column in layout.columns for side in ("s", "t"))
    order = ", ".join(f"COALESCE(s.{identifier(name)}, t.{identifier(name)})" for name in layout.match)
    return (
        f"SELECT S_IS, T_IS, S_XMIN, T_XMIN, {values} FROM {_both(layout, among)}"
        f" WHERE S_IS IS NULL OR T_IS IS NULL OR {_differs(layout)} ORDER BY {order} LIMIT {most}"
    )


def _differs(layout: Layout) -> str:
    return " OR ".join(f"s.{column.sql} IS DISTINCT FROM t.{column.sql}" for column in layout.columns)


def _both(layout: Layout, among: Buckets | None) -> str:
    """Join the rows of both sides by key; without a key by content, where equal rows are numbered."""
    on = " AND ".join(f"s.{identifier(name)} = t.{identifier(name)}" for name in layout.match)
    values = [f"{column.value} AS {column.sql}" for column in layout.columns] + [f"{xmin()} AS S_XMIN"]
    staged = f"SELECT {', '.join(values)}, TRUE AS S_IS FROM {layout.staging.sql} AS s"
    names = [*(column.sql for column in layout.columns), f'"{SRC_XMIN}" AS T_XMIN']
    here = [PRESENT] if layout.marks else []
    if among and (condition := sums.within(sums.number(layout), among)):
        here.append(condition)
    kept = f"{layout.target.sql}{' WHERE ' + ' AND '.join(here) if here else ''}"
    if layout.key:
        target = f"SELECT {', '.join(names)}, TRUE AS T_IS FROM {kept}"
    else:
        number = f'ROW_NUMBER() OVER (PARTITION BY "{ROW_MD5}" ORDER BY 1) AS "{ROW_NO}"'
        values = [*values, f'{row_md5(layout)} AS "{ROW_MD5}"']
        staged = (
            f"SELECT r.*, {number}, TRUE AS S_IS FROM (SELECT {', '.join(values)} FROM {layout.staging.sql} AS s) AS r"
        )
        target = f'SELECT {", ".join(names)}, "{ROW_MD5}", {number}, TRUE AS T_IS FROM {kept}'
    return f"({staged}) AS s FULL OUTER JOIN ({target}) AS t ON {on}"
