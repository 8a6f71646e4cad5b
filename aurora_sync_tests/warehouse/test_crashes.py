"""A run that dies at any statement: the next run from the same state ends at the same target, without duplicate
rows."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import Kind, RivalRunError, WarehouseError
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.receipt import Applied
from aurora_sync.warehouse import resume
from aurora_sync.warehouse.base import Objects, Row, Session, Warehouse
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.warehouse.increments import Folder, apply, column
from aurora_sync_tests.warehouse.through import Dying, Killed, Through

pytestmark = pytest.mark.closes_warehouse

COLUMNS = (column("id", "int8"), column("name"))


def rows(session: Session) -> list[Row]:
    return sorted(session.query('SELECT "ID", "NAME", "_SRC_XMIN" FROM "PUBLIC"."ORDERS"'))


def staging_tables(session: Session) -> list[Row]:
    return session.query("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE STARTSWITH(TABLE_NAME, 'STAGING')")


def prepare(
    session: Session, folder: Folder, orders: TableConfig, rows: Any, disposition: Disposition, key: Any = ("id",)
) -> Callable[[Session], Applied]:
    """Read the state and export from it, as sync.run does. Returns a function that applies the export through a
    session."""
    state = resume.read_state(session, orders)
    manifest = folder.increment(
        COLUMNS,
        rows,
        disposition=disposition,
        key=key,
        expected=state.run_sequence,
        expected_load_id=state.load_id,
    )
    return lambda through: apply(through, orders, manifest, folder)


FIRST = [("1", "a", "5"), ("2", "b", "5"), ("2", "b", "5")]
SECOND = [("2", "B", "6"), ("3", "c", "6")]


@pytest.mark.parametrize(
    ("disposition", "key"),
    [
        (Disposition.UPSERT, ("id",)),
        (Disposition.APPEND, ()),
        (Disposition.REPLACE, ("id",)),
        (Disposition.REPLACE, ()),
    ],
    ids=["upsert", "append", "replace", "replace without a key"],
)
def test_a_run_killed_at_any_statement_leaves_a_state_from_which_the_next_one_is_right(
    duckdb_warehouse: DuckDBWarehouse,
    folder: Folder,
    tmp_path: Path,
    orders: TableConfig,
    disposition: Disposition,
    key: Any,
) -> None:
    with duckdb_warehouse.session() as session:
        first = FIRST[:2] if key else FIRST
        prepare(session, folder, orders, first, Disposition.REPLACE, key)(session)
    wanted = None
    for last in itertools.count(-1):  # -1: the undisturbed run, whose result the others must match
        warehouse = DuckDBWarehouse(shutil.copy(duckdb_warehouse.path, tmp_path / f"{last}.duckdb"))
        with warehouse.session() as session:
            attempt = prepare(session, folder, orders, SECOND, disposition, key)
            if wanted is None:
                attempt(session)
                wanted = rows(session)
                continue
            try:
                attempt(Dying(session, last))
                break
            except Killed:
                pass
        with warehouse.session() as session:
            if resume.read_state(session, orders).run_sequence == 1:
                prepare(session, folder, orders, SECOND, disposition, key)(session)
            assert rows(session) == wanted, f"killed before statement {last}"
    assert last >= 10


def test_what_a_killed_attempt_left_behind_is_dropped_by_the_next_applied_one(
    session: Session, folder: Folder, orders: TableConfig
) -> None:
    if session.dialect.temporary_tables:
        return  # the table ended with its session
    prepare(session, folder, orders, FIRST[:2], Disposition.REPLACE)(session)
    with pytest.raises(Killed):
        prepare(session, folder, orders, SECOND, Disposition.UPSERT)(Dying(session, 6))
    assert len(staging_tables(session)) == 1
    prepare(session, folder, orders, SECOND, Disposition.UPSERT)(session)
    assert staging_tables(session) == []


class LostAcknowledgement(Through):
    """COMMIT succeeds but its answer is lost; the connection stays open."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self.inner.transaction():
            yield
        raise WarehouseError("connection reset", kind=Kind.TRANSIENT)


def test_a_commit_whose_acknowledgement_was_lost_is_found_in_the_log(
    session: Session, folder: Folder, orders: TableConfig
) -> None:
    attempt = prepare(session, folder, orders, FIRST[:2], Disposition.REPLACE)
    applied = attempt(LostAcknowledgement(session))
    assert (applied.run_sequence, applied.inserted, applied.target_rows) == (1, 2, 2)


class Overtaken(Through):
    """Another run of the table is applied between this one's load and its transaction."""

    def __init__(self, inner: Session, rival: Any) -> None:
        super().__init__(inner)
        self.rival = rival

    def load(self, staging_table: str, manifest: Manifest, objects: Objects) -> int:
        self.rival(self.inner)
        return super().load(staging_table, manifest, objects)


def test_an_attempt_whose_staging_table_a_winning_rival_dropped_says_that_it_was_overtaken(
    session: Session, folder: Folder, orders: TableConfig
) -> None:
    mine = prepare(session, folder, orders, FIRST[:2], Disposition.REPLACE)
    rival = prepare(session, folder, orders, SECOND, Disposition.REPLACE)
    with pytest.raises(
        RivalRunError, match="after this one" if session.dialect.temporary_tables else r"another run \(load id"
    ):
        mine(Overtaken(session, rival))
    assert rows(session) == [(2, "B", 6), (3, "c", 6)]


class StaleUpdate(Overtaken):
    """The UPDATE of the fence waits for the rival and then goes on with the state from before the wait."""

    def modify(self, statement: str, parameters: Sequence[Any] = ()) -> int:
        return max(super().modify(statement, parameters), 1)


def test_an_update_that_does_not_see_the_rival_it_waited_for_is_noticed(
    session: Session, folder: Folder, orders: TableConfig
) -> None:
    mine = prepare(session, folder, orders, FIRST[:2], Disposition.REPLACE)
    rival = prepare(session, folder, orders, SECOND, Disposition.REPLACE)
    with pytest.raises(RivalRunError):
        mine(StaleUpdate(session, rival))
    assert rows(session) == [(2, "B", 6), (3, "c", 6)]


def test_a_connection_that_is_lost_inside_the_transaction_is_worth_another_try(
    warehouse: Warehouse, folder: Folder, orders: TableConfig
) -> None:
    def lost(_: str) -> WarehouseError:
        return WarehouseError("connection reset", kind=Kind.TRANSIENT)

    with warehouse.session() as session:
        attempt = prepare(session, folder, orders, FIRST[:2], Disposition.REPLACE)
        with pytest.raises(WarehouseError, match="connection reset") as caught:
            attempt(Dying(session, 17, lost))
        assert caught.value.kind is Kind.TRANSIENT
        assert "which says whether the run was committed, could not be read" in caught.value.__notes__[0]
        assert not session.describe("PUBLIC", "ORDERS") or rows(session) == []
