"""The model of ``connector:`` of a table under debezium: the options of its Debezium connector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aurora_sync.config.field_types import Name, StrictModel

# The connector sends this text in place of a value that an update did not change. A row that holds the text would be
# taken for unchanged, so it is one that no application writes.
PLACEHOLDER = "aurora_sync.unchanged.9f3c61d27ab84e05"


class Connector(StrictModel):
    """How the Debezium connector is configured, by its own names. The defaults are what ``cdc connector`` prints, the
    one configuration under which every value comes as it is; what another makes uncertain is refused by column."""

    decimal: Literal["string", "precise", "double"] = Field(
        "string",
        alias="decimal.handling.mode",
        description="precise makes NaN NULL and drops zeros at the end, double rounds.",
    )
    time: Literal[
        "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured"
    ] = Field(
        "microseconds",
        alias="time.precision.mode",
        description="isostring sends 24:00 as 00:00, nanoseconds NULL for what is far away, connect milliseconds; "
        "under the adaptive modes a number's unit is that of the column's precision when it was sent.",
    )
    interval: Literal["string", "numeric"] = Field(
        "string", alias="interval.handling.mode", description="numeric makes microseconds of months and days."
    )
    binary: Literal["bytes", "base64", "base64-url-safe", "hex"] = Field(
        "bytes",
        alias="binary.handling.mode",
        description="Under base64 and base64-url-safe an unchanged bytea comes as NULL.",
    )
    placeholder: str = Field(
        PLACEHOLDER,
        min_length=1,
        alias="unavailable.value.placeholder",
        description="A row with this very text would be taken for unchanged.",
    )
    failures: Literal["fail", "warn", "skip"] = Field(
        "fail",
        alias="event.converting.failure.handling.mode",
        description="Debezium's own default goes on with NULL in place of a value that it could not convert.",
    )
    role: Name = Field(
        "debezium", description="The role that it logs in as; `cdc setup` shows which settings it must have."
    )
    flattened: bool = Field(
        False, description="ExtractNewRecordState is among its transforms, and the table is never truncated."
    )
    plain_arrays: bool = Field(
        False,
        description="Every array has one dimension and subscripts from 1. Debezium loses the others without a word, so "
        "that tables with arrays are refused without this.",
    )

    @property
    def options(self) -> dict[str, str]:
        """The options that have a name in the connector's configuration, by that name."""
        fields = type(self).model_fields
        return {f.alias: getattr(self, name) for name, f in fields.items() if f.alias}
