"""What the function refuses, and what kills it, becomes an error with the next step; no row is lost."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from types import SimpleNamespace

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import make_dsn

from aurora_sync.engine import check
from aurora_sync.errors import Kind, SourceError
from aurora_sync.source.aurora_export import AuroraExport
from aurora_sync.stage.layout import new_load_id
from aurora_sync_tests.fixtures.aurora_functions import AuroraFunctions
from aurora_sync_tests.fixtures.server_build import need_version
from aurora_sync_tests.scenarios.aurora_export.conftest import with_files_of
from aurora_sync_tests.scenarios.world import World, config

TABLE = config(export="aurora")
KEY = "arn:aws:kms:us-east-1:123456789012:key/1"
LOCK = 4711


@pytest.fixture(autouse=True)
def _table(world: World) -> None:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 1000) i",
        "ANALYZE t",
    )


def refused(world: World) -> SourceError:
    """Sync, expect the error, and that nothing was applied."""
    with pytest.raises(SourceError) as caught:
        world.sync(TABLE)
    assert not [key for key in world.objects() if key.endswith("manifest.json")]
    return caught.value


def recovers(world: World) -> None:
    """Assert that the next run loads everything."""
    assert world.sync(TABLE).inserted == 1000
    world.assert_equal(TABLE)


def test_server_without_the_extension_is_told_how_to_get_it(world: World) -> None:
    world.execute("DROP SCHEMA aws_s3 CASCADE")
    error = refused(world)
    assert error.kind is Kind.USER
    assert "CREATE EXTENSION aws_s3 CASCADE" in str(error)
    assert "aurora-sync setup aurora" in str(error)
    world.execute("CREATE SCHEMA aws_s3")  # another one of this name
    assert "CREATE EXTENSION aws_s3 CASCADE" in str(refused(world))


def test_role_without_privileges_is_told_the_grants(world: World) -> None:
    with reader(world) as dsn:
        world.places = replace(world.places, source=replace(world.places.source, dsn=dsn))
        error = refused(world)
        assert error.kind is Kind.REFUSED
        assert "permission denied for schema aws_s3" in str(error)
        assert "GRANT USAGE ON SCHEMA aws_s3, aws_commons" in str(error)


@contextmanager
def reader(world: World) -> Iterator[str]:
    """A role that may only read the table."""
    name = f"reader_{new_load_id()}"
    world.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD 'secret'",
        f"GRANT SELECT ON t TO {name}",
    )
    try:
        yield make_dsn(world.dsn, user=name, password="secret")
    finally:
        world.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.mark.parametrize(
    ("answer", "kind", "hint"),
    [
        ("Access Denied", Kind.REFUSED, "s3:PutObject and s3:AbortMultipartUpload"),
        ("The specified bucket does not exist", Kind.REFUSED, "create the bucket in the region of the cluster"),
        ("Unable to parse ExceptionName: PermanentRedirect", Kind.REFUSED, "must be in the region of the cluster"),
        ("Unable to connect to endpoint", Kind.TRANSIENT, "gateway endpoint"),
        ("curlCode: 28, Timeout was reached", Kind.TRANSIENT, "gateway endpoint"),
        ("Please reduce your request rate.", Kind.TRANSIENT, "run again"),
    ],
)
def test_answer_of_s3_becomes_an_error_with_the_next_step(
    world: World, aurora_functions: AuroraFunctions, answer: str, kind: Kind, hint: str
) -> None:
    aurora_functions.set(refusal=answer)
    error = refused(world)
    assert answer in error.what
    assert error.kind is kind
    assert hint in error.hint
    aurora_functions.set(refusal="")
    recovers(world)


def test_credentials_that_s3_does_not_know_are_refused(world: World, aurora_functions: AuroraFunctions) -> None:
    aurora_functions.set(access_key="nobody")
    assert "could not upload to Amazon S3" in str(refused(world))


def test_key_that_the_role_may_not_use_is_named_and_the_right_one_is_passed(
    world: World, aurora_functions: AuroraFunctions
) -> None:
    aurora_functions.set(kms_key=KEY)
    exporters = {"aurora": AuroraExport(kms_key=f"{KEY}2")}
    world.places = replace(world.places, source=replace(world.places.source, exporters=exporters))
    error = refused(world)
    assert error.kind is Kind.REFUSED
    assert "kms:GenerateDataKey" in error.hint
    exporters["aurora"] = AuroraExport(kms_key=KEY)
    recovers(world)


def test_s3_that_cannot_be_reached_is_worth_another_try(world: World, aurora_functions: AuroraFunctions) -> None:
    before = world.execute("SELECT current_setting('aws_s3.endpoint')")[0][0]
    aurora_functions.set(endpoint="http://127.0.0.1:1")
    error = refused(world)
    assert error.kind is Kind.TRANSIENT
    assert "gateway endpoint" in error.hint
    aurora_functions.set(endpoint=before)
    recovers(world)


def test_error_of_the_exported_query_is_that_of_any_read(world: World) -> None:
    world.execute("CREATE VIEW broken AS SELECT id, 1 / (id - 500) AS v FROM t")
    with pytest.raises(SourceError, match="division by zero") as caught:
        world.sync(config("broken", "full_snapshot", primary_key=["id"], export="aurora"))
    assert caught.value.kind is Kind.REFUSED


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
def test_statement_that_is_cancelled_or_killed_half_way_loses_nothing(world: World, function: str) -> None:
    """The second call waits for a lock when it is ended. The first one has left its file."""
    need_version(world.dsn, 14, "TID range scans")
    with_files_of(world, 20_000)
    wait = sql.SQL(f"CASE id WHEN 900 THEN pg_advisory_xact_lock({LOCK}) IS NOT NULL ELSE true END")

    def export() -> None:
        with world.places.source.reading("public", "t", export="aurora") as reading:
            reading.observe(None, max_minutes=5)
            with world.places.stage.attempt("public.t", new_load_id()) as attempt:
                reading.export(reading.statement(reading.table.columns, wait), attempt)

    with world.open_transaction(f"SELECT pg_advisory_xact_lock({LOCK})"), ThreadPoolExecutor(1) as pool:
        done = pool.submit(export)
        end_the_one_that_waits(world, function, done.done)
        with pytest.raises(SourceError) as caught:
            done.result()
    killed = "terminating connection|the connection was lost"
    assert re.search("the read was cancelled" if function == "pg_cancel_backend" else killed, str(caught.value))
    assert "part-00000.csv" in {key.rpartition("/")[2] for key in world.objects()}
    recovers(world)


def end_the_one_that_waits(world: World, function: str, failed: Callable[[], bool]) -> None:
    with closing(psycopg2.connect(world.dsn)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        while not cursor.rowcount > 0:
            assert not failed(), "the export did not wait"
            cursor.execute(
                f"SELECT {function}(pid) FROM pg_stat_activity WHERE wait_event = 'advisory'"
                " AND datname = current_database()"
            )
            time.sleep(0.01)


def test_all_files_together_take_no_longer_than_the_snapshot_may(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock finds it 25 seconds later. The limit of a minute ends the export after two files."""
    need_version(world.dsn, 14, "TID range scans")
    with_files_of(world, 20_000)
    clock = itertools.count(step=25)
    monkeypatch.setattr("aurora_sync.source.aurora_export.time", SimpleNamespace(monotonic=lambda: next(clock)))
    with pytest.raises(SourceError, match=r"public\.t: the export was stopped after .*raise max_snapshot_minutes"):
        world.sync(config(export="aurora", max_snapshot_minutes=1))
    assert len(world.objects()) == 2


def test_statements_after_the_export_have_the_whole_limit(world: World) -> None:
    with world.places.source.reading("public", "t", export="aurora") as reading:
        reading.observe(None, max_minutes=3)
        with world.places.stage.attempt("public.t", new_load_id()) as attempt:
            reading.export(reading.statement(reading.table.columns, None), attempt)
        with reading._connection.cursor() as cursor:
            cursor.execute("SHOW statement_timeout")
            assert cursor.fetchall() == [("3min",)]


def test_objects_that_do_not_agree_with_the_report_are_refused(world: World) -> None:
    """An object of another writer lies under the same name, such as a part of an earlier call."""
    with world.places.source.reading("public", "t", export="aurora") as reading:
        reading.observe(None, max_minutes=1)
        with world.places.stage.attempt("public.t", new_load_id()) as attempt:
            world.places.stage.store.put_new(f"{attempt.prefix}part-00000.csv_part2", b"1,stale,0\n")
            with pytest.raises(SourceError, match=r"reported 1,000 rows, .*part-00000.csv_part2 \(10 bytes\)"):
                reading.export(reading.statement(reading.table.columns, None), attempt)


def test_server_that_writes_to_another_place_is_noticed(world: World, aurora_functions: AuroraFunctions) -> None:
    """As with AWS_ENDPOINT_URL_S3, or a stage of another account: the function succeeds, and the bucket has nothing."""
    with world.places.source.reading("public", "t", export="aurora") as reading:
        reading.observe(None, max_minutes=1)
        with world.places.stage.attempt("public.t", new_load_id()) as attempt:
            attempt.stored = lambda name: []  # type: ignore[method-assign]
            with pytest.raises(SourceError, match="the bucket has no object"):
                reading.export(reading.statement(reading.table.columns, None), attempt)


def test_check_writes_one_row_and_removes_it(world: World, aurora_functions: AuroraFunctions) -> None:
    assert check.problems(lambda: [TABLE], world.places) == []
    assert world.objects() == []
    aurora_functions.set(endpoint="http://127.0.0.1:1")
    (problem,) = check.problems(lambda: [TABLE], world.places)
    assert "could not upload to Amazon S3" in problem
    assert check.problems(lambda: [config()], world.places) == []
    world.execute("DROP SCHEMA aws_s3 CASCADE")
    (problem,) = check.problems(lambda: [TABLE], world.places)
    assert "aurora-sync setup aurora" in problem
