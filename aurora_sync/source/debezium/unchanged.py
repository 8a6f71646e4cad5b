"""The placeholder that the connector sends for a value that an update did not change."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Placeholder:
    """Forms of the placeholder, by the type of the column."""

    text: str
    binary: frozenset[str]
    lists: tuple[list[Any], ...]


def placeholder_forms(placeholder: str) -> Placeholder:
    """Return the forms of ``unavailable.value.placeholder``."""
    data = bytes.fromhex(placeholder[4:]) if placeholder.startswith("hex:") else placeholder.encode()
    text = data.decode(errors="replace")
    digest = bytearray(hashlib.md5(data, usedforsecurity=False).digest())
    digest[6], digest[8] = digest[6] & 0x0F | 0x30, digest[8] & 0x3F | 0x80  # Java's UUID.nameUUIDFromBytes
    hexed = digest.hex()
    uuid = f"{hexed[:8]}-{hexed[8:12]}-{hexed[12:16]}-{hexed[16:20]}-{hexed[20:]}"
    binary = {text, data.hex(), base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()}
    coded = base64.b64encode(data).decode()
    return Placeholder(text, frozenset(binary), ([text], [coded], [uuid], list(struct.unpack(f"{len(data)}b", data))))
