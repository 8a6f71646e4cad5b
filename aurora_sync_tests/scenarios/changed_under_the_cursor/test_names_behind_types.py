"""Values whose text depends on other rows of the catalogue: it changes without a write to their row."""

from __future__ import annotations

import pytest

from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies import schema_changes as schema
from aurora_sync_tests.scenarios.world import World, config

TYPES = [
    "CREATE TYPE place AS (street text, city text)",
    "CREATE TYPE addr AS (street text, p place)",
    "CREATE DOMAIN address AS addr",
    "CREATE TABLE named (id int)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE odd AS ENUM ('a')",
    "CREATE FUNCTION g(odd) RETURNS int LANGUAGE sql AS 'SELECT 1'",
]
DROP_CITY = "ALTER TYPE place DROP ATTRIBUTE city"
CASES = [
    ("place", "'(s1,c)'", DROP_CITY),
    ("place", "'(s1,c)'", "ALTER TYPE place ADD ATTRIBUTE zip text"),
    ("place[]", "ARRAY['(s1,c)']::place[]", DROP_CITY),
    ("addr", "ROW('s1', ROW('s2', 'c')::place)::addr", DROP_CITY),
    ("address", "ROW('s1', ROW('s2', 'c')::place)::addr", DROP_CITY),
    ("regclass", "'named'", "ALTER TABLE named RENAME TO renamed"),
    ("regclass[]", "ARRAY['named'::regclass]", "ALTER TABLE named RENAME TO renamed"),
    ("regproc", "'f'", "ALTER FUNCTION f() RENAME TO h"),
    ("regtype", "'odd'", "ALTER TYPE odd RENAME TO even"),
    ("regprocedure", "'g(odd)'", "ALTER TYPE odd RENAME TO even"),
    ("regnamespace", "'public'::regnamespace", "ALTER SCHEMA public RENAME TO other"),
]


@pytest.mark.parametrize(("column", "value", "change"), CASES)
def test_row_that_prints_anew_is_read(
    world: World, monkeypatch: pytest.MonkeyPatch, column: str, value: str, change: str
) -> None:
    world.execute("CREATE SCHEMA s", *TYPES, f"CREATE TABLE s.t (id int PRIMARY KEY, v {column})")
    world.execute(f"INSERT INTO s.t VALUES (1, {value}), (2, NULL)")
    table, unguarded = config(schema="s"), config(schema="s", target_table="unguarded")
    for each in (table, unguarded):
        world.sync(each)
    world.execute(change)
    receipt = world.sync(table)
    assert receipt.disposition is Disposition.REPLACE
    assert [found.event for found in receipt.certificate.findings] == ["type changed"]
    world.assert_verified(table)
    assert world.sync(table).disposition is Disposition.UPSERT
    monkeypatch.setattr(schema, "compare", lambda *_, **__: schema.UNCHANGED)
    monkeypatch.setattr("aurora_sync.strategies.identity._other_history", lambda *_: False)
    world.sync(unguarded)
    found = world.verify(unguarded).verification
    assert found is not None
    assert not found.equal


def test_tables_made_elsewhere_do_not_matter_to_other_types(world: World) -> None:
    world.execute(*TYPES, "CREATE TABLE t (id int PRIMARY KEY, v place)", "INSERT INTO t VALUES (1, '(s,c)')")
    world.sync(config())
    world.execute("ALTER TABLE named RENAME TO renamed", "CREATE TYPE new AS (a int)")
    assert world.sync(config()).disposition is Disposition.UPSERT
