"""The statements that each kind of run sends to Snowflake, counted: docs/reference/statements.md has the table.

``AURORA_SYNC_WRITE_GOLDEN=1 pytest …/test_statements.py`` rewrites the page; read the diff before you commit it.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import gc, hints
from aurora_sync.engine.places import Places
from aurora_sync.engine.together import sync_together
from aurora_sync.errors import WarehouseError
from aurora_sync.model.usage import LoadStatements
from aurora_sync.source.database import Source
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.base import Row
from aurora_sync_tests.scenarios.logical.conftest import Streamed, streamed  # noqa: F401
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, Server, SnowflakeLike

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "statements.md"

# These need no virtual warehouse. CREATE TABLE ... AS SELECT does.
METADATA = ("DESCRIBE", "SHOW", "CREATE", "ALTER", "DROP", "COMMENT", "BEGIN", "COMMIT")


class Statements:
    """The statements that the runs on one small Snowflake send."""

    def __init__(self, world: World, path: Path) -> None:
        self.server = server = Server(path, world.places.stage.store)
        server.before = self._record
        self.world, self.sent = world, list[str]()
        warehouse = SnowflakeLike.on(server)
        stage = Stage(world.places.stage.store, target=warehouse.describe())
        world.places = Places(Source(world.dsn), stage, warehouse)

    def _record(self, _: Connection, statement: str) -> None:
        self.sent.append(statement)

    def of(self, table: TableConfig, *changes: str, **options: bool) -> tuple[int, int]:
        """Change the source, sync, and return the number of statements and of those that need a virtual warehouse."""
        if changes:
            self.world.execute(*changes)
        self.sent.clear()
        self.world.sync(table, **options)
        return self.counted()

    def in_warehouse(self, statement: str) -> list[Row]:
        with SnowflakeLike.on(Server(self.server.path, self.server.store)).session() as session:
            return session.query(statement)

    def counted(self) -> tuple[int, int]:
        return len(self.sent), sum(" AS SELECT " in sent or not sent.startswith(METADATA) for sent in self.sent)


@pytest.fixture
def statements(world: World, tmp_path: Path) -> Statements:
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text, n numeric(10,2))",
        "INSERT INTO t SELECT i, 'v', i FROM generate_series(1, 100) i",
        "CREATE TABLE u (v text)",
        "INSERT INTO u SELECT 'v' FROM generate_series(1, 100) i",
    )
    return Statements(world, tmp_path / "like.duckdb")


ENTRIES = 'SELECT * FROM "_AURORA_SYNC"."SYNC_LOG" ORDER BY "RUN_SEQUENCE"'
UPDATE = "UPDATE t SET v = v || 'x' WHERE id <= 10"


def test_statements_of_each_kind_of_run_are_those_of_the_page(statements: Statements, streamed: Streamed) -> None:  # noqa: F811
    keyed, soft = config(), config(target_table="soft", deletes="soft")
    whole = config("u", "full_snapshot")
    found = {
        "first load": statements.of(keyed),
        "increment of ten rows": statements.of(keyed, UPDATE),
        "run without a change": statements.of(keyed),
        "reconcile, nothing to repair": statements.of(keyed, reconcile=True),
        "reconcile, two rows deleted": statements.of(keyed, "DELETE FROM t WHERE id IN (1, 2)", reconcile=True),
        "increment with a new column": statements.of(keyed, "ALTER TABLE t ADD COLUMN w int DEFAULT 1", UPDATE),
        "full reload": statements.of(keyed, full=True),
    }
    first_loads = [statements.of(soft)]
    found["increment of ten rows, soft deletes"] = statements.of(soft, UPDATE)
    first_loads.append(statements.of(whole))
    found["`full_snapshot` without a key"] = statements.of(whole, "DELETE FROM u", "INSERT INTO u VALUES ('w')")
    found["20 changed tables of ten rows, in one `sync`"] = _many(statements, 20)
    stream = streamed.table(target_table="streamed", history=True)
    streamed.setup(stream)
    statements.sent.clear()
    streamed.run(stream)
    first_loads.append(statements.counted())
    statements.world.execute(UPDATE, "DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (1, 'a', 1)")
    statements.sent.clear()
    streamed.run(stream)
    found["increment of `logical`, with history"] = statements.counted()
    found["first load in 3 chunks"] = _in_chunks(statements, 3)
    three, four = found["first load in 3 chunks"], _in_chunks(statements, 4)
    found["each further chunk"] = four[0] - three[0], four[1] - three[1]
    assert found["increment of ten rows"] <= (10, 7)
    assert found["run without a change"] == (0, 0)
    sent, computing = zip(found["first load"], *first_loads, strict=True)
    ranges = (min(sent), max(sent)), (min(computing), max(computing))
    assert statements.world.places.warehouse.statements_of_first_load(1) == LoadStatements(1, *ranges)
    _check(found)


def _in_chunks(statements: Statements, number: int) -> tuple[int, int]:
    """Load a table of one row a chunk, which fills a block."""
    return statements.of(
        config(f"c{number}", load={"chunk_bytes": 8192}),
        f"CREATE TABLE c{number} (id int PRIMARY KEY, v text)",
        f"ALTER TABLE c{number} ALTER v SET STORAGE PLAIN",
        f"INSERT INTO c{number} SELECT i, repeat('x', 7000) FROM generate_series(1, {number}) i",
    )


def _many(statements: Statements, number: int) -> tuple[int, int]:
    tables = [config(f"m{i}") for i in range(number)]
    for table in tables:
        name = table.table_name
        statements.of(
            table,
            f"CREATE TABLE {name} AS SELECT i AS id, 'v' AS v FROM generate_series(1, 10) i",
            f"ALTER TABLE {name} ADD PRIMARY KEY (id)",
        )
        statements.world.execute(f"UPDATE {name} SET v = 'w'")
    statements.sent.clear()
    assert sync_together(tables, statements.world.places, lambda receipt: None) == []
    return statements.counted()


def test_idle_target_of_the_same_size_is_not_read(statements: Statements, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hints, "HEARTBEAT", timedelta(0))
    table = config()
    statements.of(table)
    # No size is noted yet: the sync log and the counts are read, and policies and streams looked for.
    assert statements.of(table) == (7, 2)
    assert statements.of(table) == (1, 0)
    statements.in_warehouse('UPDATE "PUBLIC"."T" SET "_SRC_XMIN" = 3 WHERE "ID" = 1')
    receipt = statements.world.sync(table)
    assert "rows of the target were modified outside of aurora_sync" in receipt.warnings[0]


def test_idle_target_that_was_replaced_is_read(statements: Statements, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and bytes may be the same afterwards."""
    monkeypatch.setattr(hints, "HEARTBEAT", timedelta(0))
    table = config()
    assert [statements.of(table) for _ in range(3)][1:] == [(7, 2), (1, 0)]
    statements.server.created_on += timedelta(hours=1)
    assert [statements.of(table) for _ in range(2)] == [(7, 2), (1, 0)]


def test_compacted_log_has_the_same_entries_and_runs_go_on(statements: Statements) -> None:
    table, places = config(), statements.world.places
    for _ in range(3):
        statements.of(table, UPDATE)
    entries = statements.in_warehouse(ENTRIES)
    soon = datetime.now(UTC) + gc.LOG_AT_REST + timedelta(hours=1)
    assert gc.compact_log(places, soon) == 3
    assert statements.in_warehouse(ENTRIES) == entries
    assert gc.compact_log(places) == 0  # entries of the last day stay as they are
    statements.of(table, UPDATE)
    assert statements.in_warehouse(ENTRIES)[:3] == entries
    with places.warehouse.session() as session:
        assert [entry.run_sequence for entry in sync_log.newest(session)] == [4]


def test_killed_compaction_changes_nothing(statements: Statements) -> None:
    table = config()
    for _ in range(2):
        statements.of(table, UPDATE)
    entries = statements.in_warehouse(ENTRIES)

    def kill(connection: Connection, statement: str) -> None:
        if statement.startswith("INSERT"):
            connection.vanish()

    statements.server.before = kill
    with pytest.raises(WarehouseError):
        gc.compact_log(statements.world.places, datetime.now(UTC) + gc.LOG_AT_REST + timedelta(hours=1))
    statements.server.abort_detached()
    assert statements.in_warehouse(ENTRIES) == entries


def _check(found: dict[str, tuple[int, int]]) -> None:
    lines = [f"| {kind} | {sent} | {needing} |" for kind, (sent, needing) in found.items()]
    page = PAGE.read_text(encoding="utf-8")
    head, row, _ = page.partition("|---|---|---|\n")
    wanted = head + row + "\n".join(lines) + "\n"
    if os.environ.get("AURORA_SYNC_WRITE_GOLDEN"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == wanted
