"""The live suite on the fakes, so that it does not rot; all cases are in the long tier."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg2
import pytest

from aurora_sync.embedded.stack import BUCKET, Stack
from aurora_sync.errors import ConfigError
from aurora_sync.objects.store import Store
from aurora_sync_tests.fixtures.fakesnow_server import FakeSnowflake
from aurora_sync_tests.live import __main__, cases, redaction, sessions, suite
from aurora_sync_tests.live.cases import CASES, Answer, Case, Found
from aurora_sync_tests.live.fakes import fake_grounds
from aurora_sync_tests.live.ground import Ground, Live
from aurora_sync_tests.live.suite import Open

# One or two cases of each file, on both fakes.
QUICK = (
    *("target_is_never_replaced", "check_finds_nothing", "insert_with_having", "waited_for_a_lock", "killed_merge"),
    *("size_changes", "merge_counts", "temporary_staging", "missing_file", "percent_in_a_key", "sums_agree"),
)
Fakes = tuple[dict[Ground, Open], Mapping[str, str]]


@pytest.fixture
def fakes(stack: Stack, fakesnow_server: FakeSnowflake) -> Iterator[Fakes]:
    with fake_grounds(stack, rows=2_000, server=fakesnow_server) as found:
        yield found


@pytest.mark.parametrize(
    "only", [QUICK, pytest.param((), marks=pytest.mark.long)], ids=["some of each kind", "all cases"]
)
def test_cases_hold_on_the_fakes(fakes: Fakes, only: tuple[str, ...]) -> None:
    grounds, environment = fakes
    report = suite.run(grounds, redaction.of_environment(environment), only=only, quiet=True)
    wrong = [f"{line.sentence}: {line.evidence}" for line in report.lines if line.answer is Answer.NO]
    assert wrong == []
    assert {line.where for line in report.lines} == {Ground.FAKE.value, Ground.SMALL.value, ""}
    names = [environment[f"SNOWFLAKE_{name}"] for name in ("ACCOUNT", "USER", "DATABASE", "HOST")]
    for shown in (report.text(), report.html()):
        assert [name for name in names if name.lower() in shown.lower()] == []
    assert [line for line in report.lines if BUCKET in line.evidence] == []  # also the name of the command


@pytest.mark.parametrize("ground", [Ground.FAKE, Ground.SMALL])
def test_nothing_is_left_after_a_failure(fakes: Fakes, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    grounds, environment = fakes
    seen: list[Live] = []

    def stop(live: Live) -> Found:
        seen.append(live)
        live.at_source("CREATE TABLE t (id int PRIMARY KEY)")
        live.run(live.config("t"))
        live.make_schema("MORE")
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "CASES", [Case(1, "x", stop, (ground,))])
    with pytest.raises(KeyboardInterrupt):
        suite.run({ground: grounds[ground]}, redaction.Redaction(), quiet=True)
    (live,) = seen
    with live.plain.warehouse.session() as session:
        for schema in (live.schema, f"{live.schema}_MORE", live.places.log_schema):
            assert not any(schema in row for row in session.query("SHOW SCHEMAS")), schema
    store = Store.from_url(environment["AURORA_SYNC_STAGE"])
    assert store.list(f"{store.prefix}{live.name}") == []
    with psycopg2.connect(environment["AURORA_DSN"]) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname = %s", (live.name,))
        assert cursor.fetchone() == (0,)
    connection.close()


@pytest.mark.long
def test_process_is_killed_when_its_merge_runs(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process logs in to the fake; the history of queries, which the fake lacks, is the test's."""
    grounds, environment = fakes
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with grounds[Ground.FAKE]() as live:
        sessions.begin_to_kill(live)
        refused = sessions.killed_merge.answered(live)
        assert refused.answer is Answer.NOT_TRIED
        assert "could not be watched" in refused.evidence
        query, tags = live.query, list[str]()

        def answered(statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
            if "QUERY_HISTORY" not in statement:
                return query(statement, parameters)
            tags.append(parameters[0])
            return [("id", "RUNNING" if len(tags) == 1 else "FAILED_WITH_ERROR", 312_000)]

        live.query = answered  # type: ignore[method-assign]
        query(f"DROP TABLE {live.table('KILLED').sql}")
        sessions.begin_to_kill(live)
        found = sessions.killed_merge.answered(live)
        live.query = query  # type: ignore[method-assign]
    assert (found.answer, found.evidence) == (
        Answer.YES,
        "the MERGE ended as FAILED_WITH_ERROR after 312 s; it wrote 0 rows",
    )
    assert tags == [f"{live.name} killed"] * 2


def test_case_cannot_be_without_a_fake_and_without_a_reason() -> None:
    with pytest.raises(AssertionError):
        cases.case(1, "x")
    assert all(bool(case.fakes) != bool(case.cannot) for case in CASES)


def test_suite_without_settings_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["live"])
    for name in ("AURORA_SYNC_STAGE", "AURORA_DSN"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="AURORA_SYNC_STAGE is not set"):
        __main__.main()
