"""Readers of texts, hstore and ranges with time zone."""

from __future__ import annotations

import json
from typing import Any

from aurora_sync.source.debezium.sent_column import Field, SentColumn
from aurora_sync.source.debezium.spelling import hstore_text, ranges_in_utc


def text(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError("expected a string")
    return value


def hstore(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is None:
        return None
    pairs = json.loads(value) if isinstance(value, str) else value
    return hstore_text(pairs)


def tstzrange(sent: SentColumn, value: Any, field: Field) -> str | None:
    return None if value is None else ranges_in_utc(value)
