"""The predicate for rows that are read again."""

from __future__ import annotations

from psycopg2 import sql

from aurora_sync.model.reload import INTEGERS, RowRange


def predicate(rows: RowRange) -> sql.Composable:
    """Return the predicate for the rows of the range. NULL is in no range."""
    type_ = "int8" if rows.type in INTEGERS else rows.type  # a bound may lie outside of the column's own type
    bounds = [
        sql.SQL("{} {} {}::pg_catalog.{}").format(
            sql.Identifier(rows.column), sql.SQL(sign), sql.Literal(bound), sql.SQL(type_)
        )
        for sign, bound in ((">=", rows.lower), ("<", rows.upper))
        if bound
    ]
    return sql.SQL("({})").format(sql.SQL(" AND ").join(bounds))
