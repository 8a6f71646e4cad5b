"""MERGE in DuckDB, as the deletion and the insertion of the rows that change.

DuckDB updates each column of each changed row in place, and keeps all former values in memory until the commit: 10,000
random updates of a table with 2,000,000 rows take 15 times as long as their replacement, and an update of all rows
needs more than 1 GB. So a changed row is deleted by its rowid and inserted again.
"""

# ruff: noqa: S608 - every part comes from a statement that sqlglot wrote

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import sqlglot
from sqlglot import exp

_CHANGED = 'temp.main."_AURORA_SYNC_CHANGED"'
COUNTS = f"SELECT action, COUNT(*) FROM {_CHANGED} GROUP BY action"
DELETED = f"SELECT place FROM {_CHANGED} WHERE place IS NOT NULL"
DROP = f"DROP TABLE IF EXISTS {_CHANGED}"


@dataclass(frozen=True)
class Replacement:
    """The statements that have the effect of one MERGE. ``find`` creates a temporary table of the changed rows, and
    takes the parameters of the MERGE. ``delete`` removes the former rows, and ``inserts`` add the others."""

    find: str
    delete: str
    inserts: tuple[str, ...]


def target_of(statement: str) -> str:
    """Return the target of a MERGE in DuckDB's dialect, as SQL."""
    table = _parsed(statement).this.copy()
    table.set("alias", None)
    return _sql(table)


def replacement(statement: str, columns: Sequence[str]) -> Replacement:
    """Return the statements for a MERGE in DuckDB's dialect. ``columns`` are those of the target.

    A column that the MERGE does not assign keeps its value in a changed row, and gets its default in a new one.
    """
    tree, target = _parsed(statement), target_of(statement)
    whens: list[exp.When] = tree.args["whens"].expressions
    new = _inserted(whens)
    values = {name: _kept(name, new.get(name), _updated(whens)) for name in columns}
    selected = [f"{value} AS c{place}" for place, value in enumerate(values.values())]
    find = (
        f"CREATE OR REPLACE TEMPORARY TABLE {_CHANGED.removeprefix('temp.main.')} AS SELECT * FROM ("
        f"SELECT {', '.join(selected)}, t.rowid AS place, {_action(whens)} AS action"
        f" FROM {_sql(tree.args['using'])} LEFT JOIN {target} AS t ON {_sql(tree.args['on'])})"
        " WHERE action IS NOT NULL"
    )
    inserts = {
        "UPDATE": _insert(target, values, list(values), "UPDATE"),
        "INSERT": _insert(target, values, list(new), "INSERT"),
    }
    if new.keys() == values.keys():
        inserts = {"": _insert(target, values, list(values), "UPDATE", "INSERT")}
    return Replacement(find, f"DELETE FROM {target} WHERE rowid IN ({DELETED})", tuple(inserts.values()))


@lru_cache(maxsize=64)
def _parsed(statement: str) -> exp.Merge:
    tree = sqlglot.parse_one(statement, read="duckdb")
    assert isinstance(tree, exp.Merge)
    return tree


def _sql(tree: exp.Expr) -> str:
    return tree.sql(dialect="duckdb")


def _inserted(whens: Sequence[exp.When]) -> dict[str, str]:
    """Return the values of new rows by column."""
    (then,) = [when.args["then"] for when in whens if isinstance(when.args["then"], exp.Insert)]
    names = [name.name for name in then.this.expressions]
    return dict(zip(names, map(_sql, then.expression.expressions), strict=True))


def _updated(whens: Sequence[exp.When]) -> dict[str, str]:
    """Return the values of changed rows by column, of those that are assigned."""
    (then,) = [when.args["then"] for when in whens if isinstance(when.args["then"], exp.Update)]
    return {each.this.name: _sql(each.expression) for each in then.expressions}


def _kept(name: str, new: str | None, updated: Mapping[str, str]) -> str:
    """Return the value of a column in a changed or new row."""
    former = 't."' + name.replace('"', '""') + '"'
    changed = updated.get(name, former)
    if new in (None, changed):
        return changed
    return f"CASE WHEN t.rowid IS NULL THEN {new} ELSE {changed} END"


def _action(whens: Sequence[exp.When]) -> str:
    """Return SQL for the name of the first WHEN that holds; NULL when the row stays as it is."""
    cases = []
    for when in whens:
        then = when.args["then"]
        action = then.key.upper() if isinstance(then, exp.Insert | exp.Update) else then.name.upper()
        met = "t.rowid IS NOT NULL" if when.args["matched"] else "t.rowid IS NULL"
        condition = when.args.get("condition")
        cases.append(f"WHEN {met}{f' AND ({_sql(condition)})' if condition else ''} THEN '{action}'")
    return f"CASE {' '.join(cases)} END"


def _insert(target: str, values: Mapping[str, str], names: Sequence[str], *actions: str) -> str:
    places = {name: f"c{place}" for place, name in enumerate(values)}
    listed = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    taken = ", ".join(f"'{action}'" for action in actions)
    chosen = ", ".join(places[name] for name in names)
    return f"INSERT INTO {target} ({listed}) SELECT {chosen} FROM {_CHANGED} WHERE action IN ({taken})"
