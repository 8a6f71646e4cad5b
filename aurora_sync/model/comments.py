"""The comments of a source table and of its columns, as one digest that a watermark stores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from aurora_sync.model.column import Column


def digest(table: str | None, columns: Iterable[Column]) -> str:
    """Return a digest of the comments. It is never empty, also if there are no comments.

    >>> digest(None, []) == digest("", [Column("a", 1, "text", "text")]) != digest("orders", [])
    True
    """
    comments = {column.name: column.comment for column in columns if column.comment}
    text = json.dumps([table or "", comments], sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:16]
