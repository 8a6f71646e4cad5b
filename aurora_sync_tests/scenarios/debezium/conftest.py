"""Tables whose changes the real Debezium engine writes to a broker: librdkafka's mock, which implements the
protocol."""

from __future__ import annotations

import json
import os
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
from psycopg2.extensions import parse_dsn

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.model.receipt import Receipt
from aurora_sync.provisioning import replication
from aurora_sync.provisioning.connector import ConnectorSource, connector_config
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.logical import slot
from aurora_sync_tests.scenarios.debezium.model import cluster
from aurora_sync_tests.scenarios.world import World, config

ROOT = Path(__file__).parents[3]
BRIDGE = "aurora_sync_tests.scenarios.debezium.bridge"
# A connector that finds its slot in use retries six times, ten seconds apart.
CATCH_UP_SECONDS = STOP_SECONDS = 300.0


@pytest.fixture(scope="session")
def servers() -> Iterator[str]:
    with cluster() as address:
        yield address


@pytest.fixture
def other_servers() -> Iterator[str]:
    with cluster() as address:
        yield address


class Bridge:
    """A process that runs connectors: one for the session, or one that a test may kill."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", BRIDGE],
                cwd=folder,  # the engine creates its log folder in the working directory
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def command(self, **what: object) -> None:
        assert self.alive(), self.log()
        assert self._process.stdin
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def alive(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-3000:]

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def bridging(folder: Path) -> Iterator[Bridge]:
    made = Bridge(folder)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture(scope="session")
def bridge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    with bridging(tmp_path_factory.mktemp("bridge")) as made:
        yield made


@dataclass
class Connected:
    """A connector for one test, and the tables whose changes it sends."""

    world: World
    servers: str
    folder: Path
    bridge: Bridge
    name: str = field(default_factory=lambda: f"test_{uuid.uuid4().hex[:12]}")
    _ended: Path | None = None
    _starts: int = 0
    _marks: int = 0
    _read: dict[int, int] = field(default_factory=dict)  # offsets in the topic of marks

    def __post_init__(self) -> None:
        self.role = parse_dsn(self.world.dsn)["user"]
        self.reach(Kafka(self.servers))

    def reach(self, kafka: Kafka) -> None:
        """Set the brokers that the runs read from; the connector writes to ``servers``."""
        self.kafka = kafka
        self.places = Places(Source(self.world.dsn, kafka), self.world.places.stage, self.world.warehouse)
        self.world.places = self.places

    def table(self, name: str = "t", **keys: Any) -> TableConfig:
        connector = {"role": self.role, **keys.pop("connector", {})}
        return config(name, "debezium", slot=self.name, topic_prefix=self.name, connector=connector, **keys)

    def setup(self, *tables: TableConfig) -> list[str]:
        return [step.what for step in replication.set_up(self.world.dsn, tables, timeout="30s")]

    def start(self, *tables: TableConfig, **options: str) -> None:
        """Start the connector. After a stop or a kill it continues from its stored offsets."""
        parts = parse_dsn(self.world.dsn)
        place = ConnectorSource(parts["host"], parts["dbname"], int(parts["port"]), sslmode="prefer")
        made = connector_config(tables, place)["config"]
        assert isinstance(made, dict)
        properties = made | {
            "name": self.name,
            "database.password": parts.get("password", ""),
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.storage.file.filename": str(self.folder / "offsets"),
            "offset.flush.interval.ms": "1000",
            "poll.interval.ms": "50",  # with the default of 500, each catch_up() would wait longer
            "converter.schemas.enable": "false",
            **options,
        }
        self._starts += 1
        self._ended = self.folder / f"ended-{self._starts}"
        self.bridge.command(start={"properties": properties, "servers": self.servers, "ended": str(self._ended)})

    def stop(self) -> None:
        if self._ended is None:
            return
        if not self._ended.exists():
            self.bridge.command(stop=self.name)
        deadline = time.monotonic() + STOP_SECONDS
        while not self._ended.exists():
            assert self.bridge.alive(), self.bridge.log()
            assert time.monotonic() < deadline, self.bridge.log()
            time.sleep(0.02)
        self._ended = None

    def kill(self) -> None:
        """Kill the connector's process with SIGKILL; the next start() creates another one."""
        self.bridge.kill()
        self.bridge, self._ended = Bridge(self.folder), None

    def catch_up(self) -> None:
        """Wait until the topics have every change that is committed now."""
        self._marks += 1
        mark = f"mark-{self._marks}"
        deadline, again = time.monotonic() + CATCH_UP_SECONDS, 0.0
        while not self._has(mark):
            if time.monotonic() > again:  # a mark before the connector's own copy is not sent
                self.world.execute(f"SELECT pg_logical_emit_message(true, '{mark}', '')")
                again = time.monotonic() + 3
            assert self._ended, "the connector was not started"
            assert not self._ended.exists(), self.bridge.log()
            assert self.bridge.alive(), self.bridge.log()
            assert time.monotonic() < deadline, self.bridge.log()
            time.sleep(0.1)

    def _has(self, mark: str) -> bool:
        with Kafka(self.servers).topic(f"{self.name}.message") as found:
            marks = [message.key or b"" for message in found.read(self._read)]
            self._read = found.reached
        return any(mark.encode() in key for key in marks)

    def run(self, table: TableConfig, **options: Any) -> Receipt:
        receipts: list[Receipt] = []
        batch.run([table], self.places, receipts.append, **options)
        (receipt,) = receipts
        return receipt

    def synced(self, table: TableConfig) -> Receipt:
        """Sync when the topic has everything."""
        self.catch_up()
        return self.run(table)


@contextmanager
def connecting(made: Connected) -> Iterator[Connected]:
    """Yield a connector, and remove its slot at the end."""
    try:
        yield made
    finally:
        made.stop()
        with connect(made.world.dsn) as connection:
            if slot.look(connection, made.name):
                slot.drop(connection, made.name)


@pytest.fixture
def connected(world: World, servers: str, bridge: Bridge, tmp_path: Path) -> Iterator[Connected]:
    with connecting(Connected(world, servers, tmp_path, bridge)) as made:
        yield made


@pytest.fixture
def mortal(world: World, servers: str, tmp_path: Path) -> Iterator[Connected]:
    """Yield a connector in its own process, which the test may kill."""
    made = Connected(world, servers, tmp_path, Bridge(tmp_path))
    try:
        with connecting(made):
            yield made
    finally:
        made.bridge.kill()
