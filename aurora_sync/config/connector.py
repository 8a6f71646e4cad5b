"""The model of ``connector:`` of a table under debezium: the options of its Debezium connector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aurora_sync.config.field_types import Name, StrictModel

# The connector sends this text in place of a value that an update did not change. A row that holds the text would be
# taken for unchanged, so it is one that no application writes.
PLACEHOLDER = "aurora_sync.unchanged.9f3c61d27ab84e05"


class Connector(StrictModel):
    """The options of the Debezium connector, under Debezium's names. The defaults are those that ``cdc connector``
    prints; only with them does every value arrive unchanged. With other options, a sync refuses each column whose
    values could arrive changed."""

    decimal: Literal["string", "precise", "double"] = Field(
        "string",
        alias="decimal.handling.mode",
        description="precise sends NaN as NULL and drops trailing zeros; double rounds.",
    )
    time: Literal[
        "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured"
    ] = Field(
        "microseconds",
        alias="time.precision.mode",
        description="isostring sends 24:00 as 00:00; nanoseconds sends NULL for times before 1677 and after 2262; "
        "connect rounds to milliseconds; with the adaptive modes, the unit of a number depends on the precision that "
        "the column had when the event was written.",
    )
    interval: Literal["string", "numeric"] = Field(
        "string", alias="interval.handling.mode", description="numeric sends months and days as microseconds."
    )
    binary: Literal["bytes", "base64", "base64-url-safe", "hex"] = Field(
        "bytes",
        alias="binary.handling.mode",
        description="With base64 and base64-url-safe, an unchanged bytea arrives as NULL.",
    )
    placeholder: str = Field(
        PLACEHOLDER,
        min_length=1,
        alias="unavailable.value.placeholder",
        description="The string that the connector sends in place of an unchanged value. A value that equals this "
        "string is taken for unchanged.",
    )
    failures: Literal["fail", "warn", "skip"] = Field(
        "fail",
        alias="event.converting.failure.handling.mode",
        description="What the connector does with a value that it cannot convert. Debezium's own default, warn, sends "
        "NULL.",
    )
    role: Name = Field(
        "debezium",
        description="The PostgreSQL role that the connector logs in as; `cdc setup` shows the settings that the role "
        "must have.",
    )
    flattened: bool = Field(
        False,
        description="Whether the connector uses the transform ExtractNewRecordState. The table must never be "
        "truncated.",
    )
    plain_arrays: bool = Field(
        False,
        description="Whether every array has one dimension and subscripts that start at 1. Debezium drops other "
        "dimensions and subscripts silently, so that a table with arrays is refused unless this is true.",
    )

    @property
    def options(self) -> dict[str, str]:
        """The options that have a name in the connector's configuration, by that name."""
        fields = type(self).model_fields
        return {f.alias: getattr(self, name) for name, f in fields.items() if f.alias}
