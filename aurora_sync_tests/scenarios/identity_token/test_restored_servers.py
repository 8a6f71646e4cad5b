"""A server that was restarted, crashed, restored from a copy of its files, or replaced by another one."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import GuardError
from aurora_sync.model.certificate import Action
from aurora_sync.model.manifest import Disposition
from aurora_sync.strategies import horizon
from aurora_sync_tests.fixtures.private_server import PrivateServer, private_server
from aurora_sync_tests.scenarios.identity_token import twins as guards
from aurora_sync_tests.scenarios.identity_token.twins import CLOCKS, TABLE, Twins, each_strategy
from aurora_sync_tests.scenarios.world import World

RESTART = ("restart", Action.WIDEN)
COUNTER_BACK = ("counter went back", Action.RESEED)
CANARY = ("canary changed", Action.RESEED)
OTHER_TIMELINE = ("other timeline", Action.RESEED)
OTHER_SYSTEM = ("other system", Action.RESEED)
OTHER_DATABASE = ("other database", Action.RESEED)
MARGIN = horizon.RESTART_MARGIN


class Restorable:
    """A server with ``TABLE``, and a copy of its files that was taken while it was stopped."""

    def __init__(self, server: PrivateServer) -> None:
        self.server = server
        self.data = server.server.data
        self.copy = self.data.with_name("copy")
        server.execute(TABLE)
        server.stop()
        subprocess.run(["cp", "-a", self.data, self.copy], check=True)
        server.start()

    def restore(self, *, point_in_time: bool = False) -> None:
        """Restore the copied files: the same system identifier, and the transaction counter of that time. A restore to
        a point in time would begin a new timeline."""
        self.server.stop()
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", self.copy, self.data], check=True)
        if point_in_time:
            (self.data / "recovery.signal").touch()
            with (self.data / "postgresql.auto.conf").open("a") as settings:
                settings.write("restore_command = 'false'\n")
        self.server.start()
        while self.server.execute("SELECT pg_is_in_recovery()") == [(True,)]:
            time.sleep(0.05)


@pytest.fixture(scope="module")
def _restorable(stack: Stack) -> Iterator[Restorable]:
    with private_server(stack) as server:
        yield Restorable(server)


@pytest.fixture
def restorable(_restorable: Restorable) -> Restorable:
    _restorable.restore()
    return _restorable


@pytest.fixture
def world(restorable: Restorable, stage_url: str, tmp_path: Path, store_environment: dict[str, str]) -> World:
    return World(restorable.server.dsn(), stage_url, tmp_path / "warehouse.duckdb")


@pytest.fixture(autouse=True)
def _without_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the margin, which has more transaction ids than a test uses and would hide a missing guard."""
    guards.margin(monkeypatch)


def burn(world: World, ids: int) -> None:
    world.execute(f"DO $$ BEGIN FOR i IN 1..{ids} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$")


def write(world: World, text: str) -> None:
    """Change an old row and insert a new one, in one transaction."""
    world.execute(f"UPDATE t SET v = '{text}' WHERE id = 1; INSERT INTO t (v) VALUES ('{text}')")


def burn_to(world: World, counter: int) -> None:
    """Use up transaction ids, so that the next transaction that writes gets this id."""
    ((now,),) = world.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    burn(world, counter - now)


def counter_of(world: World) -> int:
    ((found,),) = world.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return int(found)


@each_strategy
def test_server_that_was_restarted_goes_on_from_a_margin_and_is_compared(
    restorable: Restorable, world: World, strategy: str
) -> None:
    """The test does not show that a guard is needed: a clean restart loses nothing, but cannot be told from a crash."""
    twins = Twins(world, strategy)
    restorable.server.stop()
    restorable.server.start()
    write(world, "after")
    receipt = twins.assert_equal(RESTART)
    assert receipt.repair is not None


def test_ids_that_a_crash_gives_out_again_are_read_by_the_margin(
    restorable: Restorable, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(horizon, "RESTART_MARGIN", MARGIN)
    restorable.server.execute("CHECKPOINT")
    restorable.server.hold_flushes()
    burn(world, 500)
    twins = Twins(world)
    stored = counter_of(world)
    restorable.server.crash()
    restorable.server.start()
    world.execute("INSERT INTO t (v) VALUES ('by an id used before')")
    assert counter_of(world) < stored
    burn_to(world, stored + 100)
    twins.assert_equal(RESTART)
    twins.assert_unequal_without(guards.restart, guards.margin)


def test_rows_that_a_crash_took_back_leave_the_target(restorable: Restorable, world: World) -> None:
    """The rows were committed with synchronous_commit = off, seen and exported; then they are gone."""
    restorable.server.execute("CHECKPOINT")
    restorable.server.hold_flushes()
    twins = Twins(world)
    world.execute("SET synchronous_commit = off; INSERT INTO t (v) VALUES ('phantom')")
    for target in ("guarded", "unguarded"):
        world.sync(twins.config(target))
    stored = counter_of(world)
    restorable.server.crash()
    restorable.server.start()
    assert ("phantom",) not in world.execute("SELECT v FROM t")
    burn_to(world, stored + 10)
    assert twins.assert_equal(RESTART).deleted == 1
    twins.assert_unequal_without(guards.restart)


@each_strategy
def test_table_that_a_crash_emptied_waits_for_a_person(restorable: Restorable, world: World, strategy: str) -> None:
    world.execute("ALTER TABLE t SET UNLOGGED")
    twins = Twins(world, strategy)
    restorable.server.crash()
    restorable.server.start()
    assert world.execute("SELECT FROM t") == []
    twins.assert_refused(GuardError, "would empty")
    assert twins.assert_equal(RESTART, allow_deletes=True).deleted == 10
    twins.assert_unequal_without(guards.restart)


@each_strategy
def test_counter_that_went_back_is_a_restore(restorable: Restorable, world: World, strategy: str) -> None:
    """Rows written after the restore have ids that the watermark considers exported. Their times are not affected,
    because the files do not contain a clock."""
    burn(world, 100)
    write(world, "lost by the restore")
    twins = Twins(world, strategy)
    restorable.restore()
    write(world, "after")
    twins.assert_equal(COUNTER_BACK)
    if strategy not in CLOCKS:
        twins.assert_unequal_without(guards.reasons("counter went back"), guards.canaries, guards.restart)


@each_strategy
def test_restore_whose_counter_has_caught_up_is_seen_by_rows_that_are_others(
    restorable: Restorable, world: World, strategy: str
) -> None:
    write(world, "before")
    twins = Twins(world, strategy)
    stored = counter_of(world)
    restorable.restore()
    write(world, "instead of it")
    burn_to(world, stored + 100)
    twins.assert_equal(CANARY)
    if strategy not in CLOCKS:
        twins.assert_unequal_without(guards.canaries, guards.restart)


def test_restore_in_lockstep_is_seen_by_rows_of_the_same_id_with_another_content(
    restorable: Restorable, world: World
) -> None:
    """The statements give the same ids and the same keys: only the content differs."""
    write(world, "before")
    twins = Twins(world)
    stored = counter_of(world)
    restorable.restore()
    write(world, "instead")
    burn_to(world, stored)
    twins.assert_equal(CANARY)
    twins.assert_unequal_without(guards.canaries, guards.restart)


@each_strategy
def test_restore_before_rows_that_were_exported_takes_them_out_of_the_target(
    restorable: Restorable, world: World, strategy: str
) -> None:
    """No canary is left that could differ: the reconcile that follows a restart finds the rows."""
    world.execute("INSERT INTO t (v) VALUES ('lost by the restore')")
    twins = Twins(world, strategy)
    stored = counter_of(world)
    restorable.restore()
    burn_to(world, stored + 100)
    assert twins.assert_equal(RESTART).deleted == 1
    twins.assert_unequal_without(guards.restart)


@each_strategy
def test_restore_to_a_point_in_time_is_another_timeline(restorable: Restorable, world: World, strategy: str) -> None:
    write(world, "before")
    twins = Twins(world, strategy)
    stored = counter_of(world)
    restorable.restore(point_in_time=True)
    write(world, "instead of it")
    burn_to(world, stored + 100)
    twins.assert_equal(OTHER_TIMELINE)
    if strategy not in CLOCKS:
        twins.assert_unequal_without(guards.reasons("other timeline"), guards.canaries, guards.restart)


@each_strategy
def test_dump_restored_into_another_server_is_another_system(
    world: World, dsn: str, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """The counter, database and table of the other server differ too, and its rows are not the canaries; none of these
    guards is needed."""
    for remove in (
        guards.reasons("counter went back", "other database", "other table"),
        guards.canaries,
        guards.restart,
        guards.new_members,
    ):
        remove(monkeypatch)
    world.execute("UPDATE t SET v = 'of the dump' WHERE id = 3")
    before = World(dsn, world.stage_url, world.warehouse_path)
    before.execute(TABLE)
    twins = Twins(before, strategy).now(world)
    twins.assert_equal(OTHER_SYSTEM)
    twins.assert_unequal_without(guards.reasons("other system"))


def test_green_server_that_took_over_from_blue_is_another_system(world: World, dsn: str) -> None:
    """Logical replication wrote its rows by its own transactions, here with ids below the watermark."""
    blue = World(dsn, world.stage_url, world.warehouse_path)
    blue.execute(TABLE, "CREATE PUBLICATION everything FOR ALL TABLES")
    world.execute("TRUNCATE t", f"CREATE SUBSCRIPTION green CONNECTION '{dsn}' PUBLICATION everything")
    try:
        until(world, "SELECT count(*) = 10 FROM t")
        burn(blue, 1_000)  # so that blue is ahead of green
        twins = Twins(blue)
        blue.execute("UPDATE t SET v = 'written to blue' WHERE id = 3")
        until(world, "SELECT v = 'written to blue' FROM t WHERE id = 3")
    finally:
        world.execute("DROP SUBSCRIPTION green")  # also drops its slot on blue
    world.execute("INSERT INTO t OVERRIDING SYSTEM VALUE VALUES (100, 'written to green')")
    switched = twins.now(world)
    receipt = world.sync(switched.config("guarded"))
    assert (receipt.certificate.findings[0].event, receipt.disposition) == ("other system", Disposition.REPLACE)
    assert switched.difference("guarded") == ""
    reasons = guards.reasons("other system", "counter went back", "other database", "other table", "columns changed")
    switched.assert_unequal_without(reasons, guards.canaries, guards.restart, guards.new_members)


def until(world: World, question: str) -> None:
    for _ in range(6_000):
        if world.execute(question) == [(True,)]:
            return
        time.sleep(0.05)
    raise AssertionError(f"never true: {question}")


@each_strategy
def test_database_made_anew_from_a_copy_is_another_one(restorable: Restorable, world: World, strategy: str) -> None:
    """The copy keeps the table's oid."""
    restorable.server.execute("CREATE DATABASE app")
    app = World(restorable.server.dsn("app"), world.stage_url, world.warehouse_path)
    app.execute(TABLE)
    restorable.server.execute("CREATE DATABASE copy TEMPLATE app")
    write(app, "lost with the database")
    write(World(restorable.server.dsn("copy"), world.stage_url, world.warehouse_path), "of the copy")
    twins = Twins(app, strategy)
    restorable.server.execute("DROP DATABASE app", "ALTER DATABASE copy RENAME TO app")
    twins.assert_equal(OTHER_DATABASE)
    twins.assert_unequal_without(guards.reasons("other database"), guards.canaries)
