"""Validation of cron expressions of five fields when the configuration is read, not when a schedule starts."""

from __future__ import annotations

import re

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    ("weekday", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_PART = re.compile(r"(\w{1,3})|(?:\*|(\w{1,3})-(\w{1,3}))(?:/([0-9]{1,3}))?", re.ASCII)
_LONGEST = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}


def check_cron(expression: str) -> str:
    """Return the expression. Raises ValueError, with the name of the field, when it is invalid or never matches a date.

    Allowed are ``*``, numbers, names (jan, mon), ranges ``a-b``, lists ``a,b`` and steps ``*/n``, ``a-b/n``.
    """
    sets = [_values(text, *field) for text, field in zip(expression.lower().split(), _FIELDS, strict=True)]
    days, months = sets[2], sets[3]
    if expression.split()[4] == "*" and not any(min(days) <= _LONGEST[month] for month in months):
        raise ValueError(f"none of its months has a day {min(days)}, so that the schedule would never run")
    return expression


def _values(text: str, field: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        ends = [names.get(end, end) for end in match.group(1, 2, 3) if end] if match else []
        if match is None or not all(str(end).isdecimal() and low <= int(end) <= high for end in ends):
            raise ValueError(f"the {field} is {part!r}; expected * or {low} to {high}, with -, comma and /")
        first, last = (int(ends[0]), int(ends[-1])) if ends else (low, high)
        step = int(match[4] or 1)
        # Dagster's parser treats 5-5 as *, and a step beyond the range as 1
        if not match[1] and not (first < last and 1 <= step <= last - first):
            raise ValueError(
                f"the {field} is {part!r}; expected a range from a smaller to a larger value, and a step within the "
                "range"
            )
        values.update(range(first, last + 1, step))
    return values
