"""Names that break whoever pastes them into SQL, S3 keys or format strings, through the whole sync."""

from __future__ import annotations

import pytest
from psycopg2 import sql

from aurora_sync_tests.scenarios.world import World, config

NAMES = {
    "quotes": 'it\'s "quoted"',
    "injection": 'x"; DROP TABLE t; --',
    "spaces": "  two  words ",
    "percent": "100% %s %(x)s {} {0} $1 ?",
    "path": "../a/b\\c?d#e&f=g~h",
    "emoji": "größe 🦆 名前",
    "63_bytes": "n" * 63,
    "reserved": "select",
    "dots": "a.b.c",
    "glob": "a*[b]?",
    "newline": "two\nlines\ttab",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_table_schema_and_columns_of_any_name_sync(world: World, name: str) -> None:
    value = name[:61] + "_v"  # a second one beside it
    names = {"n": sql.Identifier(name), "v": sql.Identifier(value), "t": sql.Identifier(name, name)}
    with world.session() as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:

            def execute(statement: str) -> None:
                cursor.execute(sql.SQL(statement).format(**names))

            execute("CREATE SCHEMA {n}")
            execute("CREATE TABLE {t} ({n} int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, {v} text)")
            execute("INSERT INTO {t} ({v}) VALUES ('a'), ('b')")
            tables = [
                config(name, "integer", schema=name, watermark_col=name),
                config(
                    name,
                    "full_snapshot",
                    schema=name,
                    deletes="soft",
                    target_table="b",
                    columns={"exclude": [_literal(value)]},
                ),
            ]
            for table in tables:
                assert world.sync(table).inserted == 2
            execute("INSERT INTO {t} ({v}) VALUES ('c')")
            for table in tables:
                assert world.sync(table).inserted == 1
    world.assert_equal(tables[0])
    assert len(world.run_sequences(tables[0])) == 2


def _literal(name: str) -> str:
    """As a pattern that stands for itself."""
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)
