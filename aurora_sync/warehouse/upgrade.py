"""What an existing target lacks of what a first load would give it today. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.column import Column
from aurora_sync.model.names import fold
from aurora_sync.warehouse import ddl, targets
from aurora_sync.warehouse.base import ReportedColumn, Session
from aurora_sync.warehouse.ddl import RUN_SEQ, TableName, target_name
from aurora_sync.warehouse.types import length_of, sized, type_rule


@dataclass(frozen=True)
class Improvement:
    """One thing that could be improved, with the statement that does so; without a statement, only a new target can
    have it."""

    what: str
    statement: str = ""


def improvements(
    session: Session, config: TableConfig, comment: str | None, columns: Sequence[Column], key: Sequence[str]
) -> list[Improvement]:
    """Return the possible improvements of a table's target; none when there is no target. ``comment`` is that of the
    source table."""
    target = target_name(config)
    found = session.describe(target.schema, target.name)
    if RUN_SEQ not in found:
        return []
    pairs = [(column, found[fold(column.name)]) for column in columns if fold(column.name) in found]
    return [
        *_of_the_table(session, config, target, comment, key, found),
        *(each for column, has in pairs for each in _of_a_column(config, target, column, has)),
    ]


def _of_the_table(
    session: Session,
    config: TableConfig,
    target: TableName,
    comment: str | None,
    key: Sequence[str],
    found: dict[str, ReportedColumn],
) -> Iterator[Improvement]:
    properties = session.properties(target.schema, target.name)
    if properties is None:
        return
    wanted = targets.comment(config.qualified_name, comment)
    if properties.comment != wanted:
        yield Improvement("the comment of the table", ddl.comment_on_table(target, wanted))
    names = {fold(name) for name in key}
    if key and names <= found.keys() and {name for name, column in found.items() if column.in_key} != names:
        if any(column.in_key for column in found.values()):
            yield Improvement("the former primary key", ddl.drop_primary_key(target))
        yield Improvement("the primary key", f"ALTER TABLE {target.sql} ADD {targets.primary_key(config, key)}")


def _of_a_column(config: TableConfig, target: TableName, column: Column, has: ReportedColumn) -> Iterator[Improvement]:
    name = fold(column.name)
    if has.comment != (column.comment or ""):
        comment = ddl.comment_on_column(target, name, column.comment or "")
        yield Improvement(f"the comment of column {name}", comment)
    if has.collation:
        yield Improvement(f"column {name} has the collation {has.collation}; aurora_sync compares texts byte by byte")
    rule = sized(type_rule(column), column, has=None, longest=config.text_length == "max")
    wanted = length_of(rule.target)
    if has.length is None or wanted is None or has.type != "VARCHAR" or has.length == wanted:
        return
    if has.length > wanted:
        yield Improvement(f"column {name} is VARCHAR({has.length}), and a new target would have {rule.target}")
    else:
        longer = ddl.set_type(target, name, rule.target)
        yield Improvement(f"the length of column {name}, which is VARCHAR({has.length})", longer)
