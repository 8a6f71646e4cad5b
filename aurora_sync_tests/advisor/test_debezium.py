"""The advised connector, and what it needs at the source. scenarios/debezium_events runs it."""

from __future__ import annotations

import json
import re

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from aurora_sync.advisor.debezium import PLACEHOLDER, Source, connector, modes, pattern, statements, topic
from aurora_sync.config.tables import TableConfig, WatermarkType
from aurora_sync.errors import ConfigError

SOURCE = Source("db.example", "shop", "debezium")
HOSTILE = ["a b", "a,b", "a.b", "a$b", 'a"b', "${env:X}", "a\\b", "(a|b)*", "ünï", "日本", "A", "x'y", "line\nbreak"]


def table(name: str, schema: str = "public") -> TableConfig:
    return TableConfig(table_name=name, schema_=schema, watermark_type=WatermarkType.logical)


def config(*tables: TableConfig, source: Source = SOURCE, schemas: bool = False) -> dict[str, str]:
    made = connector(tables, source, slot="s", publication="p", prefix="pg", schemas=schemas)
    assert made["name"] == "pg"
    assert isinstance(made["config"], dict)
    return made["config"]


def test_options_that_change_values_are_those_that_do_not() -> None:
    made = config(table("orders"))
    assert json.loads(json.dumps(made)) == made
    assert all(isinstance(value, str) for value in made.values())
    expected = {
        "decimal.handling.mode": "string",
        "time.precision.mode": "microseconds",
        "interval.handling.mode": "string",
        "binary.handling.mode": "bytes",
        "skipped.operations": "none",
        "snapshot.mode": "no_data",
        "publication.autocreate.mode": "disabled",
        "event.converting.failure.handling.mode": "fail",
        "unavailable.value.placeholder": PLACEHOLDER,
        "header.converter.schemas.enable": "false",
        "topic.creation.default.partitions": "1",
    }
    assert {name: made[name] for name in expected} == expected


def test_events_are_read_as_they_are_configured() -> None:
    made, read = config(table("orders")), modes()
    assert (read.decimal, read.time) == (made["decimal.handling.mode"], made["time.precision.mode"])
    assert (read.interval, read.binary) == (made["interval.handling.mode"], made["binary.handling.mode"])
    assert read.placeholder == made["unavailable.value.placeholder"]


def test_no_password_stands_in_it() -> None:
    assert config(table("orders"))["database.password"] == "${env:DEBEZIUM_PASSWORD}"
    with pytest.raises(ConfigError, match="must be a reference") as raised:
        Source("h", "d", "u", password="hunter2")
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_matched_alone(name: str) -> None:
    found = pattern(table(name, 'my "schema"'))
    assert not set(found) & set(",$ \n")
    python = re.sub(r"\\x\{([0-9A-F]+)\}", lambda m: re.escape(chr(int(m[1], 16))), found)
    assert re.fullmatch(python, f'my "schema".{name}')
    assert [other for other in HOSTILE if re.fullmatch(python, f'my "schema".{other}')] == [name]


def test_several_tables_are_a_list() -> None:
    assert config(table("a"), table("b", "s"))["table.include.list"] == r"public\.a,s\.b"


def test_two_tables_never_share_a_topic() -> None:
    assert topic("pg", table("a b")) == "pg.public.a_b"
    with pytest.raises(ConfigError, match=r"public\.a b and public\.a_b would share the topic pg\.public\.a_b"):
        config(table("a b"), table("a_b"), table("c"))


def test_the_statements_run_and_pin_the_session_of_the_role(dsn: str) -> None:
    parts = parse_dsn(dsn)
    source = Source(parts["host"], parts["dbname"], parts["user"])
    tables = [table(name, 'my "schema"') for name in HOSTILE]
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute('CREATE SCHEMA "my ""schema"""')
        for name in HOSTILE:
            quoted = name.replace('"', '""')
            cursor.execute(f'CREATE TABLE "my ""schema"""."{quoted}" (id int PRIMARY KEY)')
        for statement in statements(tables, source, slot="advice", publication="p u b"):
            cursor.execute(statement)
        try:
            cursor.execute("SELECT tablename FROM pg_publication_tables WHERE pubname = 'p u b'")
            assert sorted(name for (name,) in cursor.fetchall()) == sorted(HOSTILE)
            with psycopg2.connect(dsn) as other, other.cursor() as session:
                session.execute("SELECT current_setting('bytea_output'), current_setting('IntervalStyle')")
                assert session.fetchone() == ("hex", "iso_8601")
            other.close()
        finally:
            cursor.execute("SELECT pg_drop_replication_slot('advice')")
    connection.close()
