from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.relation import SourceTable
from aurora_sync.objects.store import Store
from aurora_sync.source import catalogue, copy_out
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import Progress, count_rows, select_statement
from aurora_sync.source.exporter import ClientCopy
from aurora_sync.stage import writer
from aurora_sync.stage.layout import new_load_id
from aurora_sync.stage.writer import Stage


@pytest.fixture
def connection(dsn: str) -> Iterator[Connection]:
    with connect(dsn) as opened:
        yield opened


def make(dsn: str, statements: str, name: str = "t") -> SourceTable:
    with psycopg2.connect(dsn) as opened:
        opened.cursor().execute(statements)
    opened.close()
    with connect(dsn) as reader:
        return catalogue.load(reader, [("public", name)])[f"public.{name}"]


def copied(connection: Connection, table: SourceTable, where: sql.Composable | None = None) -> bytes:
    sink = io.BytesIO()
    rows = copy_out.copy_out(connection, table, table.columns, where, sink)
    assert rows == len(list(csv.reader(io.StringIO(sink.getvalue().decode(), newline=""))))
    return sink.getvalue()


def without_xmin(text: bytes) -> bytes:
    """Remove the last field of each row. The rows must not contain newlines."""
    return b"".join(line.rpartition(b",")[0] + b"\n" for line in text.splitlines())


def test_null_and_the_empty_string_differ(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE TABLE t (a text, b text); INSERT INTO t VALUES (NULL, ''), ('', NULL), (NULL, NULL)")
    assert without_xmin(copied(connection, table)) == b',""\n"",\n,\n'


def test_quotes_commas_newlines_and_backslashes_survive(dsn: str, connection: Connection) -> None:
    values = ['say "hi"', "a,b", "two\nlines", "carriage\rreturn", "ends in \\", "\\N", "\\.", " padded ", "größe"]
    table = make(dsn, "CREATE TABLE t (id int, a text)")
    with psycopg2.connect(dsn) as writer:
        for number, value in enumerate(values):
            writer.cursor().execute("INSERT INTO t VALUES (%s, %s)", (number, value))
    writer.close()
    text = copied(connection, table).decode()
    assert [row[1] for row in csv.reader(io.StringIO(text, newline=""))] == values


def test_last_field_is_the_rows_xmin(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin::text FROM public.t")
        (xmin,) = cursor.fetchall()[0]
    assert copied(connection, table) == f"1,{xmin}\n".encode()


def test_rows_of_all_partitions_carry_their_xmin(dsn: str, connection: Connection) -> None:
    table = make(
        dsn,
        "CREATE TABLE t (id int) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (20); INSERT INTO t VALUES (1), (11)",
    )
    rows = [line.split(",") for line in copied(connection, table).decode().splitlines()]
    assert [row[0] for row in rows] == ["1", "11"]
    assert all(int(row[1]) > 2 for row in rows)


def test_view_has_zero_for_xmin(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE VIEW t AS SELECT 1 AS id")
    assert copied(connection, table) == b"1,0\n"


def test_names_of_any_kind_are_quoted(dsn: str, connection: Connection) -> None:
    table = make(
        dsn,
        'CREATE TABLE "od;d ""n%" ("se lect" int, "a%b" int); INSERT INTO "od;d ""n%" VALUES (1, 2)',
        name='od;d "n%',
    )
    assert without_xmin(copied(connection, table)) == b"1,2\n"
    assert count_rows(connection, table, None) == 1


def test_only_the_rows_of_the_condition_are_read(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 10)")
    where = sql.SQL("id > {}").format(sql.Literal(8))
    assert without_xmin(copied(connection, table, where)) == b"9\n10\n"
    assert count_rows(connection, table, where) == 2
    statement = select_statement(table, table.columns, where).as_string(connection)
    assert statement == 'SELECT "id", xmin FROM "public"."t" WHERE id > 8'


def test_rows_and_count_come_from_the_open_snapshot(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SELECT 1 FROM public.t")
    make(dsn, "INSERT INTO t VALUES (2)")
    assert without_xmin(copied(connection, table)) == b"1\n"
    assert count_rows(connection, table, None) == 1


def test_empty_relation_copies_nothing(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE TABLE t (id int)")
    assert copied(connection, table) == b""


@pytest.mark.usefixtures("store_environment")
def test_progress_is_reported_while_rows_pass(
    dsn: str, connection: Connection, stage_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copy_out, "_PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr(writer, "CHUNK_BYTES", 100_000)
    table = make(dsn, "CREATE TABLE t (id int); INSERT INTO t SELECT generate_series(1, 25000); ANALYZE t")
    seen: list[Progress] = []
    with Stage(Store.from_url(stage_url)).attempt("public.t", new_load_id()) as attempt:
        statement = select_statement(table, table.columns, None)
        assert ClientCopy().export(connection, table, statement, attempt, seen.append).rows == 25_000
    rows, sizes, shares = zip(*((each.rows, each.bytes, each.share) for each in seen), strict=True)
    assert len(seen) > 2
    assert 0 < rows[0] < rows[1] < rows[-1] == 25_000
    assert 0 < sizes[0] < sizes[1] < sizes[-1] == len(copied(connection, table))
    assert 0 < shares[0] < shares[1] < shares[-1] == 1.0


class FullSink:
    def write(self, data: bytes) -> None:
        raise OSError("the sink is full")


def test_sink_that_fails_stops_the_server_too(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE VIEW t AS SELECT generate_series(1, 2000000000) AS id")
    with pytest.raises(OSError, match="the sink is full"):
        copy_out.copy_out(connection, table, table.columns, None, FullSink())
    with connection.cursor() as cursor:  # without a cancelled COPY, this would wait for 2,000,000,000 rows
        cursor.execute("SELECT 1")


def test_timeout_is_refused_and_names_the_setting(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE VIEW t AS SELECT 1 AS id FROM pg_sleep(60)")
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '50ms'")
    with pytest.raises(SourceError, match="max_snapshot_minutes") as caught:
        copied(connection, table)
    assert caught.value.kind is Kind.REFUSED
    assert caught.value.where == "public.t"
    with pytest.raises(SourceError, match="max_snapshot_minutes"):
        count_rows(connection, table, None)


def test_session_ended_by_the_server_is_transient(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE VIEW t AS SELECT generate_series(1, 2000000000) AS id")
    begun = threading.Event()

    class Sink:
        def write(self, data: bytes) -> None:
            begun.set()

    def terminate() -> None:
        begun.wait()
        with psycopg2.connect(dsn) as other:
            other.cursor().execute("SELECT pg_terminate_backend(%s)", (connection.get_backend_pid(),))
        other.close()

    thread = threading.Thread(target=terminate)
    thread.start()
    with pytest.raises(SourceError) as caught:
        copy_out.copy_out(connection, table, table.columns, None, Sink())
    thread.join()
    assert caught.value.kind is Kind.TRANSIENT


def test_table_without_privilege_is_refused(dsn: str, connection: Connection) -> None:
    table = make(dsn, "CREATE TABLE t (id int)")
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE pg_monitor")
    with pytest.raises(SourceError, match="permission denied") as caught:
        copied(connection, table)
    assert caught.value.kind is Kind.REFUSED
