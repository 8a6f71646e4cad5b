"""A reload beside writers and beside other runs of the table never puts an older row over a newer one."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.reload import reload
from aurora_sync.engine.retries import retrying
from aurora_sync.model.export import Exported
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.reload import Reload
from aurora_sync.source.reading import Reading
from aurora_sync_tests.scenarios.chunked_load.loads import WIDE
from aurora_sync_tests.scenarios.chunked_load.writers import Writers
from aurora_sync_tests.scenarios.world import World, config

MAKE = (
    "CREATE TABLE t (id int PRIMARY KEY, v text)",
    "INSERT INTO t SELECT n, 'old' FROM generate_series(1, 200) n",
)
RANGE = Reload(lower="100", upper="120")
# What happens in the range between the read of a reload and its merge.
EVENTS = (
    "UPDATE t SET v = 'newest' WHERE id = 100",
    "DELETE FROM t WHERE id = 101",
    "UPDATE t SET id = 1001 WHERE id = 102",
    "DELETE FROM t WHERE id = 103",
    "INSERT INTO t VALUES (103, 'inserted again')",
)


@pytest.fixture
def during_read(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Run an event once, after the snapshot of the next read and before its rows are copied."""

    def arrange(event: Callable[[], object]) -> None:
        original, pending = Reading.export, [event]

        def export(self: Reading, *arguments: object, **keywords: object) -> Exported:
            if pending:
                pending.pop()()
            return original(self, *arguments, **keywords)  # type: ignore[arg-type]

        monkeypatch.setattr(Reading, "export", export)

    return arrange


def again(world: World, table: TableConfig, request: Reload = RANGE) -> Receipt:
    """Reload, and start again after a rival run, as the command line and Dagster do."""
    return retrying(lambda: reload(table, world.places, request), sleep=lambda _: None)


def test_naive_reload_puts_older_rows_over_those_of_a_later_sync(world: World) -> None:
    """DELETE and INSERT of a range that was read before another sync: its watermark has passed the newer rows."""
    world.execute(*MAKE)
    ((horizon,),) = world.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    target = dict(world.execute("SELECT id, v FROM t"))
    read = dict(world.execute("SELECT id, v FROM t WHERE id >= 100 AND id < 120"))
    world.execute(*EVENTS)
    target.update(world.execute(f"SELECT id, v FROM t WHERE xmin::text::bigint >= {horizon}"))  # the other sync
    ((horizon,),) = world.execute("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    target = {id_: v for id_, v in target.items() if not 100 <= id_ < 120} | read
    target.update(world.execute(f"SELECT id, v FROM t WHERE xmin::text::bigint >= {horizon}"))  # all later syncs
    source = dict(world.execute("SELECT id, v FROM t"))
    assert {id_ for id_, v in source.items() if target.get(id_) != v} == {100, 103}
    assert target.keys() - source.keys() == {101, 102}


@pytest.mark.parametrize("strategy", ["xmin", "outbox"])
def test_reload_that_another_sync_overtakes_starts_again(
    world: World, strategy: str, during_read: Callable[[Callable[[], object]], None]
) -> None:
    world.execute(*MAKE)
    table = config(watermark_type=strategy)
    if strategy == "outbox":
        world.make(table)
    world.sync(table)

    def overtake() -> None:
        world.execute(*EVENTS)
        assert world.sync(table).changed

    during_read(overtake)
    again(world, table)
    world.assert_equal(table)
    assert world.run_sequences(table) == [1, 2, 3]


@pytest.mark.parametrize("strategy", ["xmin", "outbox"])
def test_sync_that_a_reload_overtakes_starts_again(
    world: World, strategy: str, during_read: Callable[[Callable[[], object]], None]
) -> None:
    world.execute(*MAKE)
    table = config(watermark_type=strategy)
    if strategy == "outbox":
        world.make(table)
    world.sync(table)
    world.execute("UPDATE t SET v = 'newer' WHERE id BETWEEN 95 AND 105")

    def overtake() -> None:
        world.execute(*EVENTS)
        again(world, table)

    during_read(overtake)
    world.sync(table)
    world.assert_equal(table)


def test_row_that_is_committed_late_in_the_range_is_not_lost(
    world: World, during_read: Callable[[Callable[[], object]], None]
) -> None:
    """The reload's snapshot does not see the row, and its watermark does not pass it."""
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'old'), (100, 'old')")
    table = config()
    world.sync(table)
    with world.open_transaction("INSERT INTO t VALUES (110, 'late')", "UPDATE t SET v = 'late' WHERE id = 1") as late:
        world.execute("UPDATE t SET v = 'new' WHERE id = 100")
        again(world, table)
        late.commit()
    world.sync(table)
    world.assert_equal(table)


class Trial:
    """Writers, syncs and reloads of random ranges in an order that the seed decides. Writers also write between the
    snapshot of each run and its merge."""

    def __init__(self, world: World, strategy: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.strategy, self.dice = world, strategy, random.Random(f"{strategy} {seed}")
        self.table = config(watermark_type=strategy)
        self.reloads, self.writes = 0, True
        original = Reading.export

        def export(reading: Reading, *arguments: object, **keywords: object) -> Exported:
            if self.writes:
                self.writers.step()
            return original(reading, *arguments, **keywords)  # type: ignore[arg-type]

        monkeypatch.setattr(Reading, "export", export)

    def run(self, steps: int) -> None:
        self.world.execute(
            "CREATE TABLE t (id int PRIMARY KEY, v text)",
            f"INSERT INTO t SELECT i, {WIDE} FROM generate_series(1, 40) i",
        )
        if self.strategy == "outbox":
            self.world.make(self.table)
        with Writers(self.world, self.dice) as self.writers:
            self.world.sync(self.table)
            for _ in range(steps):
                self.writers.step()
                self._one()
            self.writers.finish()
            self.writes = False
            self.world.sync(self.table)
        assert not self.world.source_rows(self.table) - self.world.target_rows(self.table)
        reload(self.table, self.world.places, Reload(lower="-1000000"), allow_deletes=True)
        self.world.assert_equal(self.table)

    def _one(self) -> None:
        if self.dice.random() < 0.4:
            self.world.sync(self.table)
            return
        lower = self.dice.randint(0, 60) if self.dice.random() < 0.7 else self.dice.randint(3000, 3100)
        upper = lower + self.dice.choice([1, 10, 100])
        reload(self.table, self.world.places, Reload(lower=str(lower), upper=str(upper)), allow_deletes=True)
        self.reloads += 1


@pytest.mark.parametrize("strategy", ["xmin", "outbox"])
def test_random_reloads_beside_writers_lose_nothing(
    world: World, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = Trial(world, strategy, 1, monkeypatch)
    trial.run(12)
    assert trial.reloads > 3
    assert trial.writers.statements > 10


@pytest.mark.long
@pytest.mark.parametrize("strategy", ["xmin", "outbox"])
@pytest.mark.parametrize("seed", range(2, 12))
def test_many_random_reloads_beside_writers_lose_nothing(
    world: World, strategy: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Trial(world, strategy, seed, monkeypatch).run(60)
