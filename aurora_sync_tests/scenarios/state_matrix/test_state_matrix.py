"""Runs that are killed at each point and then repeated: what each design loses and duplicates (correctness.md, section
10)."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse.base import Warehouse
from aurora_sync_tests.scenarios.state_matrix.naive import DESIGNS, POINTS, PREPARE
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.snowflake_semantics import SnowflakeLike
from aurora_sync_tests.warehouse.through import Killed

INSERT = "INSERT INTO t (v) SELECT 'row' FROM generate_series(1, 6)"
LOSES = {
    "S3 state before load, append": {"before_copy", "mid_copy"},
    "S3 state before load, MERGE": {"before_copy", "mid_copy"},
    "MAX() of target, append": {"mid_copy"},
    "MAX() of target, MERGE": {"mid_copy"},
}
DOUBLES = {
    "S3 state after load, append": {"mid_copy", "after_copy"},
    "warehouse state, separate statement, append": {"mid_copy", "after_copy"},
}
OURS: dict[str, tuple[str, TableConfig]] = {
    "MERGE": ("PRIMARY KEY", config()),
    "append": ("", config(append_only=True)),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_design_loses_and_doubles_where_it_is_known_to(world: World, warehouse: Warehouse, design: str) -> None:
    world.execute("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, v text)")
    with warehouse.session() as session:
        for statement in PREPARE:
            session.query(statement)
    lost, doubled = {}, {}
    for point in POINTS:
        world.execute(INSERT)
        with warehouse.session() as session, pytest.raises(Killed):
            DESIGNS[design].run(world, session, die_at=point)
        with warehouse.session() as session:
            DESIGNS[design].run(world, session)
            held = Counter(id for (id,) in session.query('SELECT "ID" FROM "NAIVE"'))
        source = Counter(id for (id,) in world.execute("SELECT id FROM t"))
        lost[point], doubled[point] = (source - held).total(), (held - source).total()
    assert (grew(lost), grew(doubled)) == (LOSES.get(design, set()), DOUBLES.get(design, set()))


def grew(counts: dict[str, int]) -> set[str]:
    """Return the points after which the count has grown: an error stays once it has happened."""
    before = (0, *counts.values())
    return {point for (point, count), was in zip(counts.items(), before, strict=False) if count > was}


@pytest.mark.parametrize("load", OURS)
def test_state_in_the_transaction_of_the_load_loses_and_doubles_nothing_wherever_it_is_killed(
    moved: World, warehouse: Warehouse, kill_at: Callable[[int], None], load: str
) -> None:
    key, table = OURS[load]
    moved.execute(f"CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY {key}, v text)", INSERT)
    waited = 0
    for statement in itertools.count():
        kill_at(statement)
        try:
            moved.sync(table)
        except Killed:
            pass
        else:
            break
        kill_at(-1)
        if isinstance(warehouse, SnowflakeLike):
            if warehouse.server.lock.locked():  # locked by the fence of a transaction that lost its client
                with pytest.raises(WarehouseError, match="LOCK_TIMEOUT"):
                    moved.sync(table)
                waited += 1
            warehouse.server.abort_detached()
        moved.sync(table)
        moved.assert_equal(table)
        moved.execute(INSERT)
        if load == "MERGE":
            moved.execute("UPDATE t SET v = v || '!' WHERE id % 3 = 0")
    assert statement >= 10
    assert (waited > 2) == isinstance(warehouse, SnowflakeLike)
    sequences = moved.run_sequences(table)
    assert sequences == list(range(1, len(sequences) + 1))
