"""The labels of an enum are in the catalogue, not in the rows: renaming one changes rows without a write to them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies import clock
from aurora_sync_tests.scenarios.world import World, config

TYPES = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE DOMAIN feeling AS mood",
    "CREATE DOMAIN inner_feeling AS feeling",
    "CREATE DOMAIN feelings AS mood[]",
    "CREATE TYPE pair AS (m mood, n int)",
    "CREATE TYPE moods AS RANGE (subtype = mood)",
]
COLUMNS = [
    ("mood", "'sad'"),
    ("mood[]", "'{sad,ok}'"),
    ("feeling", "'sad'"),
    ("inner_feeling", "'sad'"),
    ("feelings", "'{sad}'"),
    ("feeling[]", "'{sad}'"),
    ("pair", "'(sad,1)'"),
    ("moods", "'[sad,ok]'"),
]
TABLE = """
CREATE TABLE t (id int PRIMARY KEY, m {type}, updated_at timestamptz);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO t (id, m) VALUES (1, {sad}), (2, NULL);
"""
STRATEGIES = {"xmin": config(), "timestamp": config(watermark_type="timestamp", watermark_col="updated_at")}
each_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MARGIN", timedelta(0))


@pytest.mark.parametrize(
    ("strategy", "column", "sad"), [("timestamp", *COLUMNS[0]), *(("xmin", *column) for column in COLUMNS)]
)
def test_renamed_label_reaches_rows_that_nobody_wrote(world: World, strategy: str, column: str, sad: str) -> None:
    table = STRATEGIES[strategy]
    world.execute(*TYPES, TABLE.format(type=column, sad=sad))
    world.sync(table)
    world.execute("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    receipt = world.sync(table)
    assert (receipt.disposition, receipt.rows_exported) == (Disposition.REPLACE, 2)
    assert "labels of enum types were renamed: sad" in receipt.warnings[0]
    assert ["blue" in str(m) for (m,) in world.query('SELECT "M" FROM "PUBLIC"."T" ORDER BY "ID"')] == [True, False]
    assert world.sync(table).disposition is Disposition.UPSERT


@each_strategy
def test_added_label_needs_no_full_read(world: World, strategy: str) -> None:
    table = STRATEGIES[strategy]
    world.execute(*TYPES, TABLE.format(type="mood", sad="'sad'"))
    world.sync(table)
    world.execute("ALTER TYPE mood ADD VALUE 'glad' BEFORE 'ok'", "INSERT INTO t (id, m) VALUES (3, 'glad')")
    receipt = world.sync(table)
    assert (receipt.disposition, receipt.rows_exported) == (Disposition.UPSERT, 1)
    world.assert_equal(table)
