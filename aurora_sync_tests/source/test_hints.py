"""Hints for statements that a real server refuses or cancels."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.errors import Kind, SourceError
from aurora_sync.source.connection import connect, write
from aurora_sync.source.privileges import missing_privilege
from aurora_sync_tests.source.test_catalogue import execute

REFUSED = [
    ("TABLE public.t", "GRANT SELECT ON t to this role"),
    ('TABLE public."T t"', 'GRANT SELECT ON "T t" to this role'),
    ("TABLE public.v", "GRANT SELECT ON v to this role"),
    ("SELECT last_value FROM public.s", "GRANT SELECT ON SEQUENCE s to this role"),
    ("TABLE hidden.t", "GRANT USAGE ON SCHEMA hidden to this role"),
    ("SELECT public.f()", "GRANT EXECUTE ON FUNCTION f to this role"),
    ("CREATE PUBLICATION q", "GRANT CONNECT ON DATABASE"),
    ("ALTER PUBLICATION p ADD TABLE public.t", "connect as the owner of the object, or make this role the owner"),
    ("DROP TABLE public.t", "connect as the owner of the object, or make this role the owner"),
    ("SELECT pg_create_logical_replication_slot('x', 'pgoutput')", "ALTER ROLE ... REPLICATION; on RDS and Aurora"),
    ("TABLE public.secured", 'a policy of "secured" would hide rows from this role: ALTER ROLE ... BYPASSRLS'),
    ("TABLE public.through", "if a view reads the table, do so for the owner of the view"),
    ("SELECT pg_read_file('x')", "GRANT EXECUTE ON FUNCTION pg_read_file to this role"),
]


def run(dsn: str, statement: str) -> None:
    with connect(dsn) as opened, opened.cursor() as cursor:
        write(cursor, f"SET LOCAL search_path TO public; {statement}")


@pytest.fixture
def reader(dsn: str) -> Iterator[str]:
    """The DSN of a role without the privileges for the statements in REFUSED."""
    name, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(12)
    owner = f"{name}_owner"
    execute(
        dsn,
        f"""
        CREATE ROLE {name} LOGIN PASSWORD '{password}'; CREATE ROLE {owner};
        CREATE TABLE t (id int); CREATE TABLE "T t" (id int); CREATE VIEW v AS TABLE t; CREATE SEQUENCE s;
        CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int); CREATE PUBLICATION p;
        CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC;
        CREATE TABLE secured (id int); ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON secured TO {name}, {owner};
        CREATE VIEW through AS TABLE secured; ALTER VIEW through OWNER TO {owner}; GRANT SELECT ON through TO {name};
        """,
    )
    yield make_dsn(dsn, user=name, password=password)
    execute(dsn, f"DROP OWNED BY {name}, {owner}; DROP ROLE {name}, {owner}")


def test_a_missing_privilege_is_mended_by_what_the_server_named(reader: str) -> None:
    for statement, hint in REFUSED:
        with pytest.raises(SourceError) as raised:
            run(reader, statement)
        assert "SQLSTATE 42501" in raised.value.what, statement
        assert hint in raised.value.hint, (statement, raised.value)
        assert raised.value.kind is Kind.REFUSED


def test_a_message_in_another_language_has_a_general_hint() -> None:
    assert (
        missing_privilege("keine Berechtigung f\u00fcr Tabelle t")
        == "grant this role the privilege that the message names"
    )


@pytest.mark.parametrize(
    ("statement", "said", "hidden"),
    [
        ("SELECT 'SECRET'::int", 'invalid input syntax for type integer: "..." (SQLSTATE 22P02)', "SECRET"),
        ("SELECT '\u00abSECRET\u00bb \"x\"'::int", 'integer: "..." (SQLSTATE 22P02)', "SECRET"),
        ("SELECT '[1, SECRET]'::json", "invalid input syntax for type json (SQLSTATE 22P02)", "SECRET"),
        ("SELECT 'SECRET'::timestamptz", 'type timestamp with time zone: "..."', "SECRET"),
        ("INSERT INTO k VALUES ('SECRET')", 'violates unique constraint "...", table k, constraint k_pkey', "SECRET"),
        ("INSERT INTO k VALUES (NULL, 'SECRET')", "table k, column id (SQLSTATE 23502)", "SECRET"),
        ("DO $$ BEGIN RAISE 'SECRET' USING ERRCODE = '40001'; END $$", "a function of the source raised", "SECRET"),
        ("TABLE nowhere", 'relation "nowhere" does not exist (SQLSTATE 42P01)', ""),
    ],
)
def test_a_server_error_keeps_its_cause_and_hides_the_value(dsn: str, statement: str, said: str, hidden: str) -> None:
    execute(dsn, "CREATE TABLE k (id text PRIMARY KEY, v text); INSERT INTO k VALUES ('SECRET')")
    with pytest.raises(SourceError) as raised:
        run(dsn, statement)
    error = raised.value
    assert said in str(error)
    assert error.__suppress_context__
    assert error.__cause__ is None
    assert "SECRET" not in str(error)
    error.show_values()
    assert hidden in str(error)
