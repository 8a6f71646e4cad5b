"""An array as PostgreSQL prints it, as the JSON that copy_out.py has the server make of it.

>>> as_json('{1,NULL,{2}}', "_int4"), as_json('{a,"b,c",NULL,"NULL"}', "_text"), as_json("[0:1]={5,6}", "_int4")
('[1,null,[2]]', '["a","b,c",null,"NULL"]', '[0:1]={5,6}')
"""

from __future__ import annotations

import json
import re

# Of these JSON has the very digits; elements of any other type stand in it as their text.
AS_IN_JSON = {"_int2", "_int4", "_int8", "_bool"}
FLOATS = {"_float4", "_float8"}  # theirs, too, but for -0, of which a JSON number may lose the sign

# Possessive: by single characters, an element of 10 MB takes a second.
_TOKEN = re.compile(r'[{},]|"((?:[^"\\]++|\\.)*+)"|([^{},"]++)', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_MINUS_ZERO = re.compile(r"[{,]-0[,}]")
_BRACKETS = {"{": "[", "}": "]", ",": ","}
_BOOLS = {"t": "true", "f": "false"}
_NO_NUMBERS = {"NaN", "Infinity", "-Infinity"}


def as_json(text: str, base_type: str) -> str:
    """``base_type`` is the array's ``pg_type.typname``. One whose subscripts do not begin at 1 stays as it is."""
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
