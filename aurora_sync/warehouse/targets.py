"""Creation of a target, and what belongs to the table besides its columns: comments, primary key, and the options of
tables.yaml.

No check of aurora_sync rests on a DISTINCT or GROUP BY of the primary key's columns, or on a join of which only the key
is used: where the key is RELY, Snowflake may leave these out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import WarehouseError
from aurora_sync.model.certificate import Action, Finding
from aurora_sync.model.manifest import Manifest
from aurora_sync.model.names import fold
from aurora_sync.warehouse import ddl
from aurora_sync.warehouse.base import ReportedColumn, Session
from aurora_sync.warehouse.ddl import NO_COLLATION, Layout, TableName, identifier, literal
from aurora_sync.warehouse.types import length_of

NO_ICEBERG = "rename or drop that table, or choose another target_schema or target_table (docs/targets.md)"


def refuse_iceberg(session: Session, target: TableName) -> None:
    """Raise WarehouseError if the table is an Iceberg table."""
    found = session.properties(target.schema, target.name)
    if found and found.iceberg:
        raise WarehouseError(
            f"{target} is an Iceberg table, and aurora_sync only writes standard tables", hint=NO_ICEBERG
        )


def make(session: Session, config: TableConfig, layout: Layout, manifest: Manifest) -> None:
    """Create the target if it does not exist. Idempotent."""
    ddl.make_schema(session, layout.target.schema)
    session.query(create(config, layout, manifest))


def create(config: TableConfig, layout: Layout, manifest: Manifest) -> str:
    key = {column.name for column in layout.key}
    defined = [
        f"{identifier(name)} {type_}{' NOT NULL' if name in key else ''}{layout.comment(name)}"
        for name, type_ in layout.types.items()
    ]
    if layout.key:
        defined.append(primary_key(config, [column.name for column in layout.key]))
    transient = "TRANSIENT " if config.transient else ""
    properties = [f" CLUSTER BY ({_listed(map(layout.names.of, config.cluster_by))})"] if config.cluster_by else []
    if config.retention_days is not None:
        properties.append(f" DATA_RETENTION_TIME_IN_DAYS = {config.retention_days}")
    properties += [NO_COLLATION, f" COMMENT = {literal(comment(manifest.table, manifest.comment))}"]
    if config.object_tags:
        tags = (f"{_qualified(name)} = {literal(value)}" for name, value in config.object_tags.items())
        properties.append(f" WITH TAG ({', '.join(tags)})")
    return f"CREATE {transient}TABLE IF NOT EXISTS {layout.target.sql} ({', '.join(defined)}){''.join(properties)}"


def primary_key(config: TableConfig, key: Iterable[str]) -> str:
    """Return the constraint for the merge key, columns of the target. Snowflake does not enforce it."""
    return f"PRIMARY KEY ({_listed(key)}) {'RELY' if config.rely else 'NORELY'}"


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(map(identifier, columns))


def _qualified(name: str) -> str:
    return ".".join(identifier(fold(part)) for part in name.split("."))


def drop_former_key(session: Session, layout: Layout, manifest: Manifest) -> None:
    """Drop the primary key of the target if the merge key changed: its columns are no longer unique or NOT NULL."""
    if manifest.evolution.former_key and any(c.in_key for c in ddl.described(session, layout.target).values()):
        drop_key(session, layout.target)


def drop_key(session: Session, target: TableName) -> None:
    """Drop the primary key, because one of its columns is going to change."""
    session.query(ddl.drop_primary_key(target))


def comment(table: str, of_source: str | None) -> str:
    """Return the comment of the target: that of the source table, and where its rows come from."""
    origin = f"Synced from {table} by aurora_sync"
    return f"{of_source}\n{origin}" if of_source else origin


def lengthen(session: Session, layout: Layout) -> tuple[Layout, tuple[Finding, ...]]:
    """Make the text columns of the target as long as the layout wants them. Returns the layout and the changes made."""
    found: list[Finding] = []
    columns = {column.name: column for column in layout.columns}
    for column in layout.columns:
        wanted = length_of(column.rule.target)
        if column.length is None or wanted is None or column.length >= wanted:
            continue
        session.query(ddl.set_type(layout.target, column.name, column.rule.target))
        was = f"VARCHAR({column.length})"
        text = f"column {column.source.name} of the target became {column.rule.target}; it was {was}"
        found.append(Finding("target type", Action.ADAPT, text, was, column.rule.target))
        columns[column.name] = replace(column, length=wanted)
    key = tuple(columns[column.name] for column in layout.key)
    return replace(layout, columns=tuple(columns.values()), key=key), tuple(found)


def follow_comments(session: Session, layout: Layout, manifest: Manifest) -> None:
    """Set the comments that changed at the source. Nothing happens in runs that neither read the whole table nor change
    its columns, and for targets of an earlier release: engine/plan.py decides."""
    before = manifest.watermark_before
    if before is None or before.comments == manifest.watermark_after.comments:
        return
    session.query(ddl.comment_on_table(layout.target, comment(manifest.table, manifest.comment)))
    for statement in column_comments(layout, ddl.described(session, layout.target)):
        session.query(statement)


def column_comments(layout: Layout, described: dict[str, ReportedColumn]) -> Iterator[str]:
    """Yield the statements that give the synced columns of the target the comments of the source."""
    for column in layout.columns:
        found, wanted = described.get(column.name), column.source.comment or ""
        if found and found.comment != wanted:
            yield ddl.comment_on_column(layout.target, column.name, wanted)
