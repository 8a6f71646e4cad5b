"""The model of ``freshness:`` of a table: the maximum age of its last successful sync."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Self

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from aurora_sync.config.field_types import Duration, StrictModel, duration


class Freshness(StrictModel):
    """Maximum age of the last successful sync. A string alone sets fail_after."""

    fail_after: Duration = Field(
        description="The check fails when the last successful sync is older than this, such as '2h' or '1d'."
    )
    warn_after: Duration | None = Field(
        None, description="The check warns when the last successful sync is older than this; shorter than fail_after."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_means_fail_after(cls, value: Any) -> Any:
        if not isinstance(value, str | dict):
            raise ValueError("expected a duration such as 2h, or a mapping with fail_after and warn_after")
        return {"fail_after": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _warns_before_it_fails(self) -> Self:
        if self.warn_window and self.warn_window >= self.fail_window:
            raise ValueError(f"warn_after ({self.warn_after}) must be shorter than fail_after ({self.fail_after})")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        mapping = handler.resolve_ref_schema(handler(schema))
        del mapping["required"]  # require_fail_after() adds the requirement where it applies
        text = mapping["properties"]["fail_after"]
        return {"anyOf": [{"type": "string", "pattern": text["pattern"]}, mapping]}

    @property
    def fail_window(self) -> timedelta:
        return duration(self.fail_after)

    @property
    def warn_window(self) -> timedelta | None:
        return duration(self.warn_after) if self.warn_after else None


def require_fail_after(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema of the file that a mapping under freshness requires fail_after; in a table's entry only
    where ``defaults`` has no mapping for it."""
    whole = {"properties": {"freshness": {"if": {"type": "object"}, "then": {"required": ["fail_after"]}}}}
    default = {"type": "object", "required": ["freshness"], "properties": {"freshness": {"type": "object"}}}
    schema["allOf"] = [
        {"properties": {"defaults": whole}},
        {
            "if": {"required": ["defaults"], "properties": {"defaults": default}},
            "else": {"properties": {"tables": {"items": whole}}},
        },
    ]
