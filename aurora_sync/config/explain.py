"""Translation of pydantic's errors to the terms of tables.yaml: what was found, and what was expected."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from types import NoneType
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from aurora_sync.config.defaults import Defaults
from aurora_sync.config.document import KeyPath, quote
from aurora_sync.config.tables import TableConfig

_EXPECTED = {
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_too_short": "a string that is not empty",
    "too_short": "a list of {min_length} or more",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}


def explain(model: type[BaseModel], detail: ErrorDetails, where: KeyPath, written: str | None) -> str:
    """Return the sentence for an error of pydantic at ``where`` in ``model``: what was found, and what was expected.
    ``written`` is the value as written in the file, None when it is not a scalar."""
    value, context = detail["input"], detail.get("ctx", {})
    found = f"found {in_words(value)}"
    match detail["type"]:
        case "extra_forbidden":
            if model is Defaults and where[0] in keys(TableConfig):
                return "cannot be a default; set it in the entry of a table"
            return unknown_key(str(where[-1]), keys(_inner(model, where[:-1])))
        case "missing":
            return "missing"
        case "enum" | "literal_error":
            choices = re.findall(r"'([^']*)'", str(context["expected"]))
            return f"{found}; expected one of {', '.join(choices)}{_did_you_mean(str(value), choices)}"
        case "value_error":
            text = str(context["error"])
            return text if isinstance(value, dict) and not text.startswith("expected") else f"{found}; {text}"
        case "string_type" if isinstance(value, bool | int | float) and written is not None:
            kind = "boolean" if isinstance(value, bool) else "number"
            return f"found {written}, which YAML reads as a {kind}; {quote(written)}"
        case kind if kind in _EXPECTED:
            return f"{found}; expected {_EXPECTED[kind].format_map(context)}"
    return f"{found}; {detail['msg']}"


def in_words(value: Any) -> str:
    """Return a description of a value that is short enough for an error message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "a mapping"
        case int() if abs(value) >= 2**63:  # Python refuses to print the largest ones
            return "a number of more than 64 bits"
    return repr(value)


def unknown_key(key: str, known: set[str]) -> str:
    return f"unknown key{_did_you_mean(key, known) or '; known keys: ' + ', '.join(sorted(known))}"


def keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _inner(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """Return the model at ``path`` inside ``model``."""
    for part in path:
        annotation = next(f.annotation for name, f in model.model_fields.items() if part == (f.alias or name))
        model = next(t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and t is not NoneType)
    return model


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
