"""Runs and connectors that die at any moment, beside writers of every kind: the target has no wrong row, but the usual
consumer of the same topic has many."""

from __future__ import annotations

import random

import pytest

from aurora_sync.config.connector import Connector
from aurora_sync.source.debezium.events import Decoder, Operation
from aurora_sync.source.debezium.modes import Modes
from aurora_sync.source.debezium.topic import Topic
from aurora_sync.source.logical.pgoutput import UNCHANGED, Values
from aurora_sync.stage.writer import Attempt, Stage
from aurora_sync.warehouse import apply as applying
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.debezium.conftest import Connected
from aurora_sync_tests.scenarios.logical import writers
from aurora_sync_tests.scenarios.logical.test_random import PENDING, Died, Step, dying, schedule

STEPS: list[Step] = [
    (Topic, "behind", True),  # everything is read
    (Attempt, "close", True),
    (Stage, "commit", True),
    (DuckDBSession, "load", True),
    (sync_log, "advance", True),
    (sync_log, "record", True),
    (applying, "drop_staging", False),  # committed
    (Stage, "confirm", False),
]
# Transactions during one run of each table. The mock broker keeps only 5 MB of a topic, about 15 rounds: if runs fell
# further behind the writers, retention would delete messages before they are read.
A_ROUND = 60


class UsualConsumer:
    """A consumer that commits its offset when it has the messages, and applies each as it comes: the last event of a
    key wins."""

    def __init__(self, connected: Connected, table: str, columns: list[str], width: int) -> None:
        self._connected, self._topic, self._columns = connected, f"{connected.name}.public.{table}", columns
        found = connected.places.source.catalogue([("public", table)])[f"public.{table}"]
        modes = Modes.of(connected.table(table).connector or Connector(), pinned_session=True, infinite_intervals=True)
        self._decoder = Decoder("public", table, found.columns, columns[:width], modes)
        self._width, self._offsets, self.rows = width, dict[int, int](), dict[Values, Values]()

    def run(self, *, dies: bool) -> None:
        with self._connected.kafka.topic(self._topic) as topic:
            messages = list(topic.read(self._offsets))
            self._offsets = topic.reached
        for message in [] if dies else messages:
            event = self._decoder.decode(message.key, message.value, message.headers)
            if event.operation is Operation.DELETE and event.before:
                self.rows.pop(event.before[: self._width], None)
            elif event.after:
                row = tuple(None if value is UNCHANGED else value for value in event.after)
                self.rows[row[: self._width]] = row

    def wrong(self) -> int:
        """Return the rows that are missing, different or surplus."""
        columns = ", ".join(f"{column}::text" for column in self._columns)
        name = self._topic.rpartition(".")[2]
        source = dict[Values, Values]()
        for values in self._connected.world.execute(f"SELECT {columns} FROM {name}"):
            row = tuple(value.encode() if value is not None else None for value in values)
            source[row[: self._width]] = row
        return sum(source.get(key) != row for key, row in self.rows.items()) + len(source.keys() - self.rows.keys())


@pytest.mark.parametrize(
    ("times", "kills", "pending"),
    [
        pytest.param(1, 1, list(PENDING.values()), id="either"),
        *(pytest.param(3, 4, [size], id=name, marks=pytest.mark.long) for name, size in PENDING.items()),
    ],
)
def test_no_row_is_wrong_whenever_runs_and_connectors_die(
    mortal: Connected, monkeypatch: pytest.MonkeyPatch, times: int, kills: int, pending: list[int]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    dice, world = random.Random(seed), mortal.world
    monkeypatch.setattr("aurora_sync.engine.runners.topic._EVERY_MESSAGES", 10)
    monkeypatch.setattr(writers, "KEYS", 100)  # so that rows change more often in as few transactions
    tables = mortal.table("t"), mortal.table("u")
    world.execute(*writers.TABLES)
    mortal.setup(*tables)
    mortal.start(*tables)
    naive = [
        UsualConsumer(mortal, "t", ["id", "doc", "n", "tags"], 1),
        UsualConsumer(mortal, "u", ["a", "b", "doc"], 2),
    ]
    mortal.catch_up()
    died = 0
    rounds = list(zip(*(schedule(dice, STEPS, 2, times) for _ in tables), strict=True))
    killing = dice.sample(range(len(rounds)), kills)
    with writers.writing(world.dsn, seed) as done:
        for number, steps in enumerate(rounds):
            done.until(A_ROUND * number, A_ROUND * (number + 1))
            for table, step in zip(tables, steps, strict=True):
                monkeypatch.setattr("aurora_sync.engine.runners.member.PENDING_BYTES", dice.choice(pending))
                if step is None:
                    mortal.run(table, allow_deletes=True)
                    continue
                owner, name, after = step
                with dying(monkeypatch, owner, name, after=after):
                    try:
                        mortal.run(table, allow_deletes=True)
                    except Died:
                        died += 1
            for consumer in naive:
                consumer.run(dies=dice.random() < 0.05)
            if number in killing:
                mortal.kill()
                mortal.start(*tables)
                mortal.catch_up()
    mortal.catch_up()
    for table in tables:
        mortal.run(table, allow_deletes=True)  # may be a scan, if repeated changes did not fit
        assert mortal.run(table).method.startswith("topic")
    for consumer in naive:
        consumer.run(dies=False)
    for table in tables:
        world.assert_equal(table)
    wrong = [consumer.wrong() for consumer in naive]
    print(
        f"{done.committed:,} transactions, {died} of {2 * len(rounds)} runs and {kills} connectors died, 0 rows wrong;"
        f" naive: {wrong}"
    )
    assert died > 1
    assert sum(wrong), f"the writers were too tame: {wrong}"
    for table in tables:
        world.assert_verified(table)
