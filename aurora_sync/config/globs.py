"""Names of tables.yaml as patterns: which name a pattern stands for, and where schema and table part."""

from __future__ import annotations

import re

_ESCAPED = re.compile(r"\[([^!])\]")


def literal(pattern: str) -> str | None:
    """The one name a pattern stands for, None when it is a glob: ``a[*]b`` is ``a*b``, ``a*`` is a glob."""
    if set("*?[") & set(_ESCAPED.sub("", pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def split_name(name: str) -> list[str]:
    """The parts of a name, cut at every dot that is not written [.]"""
    return re.split(r"(?<!\[)\.|\.(?!\])", name)
