"""Parsing of the patterns in tables.yaml: the split into schema and table, and names without wildcards."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\[([^!])\]")


def literal(pattern: str) -> str | None:
    """Return the one name that a pattern matches, None when it is a glob: ``a[*]b`` matches ``a*b`` alone, ``a*`` is a
    glob."""
    if set("*?[") & set(_ESCAPED.sub("", pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def split_name(name: str) -> list[str]:
    """Return the parts of a name, split at every dot that is not written as ``[.]``."""
    return re.split(r"(?<!\[)\.|\.(?!\])", name)
