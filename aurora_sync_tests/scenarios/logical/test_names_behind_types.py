"""Values of reg* types in a stream: each is decoded with the names at the moment when its row was written."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from aurora_sync.model.certificate import Level
from aurora_sync.source import identity_token
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.world import World, config

MADE = [
    "CREATE TABLE named (id int)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE odd AS ENUM ('a')",
    "CREATE FUNCTION g(odd) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE SCHEMA s",
    "CREATE TABLE s.elsewhere (id int)",
    "CREATE TYPE pair AS (a regclass, b int)",
    "CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, PROCEDURE = int4eq)",
    "CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)",
    'CREATE COLLATION plain FROM "C"',
]
TABLE = "ALTER TABLE named RENAME TO renamed", "ALTER TABLE renamed RENAME TO named"
TYPE = "ALTER TYPE odd RENAME TO even", "ALTER TYPE even RENAME TO odd"
CASES = [
    ("regclass", "'named'::regclass", *TABLE),
    ("regclass[]", "ARRAY['named'::regclass]", *TABLE),
    ("pair", "ROW('named'::regclass, 1)::pair", *TABLE),
    ("regclass", "'s.elsewhere'::regclass", "ALTER SCHEMA s RENAME TO r", "ALTER SCHEMA r RENAME TO s"),
    ("regproc", "'f'::regproc", "ALTER FUNCTION f() RENAME TO h", "ALTER FUNCTION h() RENAME TO f"),
    ("regprocedure", "'g(odd)'::regprocedure", *TYPE),
    ("regtype", "'odd'::regtype", *TYPE),
    ("regnamespace", "'s'::regnamespace", "ALTER SCHEMA s RENAME TO r", "ALTER SCHEMA r RENAME TO s"),
    (
        "regconfig",
        "'words'::regconfig",
        "ALTER TEXT SEARCH CONFIGURATION words RENAME TO others",
        "ALTER TEXT SEARCH CONFIGURATION others RENAME TO words",
    ),
    ("regcollation", "'plain'::regcollation", "ALTER COLLATION plain RENAME TO x", "ALTER COLLATION x RENAME TO plain"),
]


def streaming(streamed: Streamed, column: str) -> Streamed:
    """Create a table with such a column, whose changes come by the stream."""
    table = streamed.table()
    streamed.world.execute(*MADE, f"CREATE TABLE t (id int PRIMARY KEY, v {column})", "INSERT INTO t VALUES (1, NULL)")
    streamed.setup(table)
    streamed.one(table)
    streamed.world.execute("INSERT INTO t VALUES (2, NULL)")
    assert streamed.one(table).method.startswith("stream")
    return streamed


@pytest.mark.parametrize(("column", "value", "there", "back"), CASES)
def test_name_that_was_another_for_a_while_is_read_again(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch, column: str, value: str, there: str, back: str
) -> None:
    table, world = streaming(streamed, column).table(), streamed.world
    # The value is written by oid, as an application may do: its name has changed by then.
    world.execute(f"CREATE TABLE kept AS SELECT {value} AS v")
    streamed.one(table)
    world.execute(there, "INSERT INTO t SELECT 3, v FROM kept", back)
    receipt = streamed.one(table)
    assert "was altered since the last run" in " ".join(receipt.warnings)
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_verified(table)
    world.execute("INSERT INTO t VALUES (4, NULL)")
    assert streamed.one(table).method.startswith("stream")


def test_without_the_versions_the_stream_leaves_the_name_of_the_moment(
    streamed: Streamed, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = identity_token._NAMES.replace("FROM reg WHERE", "FROM reg WHERE false AND")
    monkeypatch.setattr(identity_token, "_NAMES", names)
    table, world = streaming(streamed, "regclass").table(), streamed.world
    world.execute(TABLE[0], "INSERT INTO t VALUES (3, 'renamed'::regclass)", TABLE[1])
    assert streamed.one(table).certificate.level is Level.CERTIFIED
    assert world.query('SELECT "V" FROM "PUBLIC"."T" WHERE "ID" = 3') == [("public.renamed",)]


@pytest.fixture
def role(world: World) -> Iterator[str]:
    name = f"role_{uuid.uuid4().hex[:8]}"
    world.execute(f"CREATE ROLE {name}")
    yield name
    world.execute(f"DROP ROLE {name}")


@pytest.mark.parametrize("column", ["regrole", "regrole[]"])
def test_names_of_roles_are_never_taken_from_the_stream(streamed: Streamed, role: str, column: str) -> None:
    """Only superusers may read pg_authid, which would show that a role was renamed and renamed back."""
    table, world = streamed.table(), streamed.world
    world.execute(f"CREATE TABLE t (id int PRIMARY KEY, v {column})")
    streamed.setup(table)
    streamed.one(table)
    other = f"{role}_renamed"
    value = f"'{other}'" if column == "regrole" else f"ARRAY['{other}'::regrole]"
    world.execute(
        f"ALTER ROLE {role} RENAME TO {other}",
        f"INSERT INTO t VALUES (3, {value})",
        f"ALTER ROLE {other} RENAME TO {role}",
    )
    receipt = streamed.one(table)
    assert "a column has names of roles (regrole)" in " ".join(receipt.warnings)
    assert receipt.certificate.level is Level.CERTIFIED
    world.assert_verified(config("t"))  # the increment of a stream alone never allows a comparison
