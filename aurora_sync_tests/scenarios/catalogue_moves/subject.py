"""A table under one strategy: its set-up, and its runs."""

from __future__ import annotations

import uuid
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from psycopg2.extensions import parse_dsn

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.model.receipt import Receipt
from aurora_sync.provisioning import replication
from aurora_sync.provisioning.triggers.installed import TriggerKind
from aurora_sync.provisioning.triggers.plan import missing_steps
from aurora_sync.provisioning.triggers.steps import run_steps
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.logical import slot
from aurora_sync_tests.scenarios.catalogue_moves.place import Place
from aurora_sync_tests.scenarios.debezium.model import ModelConnector, cluster
from aurora_sync_tests.scenarios.dms_files.task import Task
from aurora_sync_tests.scenarios.world import config

STRATEGIES: dict[str, dict[str, Any]] = {
    "full_snapshot": {},
    "xmin": {},
    "timestamp": {"watermark_col": "updated_at"},
    "composite": {"watermark_cols": ["updated_at", "id"]},
    "integer": {"watermark_col": "id", "reconcile": {"every": 3}},
    "outbox": {},
    "logical": {},
    # Debezium refuses unknown types, such as a composite type.
    "debezium": {"columns": {"exclude": ["a"]}},
    "dms": {},
}
STREAMS = {"logical", "debezium", "dms"}
PUBLISHED = {"logical", "debezium"}  # `cdc setup` creates a publication and a slot for them
# Their certificate covers only the changes that others have sent; in these trials they have sent everything.
BOUNDED_BY_OTHERS = {"debezium", "dms"}
# The probability that others send nothing before a run; that a connector is restarted before it sends; and that it is
# killed before it has stored its offsets.
_LAGS, _RESTARTED, _KILLED = 0.2, 0.3, 0.15


class Subject:
    """A table under one strategy."""

    def __init__(self, place: Place, strategy: str) -> None:
        self.place, self.world, self.strategy = place, place.world, strategy
        self.task: Task | None = None
        self.lags = False  # whether the task or the connector lags behind what is committed
        self._end = ExitStack()
        keys = dict(STRATEGIES[strategy])
        if strategy in PUBLISHED:
            place.slot = keys["slot"] = f"moves_{uuid.uuid4().hex[:12]}"
        if strategy == "debezium":
            servers = self._end.enter_context(cluster())
            place.connector = ModelConnector(self.world, servers, place.slot, publication=place.slot)
            self.world.places = replace(self.world.places, source=Source(self.world.dsn, Kafka(servers)))
            role = {"role": parse_dsn(self.world.dsn)["user"]}
            keys |= {"topic_prefix": place.slot, "connector": role}
        if strategy == "dms":
            self.task = Task(self.world, "t", ["id", "part", "v", "cents", "m", "a", "updated_at"], ["id", "part"])
            keys["files"] = self.task.folder
        self.config: TableConfig = config("t", strategy, **keys)
        self.excluded = frozenset(self.config.columns.exclude)

    def prepare(self) -> None:
        """Set up the strategy, as a person does once, and again when a run requires it."""
        if self.strategy == "outbox":
            key = self.config.schema_, self.config.table_name
            with connect(self.world.dsn) as connection:
                table = catalogue.load(connection, [key])[self.config.qualified_name]
                steps = missing_steps(connection, table, TriggerKind.outbox, reader="", key=self.config.primary_key)
                list(run_steps(connection, steps))
        elif self.strategy in PUBLISHED:
            replication.set_up(self.world.dsn, [self.config], timeout="30s")
        elif self.task and not self.task.changes:
            # A task finds a table by its name.
            self.world.execute(
                f"CREATE PUBLICATION {self.task.name} FOR ALL TABLES WITH (publish_via_partition_root = true)"
            )
            slot.create(self.world.dsn, self.task.name, timeout="30s")
            self.task.load()

    def run(self) -> Receipt:
        receipts: list[Receipt] = []
        if connector := self.place.connector:
            self._send(connector)
        elif self.task:
            self.lags = self.place.dice.random() < _LAGS
            if not self.lags:
                self.task.write()
        batch.run([self.config], self.world.places, receipts.append, allow_deletes=True)
        return receipts[-1]

    def _send(self, connector: ModelConnector) -> None:
        dice = self.place.dice
        self.lags = dice.random() < _LAGS
        if dice.random() < _RESTARTED:
            connector.known.clear()
        if not self.lags:
            connector.send(remember=dice.random() > _KILLED)

    def close(self) -> None:
        if self.task:
            self.task.stop()
        if self.place.slot:
            with connect(self.world.dsn) as connection:
                if slot.look(connection, self.place.slot):
                    slot.drop(connection, self.place.slot)
        self._end.close()
