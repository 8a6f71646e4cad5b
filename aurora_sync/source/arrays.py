"""Converts an array from PostgreSQL's text to the JSON that the SQL of copy_out.py produces on the server.

>>> as_json('{1,NULL,{2}}', "_int4"), as_json('{a,"b,c",NULL,"NULL"}', "_text"), as_json("[0:1]={5,6}", "_int4")
('[1,null,[2]]', '["a","b,c",null,"NULL"]', '[0:1]={5,6}')
"""

from __future__ import annotations

import json
import re

# Arrays whose elements are JSON numbers or booleans; elements of any other type become JSON strings.
AS_IN_JSON = {"_int2", "_int4", "_int8", "_bool"}
FLOATS = {"_float4", "_float8"}  # numbers too, unless one is -0: a JSON number may lose its sign

# Possessive quantifiers: matched one character at a time, an element of 10 MB takes a second.
_TOKEN = re.compile(r'[{},]|"((?:[^"\\]++|\\.)*+)"|([^{},"]++)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MINUS_ZERO = re.compile(r"[{,]-0[,}]")
_BRACKETS = {"{": "[", "}": "]", ",": ","}
_BOOLS = {"t": "true", "f": "false"}
_NO_NUMBERS = {"NaN", "Infinity", "-Infinity"}


def as_json(text: str, base_type: str) -> str:
    """Convert an array of ``base_type`` (``pg_type.typname``). If its subscripts do not begin at 1, return it as is."""
    if text[0] == "[":
        return text
    plain = base_type in AS_IN_JSON or (base_type in FLOATS and not _MINUS_ZERO.search(text))

    def element(found: re.Match[str]) -> str:
        token, quoted, bare = found[0], found[1], found[2]
        if token in _BRACKETS:
            return _BRACKETS[token]
        if bare == "NULL":
            return "null"
        if plain and bare not in _NO_NUMBERS:
            return _BOOLS[bare] if base_type == "_bool" else bare
        value = _ESCAPED.sub(r"\1", quoted) if quoted is not None else bare
        return json.dumps(value, ensure_ascii=False)

    return _TOKEN.sub(element, text)
