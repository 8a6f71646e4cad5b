"""A column of the target gets another type, and no row is lost: neither beside another run nor by a kill."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import RivalRunError, WarehouseError
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Evolution
from aurora_sync.model.receipt import Applied
from aurora_sync.warehouse import convert, ddl, resume
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import identifier
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.warehouse.increments import Folder, apply, column
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, Server, SnowflakeLike
from aurora_sync_tests.warehouse.through import Dying, Killed

NUMBERS = (column("id", "int8"), column("price", "numeric", modifier=((10 << 16) | 2) + 4), column("name"))
TEXTS = (NUMBERS[0], column("price"), NUMBERS[2])
SOURCE = {1: ("1.50", "a"), 2: ("0.25", "b"), 3: (None, "c"), 4: ("4.00", "d")}


class Table:
    """A table whose rows are exported and applied as a run does it. Row 4 is deleted at the source, and marked in the
    target: only the target has its values."""

    def __init__(self, folder: Folder, deletes: Literal["hard", "soft"] = "soft") -> None:
        self.folder = folder
        self.config = TableConfig(table_name="orders", watermark_type="xmin", deletes=deletes)
        self.rows = dict(SOURCE)

    def attempt(
        self, session: Session, columns: Sequence[Column], changed: Sequence[int], **evolution: Any
    ) -> Callable[[Session], Applied]:
        """Read the state and export the changed rows; all of them if the state has no watermark."""
        state = resume.read_state(session, self.config)
        whole = state.watermark is None
        rows = [(str(i), *self.rows[i], "5") for i in (self.rows if whole else changed)]
        manifest = self.folder.increment(
            columns,
            rows,
            disposition=Disposition.REPLACE if whole else Disposition.UPSERT,
            expected=state.run_sequence,
            expected_load_id=state.load_id,
            evolution=Evolution(**evolution),
        )
        return lambda through: apply(through, self.config, manifest, self.folder, allow_deletes=True)

    def seed(self, session: Session) -> None:
        self.attempt(session, NUMBERS, ())(session)
        del self.rows[4]
        self.reload(session)

    def reload(self, session: Session) -> None:
        state = resume.read_state(session, self.config)
        rows = [(str(i), *values, "5") for i, values in self.rows.items()]
        manifest = self.folder.increment(
            NUMBERS,
            rows,
            disposition=Disposition.REPLACE,
            expected=state.run_sequence,
            expected_load_id=state.load_id,
        )
        apply(session, self.config, manifest, self.folder, allow_deletes=True)

    def change(self, row: int, price: str | None, name: str) -> None:
        self.rows[row] = (price, name)


def contents(session: Session) -> dict[int, tuple[Any, ...]]:
    rows = session.query('SELECT "ID", CAST("PRICE" AS VARCHAR), "NAME" FROM "PUBLIC"."ORDERS"')
    return {int(i): tuple(rest) for i, *rest in rows}


def described(session: Session) -> dict[str, str]:
    return ddl.existing_columns(session, ddl.TableName("PUBLIC", "ORDERS"))


def naive(session: Session, conversion: convert.Conversion) -> None:
    """Replace the table, as a conversion did before."""
    name, target = conversion.column.sql, conversion.layout.target
    columns = ", ".join(
        f"CAST({name} AS VARCHAR) AS {name}" if identifier(each) == name else identifier(each)
        for each in ddl.existing_columns(session, target)
    )
    session.query(f"CREATE OR REPLACE TABLE {target.sql} COPY GRANTS AS SELECT {columns} FROM {target.sql}")


@pytest.fixture
def table(folder: Folder) -> Table:
    return Table(folder)


def overtake(server: Server, table: Table, at: int, *, text: bool) -> tuple[bool, bool, int]:
    """Convert PRICE to text, and let another run of the table commit before statement ``at`` of the conversion. Returns
    whether each of the two was applied, and the number of statements."""
    warehouse = SnowflakeLike.on(server)
    sent = 0
    applied = {"mine": False, "rival": False}
    with warehouse.session() as mine, warehouse.session() as other:
        table.change(1, "NaN", "mine")
        attempt = table.attempt(mine, NUMBERS, [1])
        table.change(2, "NaN" if text else "8.00", "rival")
        rival = table.attempt(other, NUMBERS, [2])
        table.change(1, "1.50", "a")

        def before(connection: Connection, _: str) -> None:
            nonlocal sent
            if connection is mine._connection:  # type: ignore[attr-defined]
                sent += 1
                if sent == at:
                    try:
                        rival(other)
                        applied["rival"] = True
                    except WarehouseError:
                        pass

        server.before = before
        try:
            attempt(mine)
            applied["mine"] = True
        except RivalRunError:
            pass
        finally:
            server.before = lambda *_: None
    return applied["mine"], applied["rival"], sent


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(False, id="rival keeps the type"),
        pytest.param(True, id="rival converts too", marks=pytest.mark.long),
    ],
)
def test_rival_that_commits_before_any_statement_of_a_conversion_loses_nothing(
    folder: Folder, tmp_path: Path, *, text: bool
) -> None:
    won, converted = set(), 0
    for at in itertools.count(1):
        server, table = Server(tmp_path / f"{at}.duckdb", folder), Table(folder)
        with SnowflakeLike.on(server).session() as session:
            table.seed(session)
        mine, rival, sent = overtake(server, table, at, text=text)
        if sent < at:
            break
        won.add((mine, rival))
        with SnowflakeLike.on(server).session() as session:
            if mine:
                table.change(1, "NaN", "mine")
            found = contents(session)
            converted += described(session).get("PRICE") == "VARCHAR"
            if rival:
                assert found[2] == ("NaN" if text else "8.00", "rival"), at
            if mine:
                assert found[1] == ("NaN", "mine"), at
            assert found[4] == ("4.00", "d"), at
            assert len(found) == 4, at
            table.change(2, "9.00", "next")
            table.attempt(session, NUMBERS, [2])(session)
            wanted = {i: (values[0], values[1]) for i, values in table.rows.items()} | {4: ("4.00", "d")}
            assert contents(session) == wanted, at
            assert set(described(session)) == {"ID", "PRICE", "NAME", "_SRC_XMIN", "_RUN_SEQ", "_SYNCED_AT", "_DELETED"}
    assert {(True, False), (False, True)} <= won  # the rival meets the renamed column, and is the first to commit
    assert converted


def test_replacing_the_table_instead_loses_what_a_rival_commits(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "convert", naive)
    server, table = Server(tmp_path / "naive.duckdb", folder), Table(folder)
    with SnowflakeLike.on(server).session() as session:
        table.seed(session)
    warehouse = SnowflakeLike.on(server)
    with warehouse.session() as mine, warehouse.session() as other:
        table.change(1, "NaN", "mine")
        attempt = table.attempt(mine, NUMBERS, [1])
        table.change(2, "8.00", "rival")
        rival = table.attempt(other, NUMBERS, [2])
        applied: list[Applied] = []
        server.while_replacing = lambda _: applied.append(rival(other))
        with pytest.raises(RivalRunError):
            attempt(mine)
        assert contents(mine)[2] == ("0.25", "b")


@pytest.mark.closes_warehouse
def test_run_killed_at_any_statement_of_a_conversion_loses_nothing(
    duckdb_warehouse: DuckDBWarehouse, folder: Folder, tmp_path: Path
) -> None:
    seeded = Table(folder)
    with duckdb_warehouse.session() as session:
        seeded.seed(session)
    seen = set()
    for last in itertools.count():
        warehouse = DuckDBWarehouse(shutil.copy(duckdb_warehouse.path, tmp_path / f"{last}.duckdb"))
        table = Table(folder)
        table.rows = dict(seeded.rows)
        table.change(1, "NaN", "mine")
        with warehouse.session() as session:
            try:
                table.attempt(session, NUMBERS, [1])(Dying(session, last))
                break
            except Killed:
                pass
        with warehouse.session() as session:
            seen.add(tuple(name[:7] for name in described(session) if name[:7] in ("PRICE", "_CONVER", "_FORMER")))
            if resume.read_state(session, table.config).run_sequence == 2:
                table.attempt(session, NUMBERS, [1])(session)
            assert contents(session) == {1: ("NaN", "mine"), 2: ("0.25", "b"), 3: (None, "c"), 4: ("4.00", "d")}, last
            assert list(described(session))[-1] == "PRICE", last
            assert not any(name.startswith(("_CONVERTED", "_FORMER")) for name in described(session)), last
    assert seen == {("PRICE",), ("PRICE", "_CONVER"), ("_FORMER", "_CONVER"), ("_FORMER", "PRICE")}


def test_conversion_keeps_not_null_and_the_comment(session: Session, table: Table) -> None:
    if session.dialect.temporary_tables:
        return  # fakesnow has no COMMENT ON COLUMN
    table.seed(session)
    session.query('COMMENT ON COLUMN "PUBLIC"."ORDERS"."ID" IS \'it\'\'s the key\'')
    keys = (column("id"), *NUMBERS[1:])
    table.attempt(session, keys, [1], retyped=("id",))(session)
    found = ddl.described(session, ddl.TableName("PUBLIC", "ORDERS"))
    assert (found["ID"].type, found["ID"].nullable, found["NAME"].nullable) == ("VARCHAR", False, True)
