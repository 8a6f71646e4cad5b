"""A key that changes its text but stays equal is one row of the target or two, depending on the type in the
warehouse."""

from __future__ import annotations

import pytest

from aurora_sync_tests.scenarios.equal_keys import FLOATS, TEXTS
from aurora_sync_tests.scenarios.logical.conftest import Streamed


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL"])
def test_keys_that_are_equal_stream_as_one_row(streamed: Streamed, identity: str) -> None:
    world, cases = streamed.world, (*FLOATS, *TEXTS)
    for case in cases:
        case.needs_server(world)
    world.execute(*(statement for case in cases for statement in case.create()))
    world.execute(*(f"ALTER TABLE {case.table} REPLICA IDENTITY {identity}" for case in cases))
    tables = [streamed.table(case.table) for case in cases]
    streamed.setup(*tables)
    streamed.run(*tables)
    for case in cases:
        case.assert_equal_in_postgresql(world)
    for changes in ("changes", "more_changes"):
        world.execute(*(statement for case in cases for statement in getattr(case, changes)()))
        assert all(receipt.method.startswith("stream") for receipt in streamed.run(*tables).values())
        for case in cases:
            case.assert_synced(world)


def test_two_zeros_are_two_keys_where_the_target_has_their_texts(streamed: Streamed) -> None:
    (case, _), world = FLOATS, streamed.world
    table = streamed.table(case.table, column_types={"id": "text"})
    world.execute(*case.create())
    streamed.setup(table)
    streamed.run(table)
    world.execute(*case.changes())
    assert streamed.one(table).method.startswith("stream")
    found = world.query('SELECT "N", "ID" FROM PUBLIC.DOUBLES ORDER BY "N"')
    assert found == [(1, "-0"), (2, "0"), (3, "-0"), (4, "NaN")]
