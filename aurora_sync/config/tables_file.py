"""The model of tables.yaml as a whole, and the rules of its JSON Schema about defaults and tables together."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, Field

from aurora_sync.config.advisor import Advisor
from aurora_sync.config.defaults import DEFAULT_KEYS, Defaults
from aurora_sync.config.field_types import StrictModel
from aurora_sync.config.freshness import require_fail_after
from aurora_sync.config.tables import STRATEGY_KEYS, TableConfig
from aurora_sync.config.watermark_types import WatermarkType


def _whole_file(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema the rules about defaults and tables together."""
    require_fail_after(schema)
    given = {"required": ["defaults"], "properties": {"defaults": {"anyOf": [{"required": [k]} for k in DEFAULT_KEYS]}}}
    schema["allOf"].append(
        {
            "if": given,
            "then": {"properties": {"tables": {"items": {"allOf": _of_each_type(alone=False)}}}},
            "else": {"properties": {"tables": {"items": {"allOf": _of_each_type(alone=True)}}}},
        }
    )


def _of_each_type(*, alone: bool) -> list[dict[str, Any]]:
    """Return one ``if``/``then`` rule for each watermark_type, with the keys that an entry may and must have.
    ``alone``: there are no defaults from which an entry could take its type or the keys that its type needs."""
    unset = {"enum": [None, False]}
    rules = []
    for kind in WatermarkType:
        optional = alone and kind is WatermarkType.timestamp
        allowed = kind.keys.all
        properties: dict[str, Any] = {key: unset for key in STRATEGY_KEYS if key not in allowed}
        if alone:
            properties |= {key: {"not": unset} for key in kind.keys.needs}
        rules.append(
            {
                "if": {"properties": {"watermark_type": {"const": kind.value}}}
                | ({} if optional else {"required": ["watermark_type"]}),
                "then": {"properties": properties} | ({"required": list(kind.keys.needs)} if alone else {}),
            }
        )
    return rules


class TablesFile(StrictModel):
    """tables.yaml: the tables to sync, and their defaults."""

    model_config = ConfigDict(json_schema_extra=_whole_file)

    schema_ref: str | None = Field(
        None, alias="$schema", description="The JSON Schema of this file, for editors; not read here."
    )
    defaults: Defaults | None = Field(
        None,
        description="Defaults for all tables. A mapping in a table's entry is merged into the default key by key; any "
        "other value replaces the default. A default that does not belong to a table's watermark_type does not apply "
        "to the table.",
    )
    advisor: Advisor = Field(default_factory=Advisor, description="Limits for the proposals of `aurora-sync assess`.")
    tables: list[TableConfig] = Field(min_length=1, description="One entry for each table, or for a glob.")
