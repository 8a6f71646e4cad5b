"""Creation of a target, and what belongs to the table besides its columns: comments of the source."""

from __future__ import annotations

from collections.abc import Iterator

from aurora_sync.model.manifest import Manifest
from aurora_sync.warehouse import ddl
from aurora_sync.warehouse.base import ReportedColumn, Session
from aurora_sync.warehouse.ddl import NO_COLLATION, Layout, identifier, literal


def make(session: Session, layout: Layout, manifest: Manifest) -> None:
    """Create the target if it does not exist. Idempotent."""
    ddl.make_schema(session, layout.target.schema)
    session.query(create(layout, manifest))


def create(layout: Layout, manifest: Manifest) -> str:
    key = {column.name for column in layout.key}
    columns = (
        f"{identifier(name)} {type_}{' NOT NULL' if name in key else ''}{layout.comment(name)}"
        for name, type_ in layout.types.items()
    )
    return (
        f"CREATE TABLE IF NOT EXISTS {layout.target.sql} ({', '.join(columns)}){NO_COLLATION}"
        f" COMMENT = {literal(comment(manifest))}"
    )


def comment(manifest: Manifest) -> str:
    """Return the comment of the target: that of the source, and where its rows come from."""
    origin = f"Synced from {manifest.table} by aurora_sync"
    return f"{manifest.comment}\n{origin}" if manifest.comment else origin


def follow_comments(session: Session, layout: Layout, manifest: Manifest) -> None:
    """Set the comments that changed at the source. Nothing happens in runs that neither read the whole table nor change
    its columns, and for targets of an earlier release: engine/plan.py decides."""
    before = manifest.watermark_before
    if before is None or before.comments == manifest.watermark_after.comments:
        return
    session.query(f"COMMENT ON TABLE {layout.target.sql} IS {literal(comment(manifest))}")
    for statement in column_comments(layout, ddl.described(session, layout.target)):
        session.query(statement)


def column_comments(layout: Layout, described: dict[str, ReportedColumn]) -> Iterator[str]:
    """Yield the statements that give the synced columns of the target the comments of the source."""
    for column in layout.columns:
        found, wanted = described.get(column.name), column.source.comment or ""
        if found and found.comment != wanted:
            yield f"COMMENT ON COLUMN {layout.target.sql}.{column.sql} IS {literal(wanted)}"
