from __future__ import annotations

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora_sync.config.cron import check_cron


@pytest.mark.parametrize(
    "expression",
    [
        "* * * * *",
        "*/15 * * * *",
        "0 2 * * mon-fri",
        "5,35 8-18/2 1,15 JAN-mar 0",
        "0 0 29 2 *",
        "0 0 31 * 7",
    ],
)
def test_common_expressions_are_accepted_here_and_by_dagster(expression: str) -> None:
    assert check_cron(expression) == expression
    dg.ScheduleDefinition(job_name="job", cron_schedule=expression)  # raises where Dagster does not accept it


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("60 * * * *", "the minute is '60'"),
        ("* 24 * * *", "the hour is '24'"),
        ("* * 0 * *", "the day of the month is '0'"),
        ("* * * 13 *", "the month is '13'"),
        ("* * * * 8", "the weekday is '8'"),
        ("* * * * funday", "the weekday is 'funday'"),
        ("*/0 * * * *", "the minute is '\\*/0'"),
        ("*/70 * * * *", "the minute is '\\*/70'"),
        ("30-10 * * * *", "the minute is '30-10'"),
        ("0-0 * * * *", "the minute is '0-0'"),
        ("5/15 * * * *", "the minute is '5/15'"),
        ("1-5/9 * * * *", "the minute is '1-5/9'"),
        ("1,,2 * * * *", "the minute is ''"),
        ("-5 * * * *", "the minute is '-5'"),
        ("٥ * * * *", "the minute is '٥'"),
        ("0 0 30 2 *", "none of its months has a day 30"),
        ("0 0 31 4,6 *", "none of its months has a day 31"),
    ],
)
def test_what_would_never_run_is_refused_with_the_field_that_is_wrong(expression: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_cron(expression)


def parts(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low - 1, high + 1).map(str)
    span = st.tuples(number, number).map("-".join)
    step = st.tuples(st.one_of(span, number, st.just("*")), st.integers(0, high + 1).map(str)).map("/".join)
    return st.lists(st.one_of(st.just("*"), number, span, step), min_size=1, max_size=3).map(",".join)


@given(st.tuples(parts(0, 59), parts(0, 23), parts(1, 31), parts(1, 12), parts(0, 7)).map(" ".join))
def test_what_is_accepted_here_dagster_accepts_too(expression: str) -> None:
    try:
        check_cron(expression)
    except ValueError:
        return
    dg.ScheduleDefinition(job_name="job", cron_schedule=expression)  # raises where Dagster does not accept it
