"""Tables whose changes the real engine of Debezium writes to a broker: librdkafka's mock, which speaks the protocol."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from psycopg2.extensions import parse_dsn

from aurora_sync import topic
from aurora_sync.advisor import debezium as advisor
from aurora_sync.advisor import provision
from aurora_sync.config.tables import TableConfig
from aurora_sync.increment import Receipt
from aurora_sync.places import Places
from aurora_sync.source import slot
from aurora_sync.source.connection import connect
from aurora_sync.source.kafka import Kafka
from aurora_sync.source.source import Source
from aurora_sync_tests.scenarios.world import World, config

ROOT = Path(__file__).parents[3]
BRIDGE = "aurora_sync_tests.scenarios.debezium.bridge"
# A connector that finds its slot still in use waits for ten seconds, and six times.
CATCH_UP_SECONDS = 300.0


@pytest.fixture(scope="session")
def servers() -> Iterator[str]:
    with cluster() as address:
        yield address


@pytest.fixture
def other_servers() -> Iterator[str]:
    with cluster() as address:
        yield address


@contextmanager
def cluster() -> Iterator[str]:
    """The address of a cluster that lives as long as its producer."""
    producer = Producer({"test.mock.num.brokers": 1})
    (broker,) = producer.list_topics(timeout=60).brokers.values()
    yield f"{broker.host}:{broker.port}"
    producer.flush()


@dataclass
class Connected:
    """A connector of a test's own, and the tables whose changes it sends."""

    world: World
    servers: str
    folder: Path
    name: str = field(default_factory=lambda: f"test_{uuid.uuid4().hex[:12]}")
    _process: subprocess.Popen[bytes] | None = None
    _marks: int = 0

    def __post_init__(self) -> None:
        self.role = parse_dsn(self.world.dsn)["user"]
        self.reach(Kafka(self.servers))

    def reach(self, kafka: Kafka) -> None:
        """The brokers that the runs read from; the connector writes to ``servers``."""
        self.kafka = kafka
        self.places = Places(Source(self.world.dsn, kafka), self.world.places.stage, self.world.warehouse)
        self.world.places = self.places

    def table(self, name: str = "t", **keys: Any) -> TableConfig:
        connector = {"role": self.role, **keys.pop("connector", {})}
        return config(name, "debezium", slot=self.name, topic_prefix=self.name, connector=connector, **keys)

    def setup(self, *tables: TableConfig) -> list[str]:
        return [step.what for step in provision.apply(self.world.dsn, tables, timeout="30s")]

    def start(self, *tables: TableConfig, **options: str) -> None:
        """Again after a kill: it goes on from the offsets that it had stored."""
        parts = parse_dsn(self.world.dsn)
        place = advisor.Source(parts["host"], parts["dbname"], int(parts["port"]), sslmode="prefer")
        made = advisor.connector(tables, place)["config"]
        assert isinstance(made, dict)
        properties = made | {
            "name": self.name,
            "database.password": parts.get("password", ""),
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.storage.file.filename": str(self.folder / "offsets"),
            "offset.flush.interval.ms": "1000",
            "converter.schemas.enable": "false",
            **options,
        }
        run = self.folder / "run.json"
        run.write_text(json.dumps({"properties": properties, "servers": self.servers}), encoding="utf-8")
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", BRIDGE, str(run)],
                cwd=self.folder,  # the engine makes a folder for logs where it stands
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        if self._process:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def catch_up(self) -> None:
        """Wait until the topics have every change that is committed by now."""
        self._marks += 1
        mark = f"mark-{self._marks}"
        deadline, again = time.monotonic() + CATCH_UP_SECONDS, 0.0
        while not self._has(mark):
            if time.monotonic() > again:  # one that comes before the connector's own copy is not sent
                self.world.execute(f"SELECT pg_logical_emit_message(true, '{mark}', '')")
                again = time.monotonic() + 3
            assert self._process, "the connector was not started"
            assert self._process.poll() is None, (self.folder / "log").read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, (self.folder / "log").read_text(errors="replace")[-3000:]
            time.sleep(0.1)

    def _has(self, mark: str) -> bool:
        with Kafka(self.servers).topic(f"{self.name}.message") as found:
            return any(mark.encode() in (message.key or b"") for message in found.read({}))

    def run(self, table: TableConfig, **options: Any) -> Receipt:
        receipts: list[Receipt] = []
        topic.run(table, self.places, receipts.append, **options)
        (receipt,) = receipts
        return receipt

    def synced(self, table: TableConfig) -> Receipt:
        """Once the topic has everything."""
        self.catch_up()
        return self.run(table)


@pytest.fixture
def connected(world: World, servers: str, tmp_path: Path) -> Iterator[Connected]:
    made = Connected(world, servers, tmp_path)
    yield made
    made.kill()
    with connect(world.dsn) as connection:
        if slot.look(connection, made.name):
            slot.drop(connection, made.name)
