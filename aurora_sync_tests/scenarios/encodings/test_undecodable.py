"""Databases with contents that cannot be sent as UTF-8: such a value or name must stop only its own table."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from aurora_sync.cli.main import main
from aurora_sync.config.tables import TableConfig
from aurora_sync.embedded.stack import Stack
from aurora_sync.engine import batch
from aurora_sync.errors import ConfigError, SourceError
from aurora_sync.model.receipt import Receipt
from aurora_sync.provisioning import replication
from aurora_sync.source.connection import connect
from aurora_sync.source.decoding import FROM_LATIN1
from aurora_sync.source.logical import slot
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.scenarios.world import World, config

TABLE = """
CREATE TABLE {} (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, tags text[], updated_at timestamptz NOT NULL
                 DEFAULT clock_timestamp());
INSERT INTO {} (v) VALUES ('Zoé'), ('Ana');
"""
NO_ARRAY = TABLE.replace("tags text[], ", "")
STRATEGIES: dict[str, dict[str, Any]] = {
    "integer": {"watermark_col": "id"},
    "timestamp": {"watermark_col": "updated_at"},
    "composite": {"watermark_cols": ["updated_at", "id"]},
    "xmin": {},
    "outbox": {},
    "full_snapshot": {},
}
SPELLED = "t\\xe9"


@pytest.fixture
def sql_ascii(stack: Stack, stage_url: str, warehouse_path: Path, store_environment: dict[str, str]) -> Iterator[World]:
    with fresh_database(stack.superuser_dsn(), encoding="SQL_ASCII") as dsn:
        yield World(dsn, stage_url, warehouse_path)


def raw(world: World, *statements: bytes, encoding: str = "SQL_ASCII") -> None:
    """Run statements in a session that sends bytes of the database's own encoding."""
    with closing(psycopg2.connect(world.dsn, client_encoding=encoding)) as session:
        session.autocommit = True
        with session.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)


@pytest.fixture
def slot_name(sql_ascii: World) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield name
    with connect(sql_ascii.dsn) as connection:
        if slot.look(connection, name):
            slot.drop(connection, name)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_value_fails_its_table_by_column_and_key_until_it_is_corrected(sql_ascii: World, strategy: str) -> None:
    sql_ascii.execute(NO_ARRAY.format("t", "t"))
    table = config("t", strategy, **STRATEGIES[strategy])
    if strategy == "outbox":
        sql_ascii.make(table)
    sql_ascii.sync(table)
    sql_ascii.assert_equal(table)
    before = sql_ascii.target_rows(table)
    raw(sql_ascii, b"INSERT INTO t (v) VALUES ('No\xebl'), ('Zo\xc3\xab')")
    with pytest.raises(SourceError, match=r"^public\.t: a value of column v cannot be sent as UTF-8") as error:
        sql_ascii.sync(table)
    assert error.value.values == "id 3"
    statement = error.value.hint.partition("the row: ")[2].partition(";")[0]
    assert sql_ascii.execute(statement) == [(3,)]
    assert FROM_LATIN1 in error.value.hint
    assert sql_ascii.target_rows(table) == before
    sql_ascii.execute(f"UPDATE t SET v = {FROM_LATIN1} WHERE id = 3")
    sql_ascii.sync(table)
    sql_ascii.assert_equal(table)
    sql_ascii.assert_verified(table)
    sql_ascii.sync(table, reconcile=True)


def test_a_value_that_no_run_has_read_fails_reconcile_and_verify_by_its_name(sql_ascii: World) -> None:
    sql_ascii.execute(TABLE.format("t", "t"))
    table = config("t", "integer", watermark_col="id")
    sql_ascii.sync(table)
    raw(sql_ascii, b"UPDATE t SET v = 'No\xebl' WHERE id = 1")
    for read in (partial(sql_ascii.sync, reconcile=True), sql_ascii.verify):
        with pytest.raises(SourceError, match=r"^public\.t: a value of column v "):
            read(table)


def streamed(world: World, *tables: TableConfig) -> None:
    receipts: list[Receipt] = []
    batch.run(tables, world.places, receipts.append)
    assert len(receipts) == len(tables)


@pytest.mark.parametrize(
    "bad",
    [
        b"INSERT INTO t (v) VALUES ('No\xebl'), ('Zo\xc3\xab')",
        b"INSERT INTO t (v, tags) VALUES ('', ARRAY['No\xebl']), ('Zo\xc3\xab', NULL)",
    ],
    ids=["text", "array"],
)
def test_one_value_in_a_stream_holds_up_its_table_alone(sql_ascii: World, slot_name: str, bad: bytes) -> None:
    sql_ascii.execute(TABLE.format("t", "t"), TABLE.format("other", "other"))
    tables = [config(name, "logical", slot=slot_name) for name in ("t", "other")]
    replication.set_up(sql_ascii.dsn, tables, timeout="30s")
    streamed(sql_ascii, *tables)
    raw(sql_ascii, bad, b"INSERT INTO other (v) VALUES ('o\xc3\xb9')")
    column = "tags" if b"tags" in bad else "v"
    for _ in range(2):  # the slot keeps the changes that the table lacks
        receipts: list[Receipt] = []
        with pytest.raises(SourceError, match=rf"^public\.t: a value of column {column} has bytes that") as error:
            batch.run(tables, sql_ascii.places, receipts.append)
        assert error.value.values == "id 3"
        assert [receipt.table for receipt in receipts] == ["public.other"]
        sql_ascii.assert_equal(tables[1])
    sql_ascii.execute("UPDATE t SET v = 'Noël', tags = '{Noël}' WHERE id = 3")
    streamed(sql_ascii, *tables)
    sql_ascii.assert_verified(tables[0])


def test_a_change_in_a_history_that_is_not_utf8_is_left_behind_by_a_scan(sql_ascii: World, slot_name: str) -> None:
    sql_ascii.execute(NO_ARRAY.format("t", "t"))
    table = config("t", "logical", slot=slot_name, history=True)
    replication.set_up(sql_ascii.dsn, [table], timeout="30s")
    streamed(sql_ascii, table)
    raw(sql_ascii, b"UPDATE t SET v = 'No\xebl' WHERE id = 1")
    sql_ascii.execute("UPDATE t SET v = 'Noël' WHERE id = 1")
    with pytest.raises(SourceError, match=r"run `aurora-sync sync --full`"):
        streamed(sql_ascii, table)
    sql_ascii.sync(table, full=True)
    sql_ascii.execute("INSERT INTO t (v) VALUES ('où')")
    streamed(sql_ascii, table)
    sql_ascii.assert_equal(table)


@pytest.fixture
def misnamed(sql_ascii: World) -> World:
    """Create tables that cannot be read, each because of another name, between two that can."""
    sql_ascii.execute(NO_ARRAY.format("a", "a"), NO_ARRAY.format("z", "z"))
    raw(
        sql_ascii,
        b'CREATE TABLE "t\xe9" (id int PRIMARY KEY)',
        b'CREATE TABLE of_column (id int PRIMARY KEY, "v\xe9" text)',
        b"CREATE TABLE of_default (id int PRIMARY KEY, w text DEFAULT 'o\xf9')",
        b"COMMENT ON TABLE z IS 'o\xf9'",
        b"COMMENT ON COLUMN z.v IS 'o\xf9'",
        b"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN /* o\xf9 */ RETURN NEW; END $$",
        b"CREATE TRIGGER f BEFORE INSERT ON z FOR EACH ROW EXECUTE FUNCTION f()",
    )
    return sql_ascii


def test_a_table_whose_name_or_column_cannot_be_decoded_is_refused_by_it(misnamed: World) -> None:
    assert misnamed.places.source.existing() == [
        ("public", name) for name in ("a", "of_column", "of_default", SPELLED, "z")
    ]
    for name, what in (
        (SPELLED, "its name, or that of its schema, cannot be read as UTF-8"),
        ("of_column", r"the name or the default of column v\\xe9 cannot be read as UTF-8"),
        ("of_default", r"the name or the default of column w cannot be read as UTF-8"),
    ):
        with pytest.raises(ConfigError, match=what):
            misnamed.sync(config(name))


def test_comments_and_trigger_texts_that_cannot_be_decoded_are_done_without(misnamed: World) -> None:
    for name in ("a", "z"):
        table = config(name)
        misnamed.sync(table)
        misnamed.execute(f"INSERT INTO {name} (v) VALUES ('où')")
        misnamed.sync(table)
        misnamed.assert_equal(table)


def test_every_command_goes_on_with_the_tables_beside_it(
    misnamed: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text("tables: [{table_name: '*', watermark_type: xmin}]", encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", misnamed.dsn)
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(path))
    monkeypatch.setenv("AURORA_SYNC_STAGE", misnamed.stage_url)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{misnamed.warehouse_path}")

    assert main(["check"]) == 1
    problems = capsys.readouterr().err.splitlines()
    assert [line.partition(": ")[0] for line in problems] == [
        f"public.{name}" for name in ("of_column", "of_default", SPELLED)
    ]
    assert main(["sync", "--json"]) == 1
    done = json.loads(capsys.readouterr().out)
    assert [each["table"] for each in done["receipts"]] == ["public.a", "public.z"]
    assert [each["table"] for each in done["failed"]] == [
        f"public.{name}" for name in ("of_column", "of_default", SPELLED)
    ]
    assert main(["status", "--json"]) == 0
    assert {each["table"]: each["run_sequence"] for each in json.loads(capsys.readouterr().out)} == {
        "public.a": 1,
        "public.of_column": 0,
        "public.of_default": 0,
        f"public.{SPELLED}": 0,
        "public.z": 1,
    }
    assert main(["plan", "a", "z"]) == 0
    capsys.readouterr()
    assert main(["assess", "--why", "--json"]) == 0
    assessed = {each["table"]: each for each in json.loads(capsys.readouterr().out)["tables"]}
    assert len(assessed) == 5
    for name in ("of_column", "of_default", SPELLED):
        assert all("cannot be read as UTF-8" in option["why"] for option in assessed[f"public.{name}"]["options"])


def test_a_published_table_of_another_name_does_not_stop_the_slot(misnamed: World, slot_name: str) -> None:
    table = config("a", "logical", slot=slot_name)
    replication.set_up(misnamed.dsn, [table], timeout="30s")
    streamed(misnamed, table)
    raw(
        misnamed,
        f"ALTER PUBLICATION {slot_name} ADD TABLE ".encode() + b'"t\xe9", of_column',
        b'INSERT INTO "t\xe9" VALUES (1)',
        b"INSERT INTO of_column VALUES (1, '\xe9')",
    )
    misnamed.execute("INSERT INTO a (v) VALUES ('où')")
    streamed(misnamed, table)
    misnamed.assert_equal(table)


@pytest.mark.parametrize(("encoding", "good", "bad"), [("EUC_JP", "日本", b"\xa9\xa1"), ("WIN1251", "Пётр", b"\x98")])
def test_characters_that_utf8_lacks_are_named_as_well(
    stack: Stack,
    stage_url: str,
    warehouse_path: Path,
    store_environment: dict[str, str],
    encoding: str,
    good: str,
    bad: bytes,
) -> None:
    with fresh_database(stack.superuser_dsn(), encoding=encoding) as dsn:
        world = World(dsn, stage_url, warehouse_path)
        world.execute(
            f'CREATE TABLE "{good}" (id int PRIMARY KEY, "{good}" text)', f"INSERT INTO \"{good}\" VALUES (1, '{good}')"
        )
        raw(world, b'CREATE TABLE "t%b" (id int)' % bad, encoding=encoding)
        table = config(good)
        world.sync(table)
        world.assert_equal(table)
        world.assert_verified(table)
        raw(
            world,
            b"INSERT INTO \"%b\" VALUES (2, '%b')" % (good.encode("euc_jp" if encoding == "EUC_JP" else "cp1251"), bad),
            encoding=encoding,
        )
        with pytest.raises(SourceError, match=f"a value of column {good} cannot be sent as UTF-8"):
            world.sync(table)
        assert len(world.places.source.existing()) == 2
