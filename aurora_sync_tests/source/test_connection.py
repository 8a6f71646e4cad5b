"""Connections: settings of a role do not change exported text, and errors name no secret."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from psycopg2.extensions import make_dsn, parse_dsn

from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import Kind, SourceError
from aurora_sync.source import catalogue, connection
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import copy_out
from aurora_sync.source.database import Source
from aurora_sync.source.dsn import describe
from aurora_sync_tests.source.test_catalogue import execute

SECRET = "very-secret/p@ss word"


@pytest.fixture
def odd_role(stack: Stack, dsn: str) -> Iterator[str]:
    """The DSN of a superuser with unusual settings for its sessions."""
    execute(
        dsn,
        """
        CREATE ROLE odd LOGIN SUPERUSER PASSWORD 'odd';
        ALTER ROLE odd SET DateStyle = 'German, DMY'; ALTER ROLE odd SET IntervalStyle = 'sql_standard';
        ALTER ROLE odd SET TimeZone = 'Asia/Kathmandu'; ALTER ROLE odd SET bytea_output = 'escape';
        ALTER ROLE odd SET extra_float_digits = -10; ALTER ROLE odd SET client_encoding = 'LATIN1';
        ALTER ROLE odd SET default_transaction_isolation = 'serializable';
        ALTER ROLE odd SET search_path = evil, public, pg_catalog;
        """,
    )
    try:
        yield make_dsn(dsn, user="odd", password="odd")
    finally:
        execute(dsn, "REASSIGN OWNED BY odd TO CURRENT_USER; DROP OWNED BY odd; DROP ROLE odd")


def exported(dsn: str) -> bytes:
    sink = io.BytesIO()
    with connect(dsn) as opened:
        table = catalogue.load(opened, [("public", "t")])["public.t"]
        copy_out(opened, table, table.columns, None, sink)
    return sink.getvalue()


def test_settings_of_a_role_do_not_change_the_exported_text(dsn: str, odd_role: str) -> None:
    execute(
        dsn,
        """
        CREATE TABLE t (a timestamptz, b date, c interval, d bytea, e float8, f text, g timestamp, h float4, i money);
        INSERT INTO t VALUES ('2026-03-04 05:06:07.89+00', '2026-03-04', '1 year 2 mons 3 days 04:05:06', '\\x00ff27',
                              0.1::float8 + 0.2::float8, 'größe €', '2026-03-04 05:06:07', 0.1, '12.34');
        CREATE SCHEMA evil; CREATE FUNCTION evil.pg_current_snapshot() RETURNS int LANGUAGE sql AS 'SELECT 1/0';
        """,
    )
    expected = "2026-03-04 05:06:07.89+00,2026-03-04,P1Y2M3DT4H5M6S,\\x00ff27,0.30000000000000004,größe €,"
    assert exported(dsn).decode().startswith(expected)
    assert exported(odd_role) == exported(dsn)


def test_session_cannot_write(dsn: str) -> None:
    with pytest.raises(SourceError, match="read-only"), connect(dsn) as opened:
        opened.cursor().execute("CREATE TABLE public.t (a int)")


def test_transaction_has_the_settings_and_its_own_modes_and_no_snapshot_yet(dsn: str, odd_role: str) -> None:
    execute(dsn, "CREATE TABLE t (a int)")
    settings = ("transaction_isolation", "transaction_read_only", "TimeZone", "search_path")
    shown = ", ".join(f"current_setting('{name}')" for name in settings)
    with connect(odd_role) as opened, opened.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE")
        execute(dsn, "INSERT INTO t VALUES (1)")
        cursor.execute(f"SELECT {shown}, (SELECT count(*) FROM public.t)")
        assert cursor.fetchall() == [("repeatable read", "off", "UTC", '""', 1)]
        cursor.execute("ROLLBACK")
        cursor.execute(f"SELECT {shown}")
        assert cursor.fetchall() == [("read committed", "on", "UTC", '""')]


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"password": SECRET}, Kind.REFUSED, "password authentication failed"),
        ({"dbname": "no_such_database"}, Kind.REFUSED, "no_such_database"),
        ({"user": "nobody_here", "password": SECRET}, Kind.REFUSED, "nobody_here"),
    ],
)
def test_refusal_says_who_can_mend_it_and_no_secret(dsn: str, change: dict[str, str], kind: Kind, words: str) -> None:
    wrong = make_dsn(dsn, **change)
    with pytest.raises(SourceError, match=words) as raised:
        Source(wrong).existing()
    assert raised.value.kind is kind
    _tells_no_secret(raised.value, wrong)


def test_port_that_nobody_listens_on_is_worth_another_try(dsn: str) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        closed = make_dsn(dsn, port=taken.getsockname()[1], password=SECRET)
        with pytest.raises(SourceError, match="cannot connect") as raised:
            Source(closed).existing()
    assert raised.value.kind is Kind.TRANSIENT
    _tells_no_secret(raised.value, closed)


def test_lost_connection_is_worth_another_try(dsn: str) -> None:
    statement = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(SourceError) as raised, connect(dsn) as opened:
        opened.cursor().execute(statement)
    assert raised.value.kind is Kind.TRANSIENT
    _tells_no_secret(raised.value, dsn)


def test_description_of_a_source_has_no_secret() -> None:
    url = "postgresql://reader:very-secret@db.example:6543/legacy?sslmode=require"
    assert describe(url) == "reader@db.example:6543/legacy"
    assert "very-secret" not in repr(Source(url))
    assert Source(url).database == "legacy"


def test_table_that_is_not_there_is_named(dsn: str) -> None:
    with (
        pytest.raises(SourceError, match=r"public\.nowhere: there is no such table"),
        Source(dsn).reading("public", "nowhere"),
    ):
        pass


def test_statement_that_takes_too_long_is_cancelled(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection._PINNED, "statement_timeout", "20ms")
    with pytest.raises(SourceError, match="max_snapshot_minutes") as raised, connect(dsn) as opened:
        opened.cursor().execute("SELECT pg_sleep(5)")
    assert raised.value.kind is Kind.REFUSED


def _tells_no_secret(error: SourceError, dsn: str) -> None:
    password = parse_dsn(dsn)["password"]
    chain: list[BaseException | None] = [error, error.__cause__]
    assert all(password not in f"{link} {link!r}" for link in chain)
