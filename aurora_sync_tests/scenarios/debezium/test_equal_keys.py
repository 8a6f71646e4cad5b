"""Equal keys with two texts, through Debezium: its engine sends each as a change of the key."""

from __future__ import annotations

from aurora_sync_tests.scenarios.debezium.conftest import Connected
from aurora_sync_tests.scenarios.equal_keys import FIXED, FLOATS, FOLDED, SCALES


def test_keys_that_are_equal_come_as_one_row(connected: Connected) -> None:
    world, cases = connected.world, (*FLOATS, SCALES, FIXED, FOLDED)
    for case in cases:
        case.needs_server(world)
    world.execute(*(statement for case in cases for statement in case.create()))
    tables = [connected.table(case.table) for case in cases]
    connected.setup(*tables)
    for table in tables:
        connected.run(table)
    connected.start(*tables)
    for changes in ("changes", "more_changes"):
        world.execute(*(statement for case in cases for statement in getattr(case, changes)()))
        connected.catch_up()
        for case, table in zip(cases, tables, strict=True):
            assert connected.run(table).method.startswith("topic"), case.table
            case.assert_synced(world)
