"""The improvements of existing targets: what ``aurora-sync upgrade --plan`` lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight
from aurora_sync.engine.places import Places
from aurora_sync.warehouse.query_tag import QueryTag
from aurora_sync.warehouse.upgrade import Improvement, improvements


def upgrades(tables: Sequence[TableConfig], places: Places) -> Iterator[tuple[TableConfig, list[Improvement]]]:
    """Yield each table that exists at the source, with the possible improvements of its target."""
    described = places.source.catalogue((table.schema_, table.table_name) for table in tables)
    with places.warehouse.reading(query_tag=QueryTag("check")) as session:
        for config in tables:
            if table := described.get(config.qualified_name):
                columns, key = preflight.selected_columns(config, table), preflight.merge_key(config, table)
                yield config, improvements(session, config, table.comment, columns, key)
