"""Readers of values that are sent as bytes: bytea, bit, and the texts of types that Debezium does not know."""

from __future__ import annotations

import base64
from typing import Any

from aurora_sync.source.debezium.sent_column import Field, SentColumn
from aurora_sync.source.debezium.spelling import ranges_in_utc


def bytea(sent: SentColumn, value: Any, field: Field) -> str | None:
    data = _bytes(sent, value, field)
    return None if data is None else "\\x" + data.hex()


def opaque(sent: SentColumn, value: Any, field: Field) -> str | None:
    """Read a text that include.unknown.datatypes sends as bytes."""
    data = _bytes(sent, value, field)
    return None if data is None else data.decode()


def tstzmultirange(sent: SentColumn, value: Any, field: Field) -> str | None:
    text = opaque(sent, value, field)
    return None if text is None else ranges_in_utc(text)


def bit(sent: SentColumn, value: Any, field: Field) -> str | None:
    if value is None:
        return None
    length = sent.column.base_modifier
    coded = not isinstance(value, bool)
    number = int.from_bytes(base64.b64decode(value, validate=True), "little") if coded else int(value)
    if length < 1 or number >> length:
        raise ValueError(f"expected {length} bits")
    return f"{number:0{length}b}"


def _bytes(sent: SentColumn, value: Any, field: Field) -> bytes | None:
    if value is None:
        return None
    mode = "bytes" if field.get("type") == "bytes" else sent.modes.binary
    if not isinstance(value, str):
        raise TypeError("expected a string")
    if field.get("type") == "string" and mode == "bytes":
        sent.refuse("bytes are sent as text of unknown encoding", "set binary.handling.mode in tables.yaml")
    if mode == "hex":
        return bytes.fromhex(value)
    return base64.b64decode(value, altchars=b"-_" if mode == "base64-url-safe" else None, validate=True)
