"""Retries: which errors, how often, after which pauses; and a lost connection loses no row."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from botocore.exceptions import ClientError
from psycopg2.extensions import make_dsn

from aurora_sync import lambda_handler
from aurora_sync.cli.main import main
from aurora_sync.engine.retries import retrying
from aurora_sync.errors import (
    AuroraSyncError,
    ConfigError,
    GuardError,
    Kind,
    RivalRunError,
    SourceError,
    StageError,
    WarehouseError,
)
from aurora_sync.model.export import Exported
from aurora_sync.objects.store import Store
from aurora_sync.source.reading import Reading
from aurora_sync.source.server_errors import translate
from aurora_sync_tests.scenarios.world import World, config

LOST = SourceError("connection lost", kind=Kind.TRANSIENT)
TRANSIENT = [
    LOST,
    StageError("slow down", kind=Kind.TRANSIENT),
    WarehouseError("lock", kind=Kind.TRANSIENT),
    RivalRunError("x"),
]
FINAL = [
    ConfigError("no column"),
    SourceError("no password"),
    StageError("denied"),
    GuardError("x"),
    AuroraSyncError("x"),
]


class Calls:
    """A function that raises these errors in turn, then returns the number of its calls."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return self.count


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of the commands instead of waiting."""
    kept: list[float] = []
    monkeypatch.setitem(retrying.__kwdefaults__ or {}, "sleep", kept.append)
    return kept


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
def test_what_may_pass_is_tried_again_after_growing_pauses(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    pauses: list[float] = []
    assert retrying(Calls(error, error, error), sleep=pauses.append) == 4
    assert [0.5 <= pause / expected <= 1.5 for pause, expected in zip(pauses, (1, 4, 16), strict=True)] == [True] * 3
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 3
    assert str(error) in warnings[0].getMessage()
    assert f"in {pauses[0]:.1f} s (1 of 4 tries failed)" in warnings[0].getMessage()


def test_pauses_differ_so_that_runs_do_not_come_back_together() -> None:
    pauses: list[float] = []
    for _ in range(10):
        retrying(Calls(LOST), sleep=pauses.append)
    assert len(set(pauses)) > 1


@pytest.mark.parametrize("error", [*FINAL, ValueError("a defect")], ids=repr)
def test_what_will_not_pass_is_tried_once(error: Exception) -> None:
    call, pauses = Calls(error), list[float]()
    with pytest.raises(type(error)) as raised:
        retrying(call, sleep=pauses.append)
    assert (raised.value, call.count, pauses) == (error, 1, [])
    assert not hasattr(error, "__notes__")


def test_last_error_says_how_often_it_was_tried() -> None:
    errors = [SourceError(f"lost {number}", kind=Kind.TRANSIENT) for number in range(5)]
    call = Calls(*errors)
    with pytest.raises(SourceError, match="lost 3") as raised:
        retrying(call, sleep=lambda _: None)
    assert (call.count, raised.value.__notes__) == (4, ["tried 4 times"])


@pytest.mark.parametrize(
    ("hint", "left"),
    [
        ("run again", ""),
        ("the server ended; run again", "the server ended"),
        ("check bootstrap.servers, or run again", "check bootstrap.servers"),
        ("nothing is lost: run again. Should this repeat, drop it", "nothing is lost. Should this repeat, drop it"),
        ("run again when the reader has caught up", "run again when the reader has caught up"),
        ("free space on the disk, then run again", "free space on the disk, then run again"),
    ],
)
def test_what_failed_in_every_try_is_not_told_to_run_again(hint: str, left: str) -> None:
    for tries, expected in ((1, hint), (2, left)):
        error = SourceError("lost", hint=hint, kind=Kind.TRANSIENT)
        with pytest.raises(SourceError) as raised:
            retrying(Calls(*[error] * 4), attempts=tries, sleep=lambda _: None)
        assert raised.value.hint == expected
        assert str(raised.value) == (f"lost ({expected})" if expected else "lost")


def test_no_try_begins_that_there_is_no_time_for() -> None:
    error = SourceError("lost", kind=Kind.TRANSIENT)
    left = iter([300.0, 61.0])
    call = Calls(error, error, error)
    with pytest.raises(SourceError) as raised:
        retrying(call, sleep=lambda _: None, seconds_left=lambda: next(left))
    assert (call.count, raised.value.__notes__) == (2, ["tried 2 times, and no time is left for another try"])


@pytest.fixture
def world(dsn: str, stage_url: str, warehouse_path: Path, store_environment: dict[str, str]) -> World:
    return World(dsn, stage_url, warehouse_path)


@pytest.fixture
def settings(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables: [{table_name: t, watermark_type: xmin}]", encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    world.execute("INSERT INTO t SELECT n, repeat('x', 1000) FROM generate_series(1, 20000) n")


class Cut:
    """A sink that ends the source session after some rows, the first ``times`` it is used, and otherwise forwards to
    another."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.copies = 0
        original = Reading.export

        def export(reading: Reading, statement: Any, destination: Any, *more: Any) -> Exported:
            self.copies += 1
            if self.copies > times:
                return original(reading, statement, destination, *more)
            rows = 0

            def write(row: bytes) -> None:
                nonlocal rows
                rows += 1
                if rows == 100:
                    world.terminate("application_name LIKE 'aurora_sync%' AND datname = current_database()")
                destination.write(row)

            return original(reading, statement, _Through(destination, write), *more)

        monkeypatch.setattr(Reading, "export", export)


class _Through:
    """A destination with another function to write to it."""

    def __init__(self, destination: Any, write: Any) -> None:
        self._destination = destination
        self.write = write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._destination, name)


@pytest.mark.usefixtures("settings")
def test_connection_lost_in_mid_copy_is_made_again_and_no_row_is_lost(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    cut = Cut(world, monkeypatch, times=1)
    assert main(["sync"]) == 0
    assert (cut.copies, len(pauses)) == (2, 1)
    assert "run 1" in capsys.readouterr().out
    world.assert_equal(config())
    assert len([key for key in world.objects() if key.endswith("manifest.json")]) == 1


@pytest.mark.usefixtures("settings")
def test_command_gives_up_and_says_how_often_it_tried(
    world: World, monkeypatch: pytest.MonkeyPatch, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    cut = Cut(world, monkeypatch, times=9)
    assert main(["sync"]) == 1
    assert (cut.copies, len(pauses)) == (4, 3)
    assert "tried 4 times" in capsys.readouterr().err
    assert world.objects() == []


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"password": "wrong"}, "password authentication failed"),
        ({"dbname": "nowhere"}, "does not exist"),
        ({}, "no such table"),
    ],
    ids=["wrong password", "missing database", "missing table"],
)
def test_command_tries_once_what_a_person_must_mend(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    pauses: list[float],
    capsys: pytest.CaptureFixture[str],
    change: dict[str, str],
    words: str,
) -> None:
    world.execute("DROP TABLE t")
    monkeypatch.setenv("AURORA_DSN", make_dsn(world.dsn, **change))
    assert main(["sync"]) == 1
    assert pauses == []
    assert words in capsys.readouterr().err


class Context:
    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds

    def get_remaining_time_in_millis(self) -> int:
        return self._milliseconds


@pytest.mark.usefixtures("settings")
def test_lambda_tries_again_while_there_is_time(
    world: World, monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    cut = Cut(world, monkeypatch, times=2)
    with pytest.raises(SourceError) as raised:
        lambda_handler.handler({}, Context(30_000))
    assert (cut.copies, pauses, raised.value.__notes__) == (1, [], ["tried once, and no time is left for another try"])
    (receipt,) = lambda_handler.handler({}, Context(900_000))["receipts"]
    assert (cut.copies, len(pauses), receipt["target_rows"]) == (3, 1, 20_000)


@pytest.mark.parametrize(
    ("sqlstate", "again"),
    [
        ("40001", True),  # serialization failure, also a recovery conflict on a reader
        ("40P01", True),
        ("53300", True),  # too many connections
        ("53200", True),
        ("55P03", True),  # lock_timeout
        ("57P01", True),  # failover
        ("57P02", True),
        ("57P03", True),
        ("57P05", True),
        ("08000", True),
        ("08006", True),
        ("57P04", False),  # the database was dropped
        ("42P07", False),  # duplicate table
        ("28P01", False),
        ("28000", False),
        ("42501", False),
        ("42P01", False),
        ("42703", False),
        ("22P02", False),
        ("57014", False),  # our own statement_timeout
    ],
)
def test_sqlstates_of_the_source(dsn: str, sqlstate: str, again: bool) -> None:
    connection = psycopg2.connect(dsn)
    try:
        with pytest.raises(psycopg2.Error) as raised, connection.cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '{sqlstate}'; END $$")
    finally:
        connection.close()
    assert raised.value.pgcode == sqlstate
    found = translate(raised.value, where="t")
    assert found.kind.retry is again
    assert again or not found.hint.endswith("run again")


@pytest.mark.parametrize(
    ("status", "code", "again"),
    [
        (503, "SlowDown", True),
        (500, "InternalError", True),
        (429, "TooManyRequests", True),
        (400, "RequestTimeout", True),
        (409, "ConditionalRequestConflict", True),
        (412, "PreconditionFailed", True),  # the next attempt has another load id
        (200, "InternalError", True),  # one of the answers to a DeleteObjects
        (501, "NotImplemented", False),
        (403, "AccessDenied", False),
        (403, "InvalidAccessKeyId", False),
        (400, "ExpiredToken", False),
        (404, "NoSuchBucket", False),
        (301, "PermanentRedirect", False),
    ],
)
def test_answers_of_s3(status: int, code: str, again: bool) -> None:
    store = Store("bucket")
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    with pytest.raises(StageError) as raised, store._translated("key"):
        raise ClientError(answer, "PutObject")
    assert raised.value.kind.retry is again
