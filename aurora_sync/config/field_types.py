"""The types of the values in tables.yaml, with their allowed texts, and the base class of the models."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from aurora_sync.config.cron import check_cron


class StrictModel(BaseModel):
    # strict: "10" is not a number and 1 is not a string, in the loader as in the JSON Schema
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)


@dataclass(frozen=True)
class Matches:
    """A constraint: the whole string matches ``pattern``. ``allowed`` describes the pattern in error messages."""

    pattern: str
    allowed: str

    def check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f"expected {self.allowed}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^({self.pattern})$"}


def _one_or_many(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise ValueError("expected a name or a list of names")
    return [value] if isinstance(value, str) else value


def _distinct(names: list[str]) -> list[str]:
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"{', '.join(twice)} is listed twice; expected each name once")
    return names


# Dagster defines the allowed forms of owners, tags and groups.
_LABEL = "[A-Za-z0-9_.-]"
BIGINT = 2**63 - 1  # the largest id
# PostgreSQL does not allow NUL in a string.
Name = Annotated[str, Field(min_length=1), Matches(r"[^\0]*", "a string without NUL characters")]
# The name of a target, made from the names of its source.
NameTemplate = Annotated[
    str,
    Field(min_length=1),
    Matches(
        r"([^\0{}]|\{(schema|table)\})*", "a text without NUL characters, '{' and '}', but with {schema} and {table}"
    ),
]
_NameList = Annotated[list[Name], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
Names = Annotated[
    list[Name],
    Field(min_length=1),
    BeforeValidator(_one_or_many, json_schema_input_type=Name | _NameList),
    AfterValidator(_distinct),
]
Duration = Annotated[str, Matches(r"[1-9][0-9]{0,4}[mhd]", "a number of minutes, hours or days such as 30m, 2h or 1d")]
Size = Annotated[str, Matches(r"[1-9][0-9]{0,5}(MB|GB|TB)", "a size such as 500MB, 50GB or 2TB")]
Cron = Annotated[
    str,
    Matches(r"\S+( +\S+){4}", "five fields (minute hour day month weekday) such as '*/15 * * * *'"),
    AfterValidator(check_cron),
]
Owner = Annotated[
    str,
    Matches(r"team:\S+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", "an e-mail address, or team:name"),
]
TagKey = Annotated[
    str,
    Matches(
        f"({_LABEL}{{1,63}}/)?{_LABEL}{{1,63}}",
        "up to 63 letters, digits, '_', '-' or '.', optionally after a prefix and '/'",
    ),
]
TagValue = Annotated[str, Matches(f"{_LABEL}{{0,63}}", "up to 63 letters, digits, '_', '-' or '.'")]
Tag = str | dict[str, Any]  # of a step or a run in Dagster, which writes a mapping as JSON
ObjectTag = Annotated[
    str, Matches(r"([A-Za-z_][A-Za-z0-9_$]*\.){0,2}[A-Za-z_][A-Za-z0-9_$]*", "tag, schema.tag or database.schema.tag")
]
ObjectTagValue = Annotated[str, Matches(r"[^\0]{0,256}", "up to 256 characters")]
# The text becomes a part of a statement that has parameters.
Predicate = Annotated[
    str, Matches(r"(?![^\0]*(--|/\*))[^;?\0]+", "a condition of SQL on the target t, without ';', '?' and comments")
]
# YAML reads an unquoted null as None.
Policy = Annotated[
    Literal["exact", "text", "fail", "null", "clamp"],
    BeforeValidator(
        lambda value: "null" if value is None else value,
        json_schema_input_type=Literal["exact", "text", "fail", "null", "clamp", None],
    ),
]
Slot = Annotated[str, Matches(r"[a-z0-9_]{1,63}", "up to 63 lower-case letters, digits and '_'")]
Topic = Annotated[str, Matches(r"[A-Za-z0-9._-]{1,100}", "up to 100 letters, digits, '_', '-' or '.'")]
Path = Annotated[str, Matches(r"[^/?#\0]+(/[^/?#\0]+)*", "a folder without a / at the start or the end")]
Folder = Annotated[str, Matches(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\0]*)?", "s3://bucket/folder")]
Pool = Annotated[str, Matches(r"[^\s\0]+", "a name without blanks")]
Group = Annotated[str, Matches(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*", "letters, digits and '_', in segments joined by '/'")]


def duration(text: str) -> timedelta:
    """Return the timedelta of a text such as ``30m``, ``2h`` or ``1d``."""
    unit = {"m": "minutes", "h": "hours", "d": "days"}[text[-1]]
    return timedelta(**{unit: int(text[:-1])})


def size(text: str) -> int:
    """Return the bytes of a text such as ``500MB``, ``50GB`` or ``2TB`` (powers of 1,000)."""
    return int(text[:-2]) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[text[-2:]]
