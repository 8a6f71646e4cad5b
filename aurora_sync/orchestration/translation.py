"""Translate the specs of tables: keys, groups, tags and more as the user's project wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import dagster as dg

from aurora_sync.config.loader import SyncConfig
from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError
from aurora_sync.orchestration.assets import TARGET, TableAsset

GetAssetSpec = Callable[[dg.AssetSpec, TableConfig], dg.AssetSpec]


def as_it_is(spec: dg.AssetSpec, table: TableConfig) -> dg.AssetSpec:
    """Return the spec unchanged."""
    return spec


def template_scope(table: TableConfig) -> dict[str, Any]:
    """Return what templates of ``translation:`` may use: ``table`` has the keys of tables.yaml, with all defaults.

    ``target_schema`` and ``target_table`` are the names in the warehouse; their own placeholders are filled in.
    """
    schema, name = table.target_names
    row = table.model_dump(mode="json", by_alias=True)
    return {"table": row | {"target_schema": schema, "target_table": name}}


def translated(config: SyncConfig, tables: Iterable[TableAsset], get_asset_spec: GetAssetSpec) -> list[TableAsset]:
    """Return the tables with translated specs. Raises ConfigError for one key of two tables and for partitions."""
    found: dict[dg.AssetKey, TableAsset] = {}
    problems = []
    for asset in tables:
        spec = get_asset_spec(asset.spec, asset.table)
        if spec.partitions_def is not None:
            problems.append(
                f"table {asset.name}: the translation sets partitions_def; expected none, as an increment is not a "
                "partition"
            )
        if other := found.get(spec.key):
            problems.append(
                f"table {asset.name}: the translation gives it the asset key {spec.key.to_user_string()}, which is also"
                f" the key of {other.name}; expected a different key for each table"
            )
        found[spec.key] = TableAsset(asset.table, spec.merge_attributes(metadata={TARGET: list(asset.table.target)}))
    if problems:
        raise ConfigError(problems, where=str(config.path))
    return list(found.values())
