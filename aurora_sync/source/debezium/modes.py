"""Options of the connector that decide how a value is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from aurora_sync.config.connector import Connector

TimeMode = Literal[
    "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured"
]
BinaryMode = Literal["bytes", "base64", "base64-url-safe", "hex"]


@dataclass(frozen=True)
class Modes:
    """The connector's options that decide how a value is read, and facts that only the user knows. The defaults are the
    cautious choice, for facts that are not known.

    The schema of a message, if it has one, overrides ``decimal``, ``time``, ``interval`` and ``binary``.
    """

    decimal: Literal["string", "precise", "double"] = "string"  # decimal.handling.mode
    time: TimeMode = "microseconds"  # time.precision.mode
    interval: Literal["string", "numeric"] = "string"  # interval.handling.mode
    binary: BinaryMode = "bytes"  # binary.handling.mode
    placeholder: str = "__debezium_unavailable_value"  # unavailable.value.placeholder, including a prefix hex:
    full_before: bool = False  # the table has REPLICA IDENTITY FULL: events have the complete old row
    conversion_fails: bool = False  # event.converting.failure.handling.mode is fail
    plain_arrays: bool = False  # every array has one dimension, and subscripts from 1
    pinned_session: bool = False  # Debezium's role has the settings of role_settings.py
    infinite_intervals: bool = True  # the source has infinite intervals (PostgreSQL 17 and later)
    flattened: bool = False  # events went through ExtractNewRecordState, which silently drops every TRUNCATE

    @classmethod
    def of(
        cls, connector: Connector, *, pinned_session: bool, infinite_intervals: bool, full_before: bool = False
    ) -> Self:
        return cls(
            decimal=connector.decimal,
            time=connector.time,
            interval=connector.interval,
            binary=connector.binary,
            placeholder=connector.placeholder,
            conversion_fails=connector.failures == "fail",
            plain_arrays=connector.plain_arrays,
            flattened=connector.flattened,
            pinned_session=pinned_session,
            infinite_intervals=infinite_intervals,
            full_before=full_before,
        )
