"""The model of ``defaults:`` in tables.yaml, and the rule for which defaults apply to an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import create_model

from aurora_sync.config.tables import STRATEGY_KEYS, TableConfig, TableOptions
from aurora_sync.config.watermark_types import WatermarkType

# Keys of the strategy that tables can have in common. append_only is not one: it is refused on a table with a key.
DEFAULT_KEYS = ("watermark_type", *(key for key in STRATEGY_KEYS if key != "append_only"))
if TYPE_CHECKING:
    Defaults = TableOptions
else:
    Defaults = create_model(
        "Defaults",
        __base__=TableOptions,
        __doc__="Defaults for all tables.",
        **{name: (TableConfig.model_fields[name].annotation, TableConfig.model_fields[name]) for name in DEFAULT_KEYS},
    )


def with_defaults(defaults: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entry ``own``, completed with the defaults that apply to its watermark_type."""
    return _merge(_belonging(defaults, own), own)


def _merge(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``defaults`` overwritten by ``own``: mappings are merged key by key, any other value replaces the
    default."""
    merged = {**defaults, **own}
    for key in defaults.keys() & own.keys():
        if isinstance(defaults[key], dict) and isinstance(own[key], dict):
            merged[key] = _merge(defaults[key], own[key])
    return merged


def _belonging(defaults: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults without the keys that do not belong to the entry's watermark_type."""
    kind = own.get("watermark_type", defaults.get("watermark_type", WatermarkType.timestamp))
    if kind not in list(WatermarkType):
        return defaults
    belonging = WatermarkType(kind).keys.all
    return {key: value for key, value in defaults.items() if key not in STRATEGY_KEYS or key in belonging}
