"""``defaults:`` of tables.yaml: what tables have in common, and which of it holds for an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from aurora_sync.config.tables import STRATEGY_KEYS, TableConfig, TableOptions
from aurora_sync.config.watermark_types import WatermarkType

# What defaults may say of the strategy: what tables can have in common. A table with a key refuses append_only.
DEFAULT_KEYS = ("watermark_type", *(key for key in STRATEGY_KEYS if key != "append_only"))
if TYPE_CHECKING:
    Defaults = TableOptions
else:
    Defaults = create_model(
        "Defaults",
        __base__=TableOptions,
        __doc__="What the tables have in common.",
        **{name: (TableConfig.model_fields[name].annotation, TableConfig.model_fields[name]) for name in DEFAULT_KEYS},
    )


def with_defaults(defaults: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The entry ``own`` with the defaults that hold for its watermark_type."""
    return _merge(_belonging(defaults, own), own)


def _merge(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings key by key, anything else of ``own`` replaces the default."""
    merged = {**defaults, **own}
    for key in defaults.keys() & own.keys():
        if isinstance(defaults[key], dict) and isinstance(own[key], dict):
            merged[key] = _merge(defaults[key], own[key])
    return merged


def _belonging(defaults: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults without what belongs to another watermark_type than the entry's."""
    kind = own.get("watermark_type", defaults.get("watermark_type", WatermarkType.timestamp))
    if kind not in list(WatermarkType):
        return defaults
    belonging = WatermarkType(kind).keys.all
    return {key: value for key, value in defaults.items() if key not in STRATEGY_KEYS or key in belonging}
