"""Runs and connectors that die at any moment, beside writers that do everything: no wrong row; the usual consumer of
the same topic has many."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from aurora_sync.config.tables import Connector
from aurora_sync.source.debezium import Decoder, Operation
from aurora_sync.source.debezium_values import Modes
from aurora_sync.source.pgoutput import UNCHANGED, Values
from aurora_sync.source.topic import Topic
from aurora_sync.stage.writer import Attempt, Stage
from aurora_sync.warehouse import apply as applying
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.debezium.conftest import Connected
from aurora_sync_tests.scenarios.logical import writers
from aurora_sync_tests.scenarios.logical.test_random import Died, dying

STEPS: list[tuple[Any, str, bool]] = [
    (Topic, "behind", True),  # everything is read
    (Attempt, "close", True),
    (Stage, "commit", True),
    (DuckDBSession, "load", True),
    (sync_log, "advance", True),
    (sync_log, "record", True),
    (applying, "_drop_staging", False),  # committed
    (Stage, "confirm", False),
]
# Transactions beside one run of each table. The mock of a broker keeps 5 MB of a topic, as in 15 rounds or more: runs
# that writers of any speed leave behind would find that retention has deleted what they have not read.
A_ROUND = 60


class UsualConsumer:
    """Commits its offset when it has the messages, and applies each as it comes: the last event of a key wins."""

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
        """Rows that are missing, other ones, or too many."""
        columns = ", ".join(f"{column}::text" for column in self._columns)
        name = self._topic.rpartition(".")[2]
        source = dict[Values, Values]()
        for values in self._connected.world.execute(f"SELECT {columns} FROM {name}"):
            row = tuple(value.encode() if value is not None else None for value in values)
            source[row[: self._width]] = row
        return sum(source.get(key) != row for key, row in self.rows.items()) + len(source.keys() - self.rows.keys())


@pytest.mark.parametrize("pending", [256_000_000, 20_000], ids=["in memory", "in parts"])
def test_no_row_is_wrong_whenever_runs_and_connectors_die(
    connected: Connected, monkeypatch: pytest.MonkeyPatch, pending: int
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    dice, world = random.Random(seed), connected.world
    monkeypatch.setattr("aurora_sync.streamed.PENDING_BYTES", pending)
    monkeypatch.setattr("aurora_sync.topic._EVERY_MESSAGES", 10)
    tables = connected.table("t"), connected.table("u")
    world.execute(*writers.TABLES)
    connected.setup(*tables)
    connected.start(*tables)
    naive = [
        UsualConsumer(connected, "t", ["id", "doc", "n", "tags"], 1),
        UsualConsumer(connected, "u", ["a", "b", "doc"], 2),
    ]
    connected.catch_up()
    runs = died = killed = 0
    with writers.writing(world.dsn, seed) as done:
        for rounds in itertools.count():
            if rounds >= 12 and died > 1:
                break
            done.until(A_ROUND * rounds, A_ROUND * (rounds + 1))
            for table in tables:
                runs += 1
                if dice.random() < 0.5:
                    owner, name, after = dice.choice(STEPS)
                    with dying(monkeypatch, owner, name, after=after):
                        try:
                            connected.run(table, allow_deletes=True)
                        except Died:
                            died += 1
                else:
                    connected.run(table, allow_deletes=True)
            for consumer in naive:
                consumer.run(dies=dice.random() < 0.05)
            if dice.random() < 0.15:
                killed += 1
                connected.kill()
                connected.start(*tables)
                connected.catch_up()
    connected.catch_up()
    for table in tables:
        connected.run(table, allow_deletes=True)  # a scan perhaps, where what came again did not fit
        assert connected.run(table).method.startswith("topic")
    for consumer in naive:
        consumer.run(dies=False)
    for table in tables:
        world.assert_equal(table)
    wrong = [consumer.wrong() for consumer in naive]
    print(
        f"{done.committed:,} transactions, {died} of {runs} runs and {killed} connectors died, 0 rows wrong;"
        f" naive: {wrong}"
    )
    assert sum(wrong), f"the writers were too tame: {wrong}"
    for table in tables:
        world.assert_verified(table)
