"""Names that break naive SQL, S3 keys or format strings, through the whole sync."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from psycopg2 import sql

from aurora_sync.cli.main import main
from aurora_sync.config.tables import TableConfig
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
# As many of them in one name as fit into 63 bytes, the maximum.
COMBINED = "../\"; DROP TABLE t; --' %s%(x)s{}{0}$1?\n\ta*[b]\\#&=~.ö🦆名  "


def beside(name: str, suffix: str) -> str:
    """Return another name with the same beginning."""
    return name.encode()[: 63 - len(suffix)].decode(errors="ignore") + suffix


@pytest.mark.parametrize("name", [*NAMES.values(), COMBINED], ids=[*NAMES, "combined"])
def test_table_schema_and_columns_of_any_name_sync(world: World, name: str) -> None:
    value = beside(name, "_v")
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


@pytest.mark.parametrize(
    ("key", "name"),
    [
        pytest.param("int", COMBINED, id="int"),
        pytest.param("text", COMBINED, id="combined"),
        *(pytest.param("text", name, id=id_, marks=pytest.mark.long) for id_, name in NAMES.items()),
    ],
)
def test_every_statement_takes_any_name_and_value(
    world: World, key: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes, deletes, reconciles, verifications, schema changes, plans, status and gc; hard deletes, soft deletes and
    rows without a key. The values are as hostile as the names, and tables exist under the names that an injection would
    use."""
    other = beside(name, "_s")
    names = {
        "n": sql.Identifier(name),
        "v": sql.Identifier(beside(name, "_v")),
        "w": sql.Identifier(beside(name, "_w")),
        "t": sql.Identifier(other, name),
        "bag": sql.Identifier(other, beside(name, "_b")),
        "schema": sql.Identifier(other),
        "value": sql.Literal(name),
    }
    nth = "n" if key == "int" else "n || {value}"
    with world.session() as connection, connection.cursor() as cursor:
        connection.autocommit = True

        def execute(statement: str) -> None:
            cursor.execute(sql.SQL(statement).format(**names))

        execute("CREATE TABLE t (canary int)")
        execute("CREATE SCHEMA {schema}")
        execute(f"CREATE TABLE {{t}} ({{n}} {key} PRIMARY KEY, {{v}} text)")
        execute("CREATE TABLE {bag} ({n} text, {v} text)")
        execute(f"INSERT INTO {{t}} SELECT {nth}, {{value}} || n FROM generate_series(1, 50) n")
        execute("INSERT INTO {bag} SELECT {value}, {value} FROM generate_series(1, 3)")
        hard = {"table_name": name, "watermark_type": "xmin", "schema": other}
        bag = {"table_name": beside(name, "_b"), "watermark_type": "full_snapshot", "schema": other}
        target = name[:60].translate(str.maketrans("", "", "{}"))  # braces hold the parts of a template
        outbox = hard | {"target_table": target + "_o", "watermark_type": "outbox"}
        entries = [hard, hard | {"target_table": target + "_d", "deletes": "soft"}, bag, outbox]
        tables = [TableConfig.model_validate(entry) for entry in entries]
        world.make(tables[3])
        for table in tables:
            world.sync(table)
        with world.places.warehouse.session() as session:
            session.query("CREATE TABLE T (CANARY INT)")
        execute("UPDATE {t} SET {v} = {value} || 'new' WHERE {v} LIKE '%1'")
        execute("DELETE FROM {t} WHERE {v} LIKE '%2'")
        assert world.sync(tables[3]).method == "outbox"
        execute("DELETE FROM {bag}")
        execute("INSERT INTO {bag} VALUES ({value}, NULL), (NULL, {value})")
        for table in tables:
            world.sync(table, reconcile=True, allow_deletes=True)
            assert world.assert_verified(table) == (2 if table is tables[2] else 45)
        execute("ALTER TABLE {t} RENAME {v} TO {w}")
        execute("ALTER TABLE {t} ADD {v} int DEFAULT 7")
        execute("UPDATE {t} SET {v} = 8 WHERE {w} LIKE '%3'")
        for table in (*tables[:2], tables[3]):
            world.sync(table)
            assert world.assert_verified(table) == 45
        execute("TABLE t")
        assert cursor.fetchall() == []
    assert world.query("SELECT * FROM T") == []
    patterns = [
        entry | {"schema": _literal(entry["schema"]), "table_name": _literal(entry["table_name"], "*?[.")}
        for entry in (hard, bag)
    ]
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump({"tables": patterns}), encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tmp_path / "tables.yaml"))
    for command in (["check"], ["plan"], ["reconcile"], ["verify"], ["status"], ["gc"]):
        assert main(command) == 0, command
    glob = _literal(f"{other}.{name}")
    for action, *options in (["plan"], ["verify"], ["apply", "--kind=audit_columns"], ["verify"], ["remove"]):
        assert main(["triggers", action, glob, *options]) == 0, action
    assert main(["triggers", "plan", glob]) == 1


def _literal(name: str, special: str = "*?[") -> str:
    """Return a pattern that matches the name literally."""
    return "".join(f"[{character}]" if character in special else character for character in name)


def test_names_do_not_move_the_cursor_of_a_terminal(
    world: World,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Everything that is printed or logged about a table, a column and an application with such names, errors
    included."""
    name = "t\n  equal: 9 rows\x1b[2J\u202e\x9b"
    names = {"t": sql.Identifier(name), "v": sql.Identifier("v\r\x1b]0;x\x07")}
    monkeypatch.setattr("aurora_sync.strategies.identity.LONG_TRANSACTION", timedelta(0))
    entry = {"table_name": _literal(name, "*?[."), "watermark_type": "xmin"}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump({"tables": [entry]}), encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tmp_path / "tables.yaml"))
    with world.session() as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(sql.SQL("CREATE TABLE {t} (id int PRIMARY KEY, {v} int)").format(**names))
        cursor.execute(sql.SQL("INSERT INTO {t} VALUES (1, 1)").format(**names))
        with world.open_transaction("SET application_name = E'a\\nb'", "CREATE TABLE other (id int)"):
            for command in ("plan", "sync", "verify", "status", "check"):
                assert main([command]) == 0, command
        cursor.execute(sql.SQL("ALTER TABLE {t} DROP CONSTRAINT {k}").format(k=sql.Identifier(f"{name}_pkey"), **names))
        for command in ("sync", "check"):
            assert main([command]) == 1, command
    printed = capsys.readouterr()
    shown = "t\\n  equal: 9 rows\\x1b[2J\\u202e\\x9b"
    for text in (printed.out, printed.err, caplog.text):
        assert all(line.isprintable() for line in text.split("\n")), text
        assert not any(line.startswith("  equal: 9") for line in text.split("\n"))
        assert shown in text
