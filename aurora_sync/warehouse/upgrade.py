"""What an existing target lacks of what a first load would give it today. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.column import Column
from aurora_sync.model.names import TargetNames, differing_by_case, written
from aurora_sync.warehouse import convert, ddl, located, targets
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
    target, found = located.find_target(session, config)
    if RUN_SEQ not in found:
        return []
    exact = differing_by_case(column.name for column in columns)
    names = TargetNames(config.names, tuple(found), exact)
    present = [(name, column) for column in columns if (name := names.present(column.name)) is not None]
    return [
        *_of_the_table(session, config, target, comment, [names.of(name) for name in key], found),
        *(each for name, column in present for each in _of_a_column(config, target, name, column, found[name])),
        *_of_the_names(session, config, target, present),
    ]


def _of_the_names(
    session: Session, config: TableConfig, target: TableName, present: Sequence[tuple[str, Column]]
) -> Iterator[Improvement]:
    """Yield the renames of what keeps its names, the table last: the other statements have its present name. In a
    warehouse that ignores case, its statements find the table anyway."""
    if not session.dialect.case_sensitive:
        return
    for name, column in present:
        if name != (new := written(column.name, config.names)):
            yield Improvement(f"the name of column {name}", convert.rename(target, name, new))
    wanted = target_name(config)
    if target.schema != wanted.schema:
        yield Improvement("the name of the schema, for the tables below", ddl.create_schema(wanted.schema))
    if config.history:
        history, columns = located.located(session, ddl.history_name(config, target))
        renamed = ddl.history_name(config, wanted)
        if columns and history != renamed:
            yield Improvement("the name of the history", ddl.rename_table(history, renamed))
    if target != wanted:
        yield Improvement("the name of the table", ddl.rename_table(target, wanted))


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
    names = set(key)
    if key and names <= found.keys() and {name for name, column in found.items() if column.in_key} != names:
        if any(column.in_key for column in found.values()):
            yield Improvement("the former primary key", ddl.drop_primary_key(target))
        yield Improvement("the primary key", f"ALTER TABLE {target.sql} ADD {targets.primary_key(config, key)}")


def _of_a_column(
    config: TableConfig, target: TableName, name: str, column: Column, has: ReportedColumn
) -> Iterator[Improvement]:
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
