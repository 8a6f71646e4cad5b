"""Equal keys with two texts, where rows are read from the table and deletes are found by comparing it."""

from __future__ import annotations

import pytest

from aurora_sync.errors import ConfigError
from aurora_sync_tests.scenarios.equal_keys import FLOATS, TEXTS, EqualKeys
from aurora_sync_tests.scenarios.world import World, config


@pytest.mark.parametrize("deletes", ["hard", "soft"])
@pytest.mark.parametrize("case", [*FLOATS, *TEXTS], ids=lambda case: case.type)
def test_a_reconcile_leaves_each_row_once_and_finds_nothing_more(world: World, case: EqualKeys, deletes: str) -> None:
    case.needs_server(world)
    world.execute(*case.create())
    table = config(case.table, "xmin", deletes=deletes)
    world.sync(table)
    for changes in (case.changes(), case.more_changes()):
        world.execute(*changes)
        world.sync(table, reconcile=True)
        if deletes == "hard":
            case.assert_synced(world)
        again = world.sync(table, reconcile=True)
        assert again.repair
        assert (again.repair.buckets_differing, again.repair.rows_moved) == (0, 0)
        world.assert_verified(table)


@pytest.mark.parametrize("case", FLOATS, ids=lambda case: case.type)
def test_a_scan_takes_an_equal_key_for_the_same_row(world: World, case: EqualKeys) -> None:
    world.execute(*case.create())
    table = config(case.table, "xmin")
    world.sync(table)
    world.execute(*case.changes())
    assert world.sync(table).inserted == 0
    case.assert_synced(world)


@pytest.mark.parametrize("case", [*FLOATS, *TEXTS], ids=lambda case: case.type)
def test_a_full_snapshot_holds_each_row_once(world: World, case: EqualKeys) -> None:
    case.needs_server(world)
    world.execute(*case.create())
    table = config(case.table, "full_snapshot")
    for changes in ([], case.changes(), case.more_changes()):
        world.execute(*changes)
        world.sync(table)
        case.assert_synced(world)


@pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.type)
def test_an_outbox_tells_texts_apart_where_the_warehouse_does(world: World, case: EqualKeys) -> None:
    case.needs_server(world)
    world.execute(*case.create())
    table = config(case.table, "outbox")
    world.make(table)
    world.sync(table)
    for changes in (case.changes(), case.more_changes()):
        world.execute(*changes)
        assert world.sync(table).method == "outbox"
        case.assert_synced(world)


@pytest.mark.parametrize("case", FLOATS, ids=lambda case: case.type)
def test_an_outbox_of_two_zeros_is_refused(world: World, case: EqualKeys) -> None:
    world.execute(*case.create())
    with pytest.raises(ConfigError, match="is not unique for each value; use watermark_type: xmin"):
        world.sync(config(case.table, "outbox"))
