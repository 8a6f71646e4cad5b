"""Small increments of several tables share one transaction, and no table depends on the others."""

from __future__ import annotations

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch, together
from aurora_sync.errors import GuardError
from aurora_sync.model.receipt import Receipt
from aurora_sync.warehouse.apply import apply_all
from aurora_sync_tests.scenarios.world import World, config

NAMES = ("a", "b", "c")


@pytest.fixture
def tables(world: World) -> list[TableConfig]:
    """Return three synced tables of 100 rows, each with one row updated and one inserted since."""
    found = [config(name) for name in NAMES]
    for table in found:
        world.execute(
            f"CREATE TABLE {table.table_name} (id int PRIMARY KEY, v text)",
            f"INSERT INTO {table.table_name} SELECT i, 'v' FROM generate_series(1, 100) i",
        )
        world.sync(table)
    change(world, found)
    world.warehouse.sessions = 0
    return found


def change(world: World, tables: list[TableConfig]) -> None:
    for table in tables:
        name = table.table_name
        world.execute(
            f"UPDATE {name} SET v = v || 'x' WHERE id = 1", f"INSERT INTO {name} SELECT max(id) + 1 FROM {name}"
        )


def run(world: World, tables: list[TableConfig]) -> tuple[list[TableConfig], dict[str, Receipt]]:
    receipts: dict[str, Receipt] = {}
    left = together.sync_together(tables, world.places, lambda receipt: receipts.update({receipt.table: receipt}))
    return left, receipts


def test_three_tables_share_one_session(world: World, tables: list[TableConfig]) -> None:
    left, receipts = run(world, tables)
    assert (left, world.warehouse.sessions) == ([], 1)
    assert {name: (r.inserted, r.updated, r.run_sequence) for name, r in receipts.items()} == {
        f"public.{name}": (1, 1, 2) for name in NAMES
    }
    for table in tables:
        world.assert_equal(table)
    assert run(world, tables)[1].keys() == receipts.keys()
    assert [world.run_sequences(table) for table in tables] == [[1, 2]] * 3  # nothing was left to apply


def test_refused_table_leaves_the_others_to_their_own_runs(world: World, tables: list[TableConfig]) -> None:
    world.execute("CREATE TABLE d (id int)", "INSERT INTO d SELECT generate_series(1, 100)")
    guarded = config("d", "full_snapshot")
    world.sync(guarded)
    world.execute("DELETE FROM d")
    left, receipts = run(world, [tables[0], guarded, tables[1]])
    assert ([table.table_name for table in left], receipts) == (["a", "d", "b"], {})
    world.sync(tables[0])
    world.assert_equal(tables[0])
    with pytest.raises(GuardError):
        world.sync(guarded)


def test_rival_run_of_one_table_loses_nothing(
    world: World, tables: list[TableConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rival is applied after this run read its table."""
    real = apply_all

    def overtaken(*arguments: object, **options: object) -> object:
        monkeypatch.setattr(together, "apply_all", real)
        change(world, tables[1:2])
        world.sync(tables[1])
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(together, "apply_all", overtaken)
    left, _ = run(world, tables)
    assert left == tables
    for table in tables:
        world.sync(table)
        world.assert_equal(table)


def test_first_loads_and_errors_are_left_to_their_own_runs(world: World, tables: list[TableConfig]) -> None:
    world.execute("CREATE TABLE e (id int PRIMARY KEY)")
    first, missing = config("e"), config("missing")
    left, receipts = run(world, [first, *tables, missing])
    assert left == [first, missing]
    assert len(receipts) == 3


@pytest.mark.parametrize(("limit", "value", "sessions"), [("MOST_TABLES", 2, 2), ("MOST_BYTES", 1, 3)])
def test_transaction_is_limited(
    world: World, tables: list[TableConfig], monkeypatch: pytest.MonkeyPatch, limit: str, value: int, sessions: int
) -> None:
    monkeypatch.setattr(together, limit, value)
    assert run(world, tables)[0] == []
    assert world.warehouse.sessions == sessions
    for table in tables:
        world.assert_equal(table)


def _never(receipt: Receipt) -> None:
    raise AssertionError(receipt)


def test_single_table_and_tables_of_a_stream_are_not_joined(world: World, tables: list[TableConfig]) -> None:
    stream = config("s", "logical", slot="none")
    batches = [(tables[0],), (stream,)]
    assert batch.run_together(batches, world.places, _never) == batches
