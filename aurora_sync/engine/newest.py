"""The newest sync log entries of the tables of a project, by one query."""

from __future__ import annotations

from collections.abc import Sequence

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.places import Places
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.ddl import target_name
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.sync_log import LogEntry


def newest_entries(places: Places, why: str) -> list[LogEntry]:
    """Return the newest entry of every target; empty when nothing was ever synced. ``why`` is for the query tag. Raises
    WarehouseError."""
    with places.warehouse.reading(query_tag=QueryTag(why)) as session:
        return sync_log.newest(session, places.log_schema)


def entries_of(tables: Sequence[TableConfig], entries: Sequence[LogEntry]) -> list[LogEntry | None]:
    """Return the entry of each table for its target. It is None if the table was never synced to this target, as after
    a change of ``target_table``."""
    known = {(entry.source_table, entry.target): entry for entry in entries}
    return [known.get((table.qualified_name, target_name(table).key)) for table in tables]
