"""Readable names for cron expressions, as parts of the names of jobs and schedules."""

from __future__ import annotations

import re

_DAYS = ("sundays", "mondays", "tuesdays", "wednesdays", "thursdays", "fridays", "saturdays")


def cron_name(cron: str) -> str:
    """Return a valid Dagster name for a cron expression. Different expressions have different names.

    >>> cron_name("*/15 * * * *"), cron_name("0 * * * *"), cron_name("30 2 * * *"), cron_name("0 5 * * 0")
    ('every_15_minutes', 'hourly', 'daily_at_02_30', 'sundays_at_05_00')
    >>> cron_name("*/15 2-4 * * *")
    'xby15_2to4_x_x_x'
    """
    minute, hour, day, month, weekday = cron.split()
    match minute, hour, day, month, weekday:
        case "*", "*", "*", "*", "*":
            return "every_minute"
        case _, "*", "*", "*", "*" if step := _step(minute):
            return f"every_{step}_minutes"
        case _, _, "*", "*", "*" if _number(minute) and (step := _step(hour)):
            return f"every_{step}_hours{_past(minute)}"
        case _, "*", "*", "*", "*" if _number(minute):
            return f"hourly{_past(minute)}"
    at = f"at_{hour:0>2}_{minute:0>2}"
    match day, month, weekday:
        case _ if not (_number(minute) and _number(hour)):
            pass
        case "*", "*", "*":
            return f"daily_{at}"
        case "*", "*", "1-5":
            return f"weekdays_{at}"
        case "*", "*", _ if re.fullmatch("[0-6]", weekday):
            return f"{_DAYS[int(weekday)]}_{at}"
        case _, "*", "*" if _number(day):
            return f"monthly_on_day_{day}_{at}"
    return "".join({"*": "x", "/": "by", "-": "to", ",": "and", " ": "_"}.get(letter, letter) for letter in cron)


def _number(text: str) -> bool:
    """Return whether the text is a number in its shortest form: 07 is another expression than 7."""
    return re.fullmatch("0|[1-9][0-9]?", text) is not None


def _step(text: str) -> str:
    return text[2:] if text.startswith("*/") and _number(text[2:]) else ""


def _past(minute: str) -> str:
    return "" if minute == "0" else f"_at_{minute:0>2}"
