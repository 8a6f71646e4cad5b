"""The report of the live suite: complete, readable, and without names of the user's account."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest

from aurora_sync.errors import WarehouseError
from aurora_sync_tests.live import suite
from aurora_sync_tests.live.cases import CASES, Answer, Case, said
from aurora_sync_tests.live.redaction import Redaction, of_environment
from aurora_sync_tests.live.report import SUBJECTS, Line, Report

ENVIRONMENT = {
    "AURORA_DSN": "postgresql://reader%40corp:pass%2Fword@db7.internal.example:5432/legacydb?sslmode=require",
    "AURORA_SYNC_STAGE": "s3://lake-9f/raw/sync",
    "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE",
    "SNOWFLAKE_ACCOUNT": "acmeorg-prod77",
    "SNOWFLAKE_USER": "loader_svc",
    "SNOWFLAKE_ROLE": "LOADER_ROLE",
    "SNOWFLAKE_WAREHOUSE": "LOAD_WH",
    "SNOWFLAKE_DATABASE": "ANALYTICSDB",
    "SNOWFLAKE_STAGE": "analyticsdb.landing7.files9",
    "SNOWFLAKE_PASSWORD": "s3cret<&>",
    "SNOWFLAKE_STATEMENT_TIMEOUT": "600",
}
NAMES = (
    *(
        "acmeorg-prod77",
        "ACMEORG",
        "prod77",
        "loader_svc",
        "LOADER_ROLE",
        "LOAD_WH",
        "ANALYTICSDB",
        "landing7",
        "files9",
    ),
    *(
        "s3cret<&>",
        "db7.internal.example",
        "reader@corp",
        "pass/word",
        "legacydb",
        "lake-9f",
        "raw/sync",
        "AKIAEXAMPLE",
    ),
)
# Settings do not hold these; servers print them.
PRINTED = (
    *("other.eu-central-1.snowflakecomputing.com", "otherbucket.s3.eu-west-1.amazonaws.com", "203.0.113.7"),
    *("someone@corp.example", "arn:aws:iam::123456789012:role/loader", "s3://another-bucket"),
)


def line(evidence: str, **changes: Any) -> Line:
    return Line(
        **{"rule": 1, "sentence": "A rule", "answer": Answer.YES, "evidence": evidence, "where": "here", **changes}
    )


def test_report_has_no_name_of_the_account() -> None:
    forms = ("{}", '"{}"."T"', "({})", "snowflake:{}/x", "{}:443", "'{}'", "{}.")
    names = [spelled for name in (*NAMES, *PRINTED) for spelled in (name, name.upper(), name.lower())]
    lines = [line(form.format(name)) for name in names for form in forms]
    report = Report({"fact": " ".join(names)}, lines, of_environment(ENVIRONMENT))
    for shown in (report.text(), unescape(report.html())):
        assert [name for name in names if name.lower() in shown.lower()] == []


def test_rest_of_the_evidence_stays() -> None:
    redaction = of_environment(ENVIRONMENT)
    assert redaction.clean("2 of 7 rows in 600 s, {'A': 1.5}; loads") == "2 of 7 rows in 600 s, {'A': 1.5}; loads"
    assert redaction.clean("role LOADER_ROLE lacks USAGE") == "role <role> lacks USAGE"


def test_html_loads_nothing_and_escapes_what_it_shows() -> None:
    page = Report({"PostgreSQL": "18 <b>"}, [line("a <script> & 'quotes'")]).html()
    assert not re.search(r"(?i)\b(src|href|url\(|@import)\b|https?://", page)
    assert "<script>" not in page
    assert "a &lt;script&gt; &amp;" in page
    assert "{" not in page[page.index("<body>") :]


def test_text_fits_100_columns_and_counts_the_answers() -> None:
    lines = [
        line("word " * 60),
        line("x", answer=Answer.NO, rule=19),
        line("y", answer=Answer.NOT_TRIED, where="", rule=0),
    ]
    text = Report({}, lines).text()
    assert max(map(len, text.splitlines())) <= 100
    assert "1 yes, 1 no, 1 not tried" in text
    assert text.index("Whole runs") < text.index("Rule 1:") < text.index("Rule 19:")


def test_each_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} == set(SUBJECTS) == set(range(20))
    assert len({case.name for case in CASES}) == len(CASES)


def test_case_without_a_fake_says_why() -> None:
    without = [case for case in CASES if not case.fakes]
    report = suite.run({}, Redaction(), only=[case.name for case in without], quiet=True)
    assert report.count(Answer.NOT_TRIED) == len(without) > 0
    assert all(each.evidence.startswith("the fake cannot: ") for each in report.lines)


@pytest.mark.parametrize(
    ("message", "optional", "answer"),
    [
        ("Unsupported feature 'MASKING POLICY'.", "Enterprise", Answer.NOT_TRIED),
        ("Insufficient privileges to operate on schema", "CREATE STREAM", Answer.NOT_TRIED),
        ("Insufficient privileges to operate on schema", "", Answer.NO),
        ("syntax error line 1", "Enterprise", Answer.NO),
    ],
)
def test_refused_statement_is_a_no_unless_the_account_may_lack_it(message: str, optional: str, answer: Answer) -> None:
    def refuse(_: Any) -> Any:
        raise WarehouseError(message)

    found = Case(1, "x", refuse, cannot="x", optional=optional).answered(None)  # type: ignore[arg-type]
    assert found.answer is answer
    assert message in found.evidence


def test_exception_of_a_case_is_a_no() -> None:
    def fail(_: Any) -> Any:
        raise KeyError("missing\ncolumn")

    found = Case(1, "x", fail, cannot="x").answered(None)  # type: ignore[arg-type]
    assert (found.answer, found.evidence) == (Answer.NO, "failed: KeyError: 'missing\\ncolumn'")


def test_answer_follows_the_condition() -> None:
    assert (said(True, "a").answer, said(False, "a").answer) == (Answer.YES, Answer.NO)
