"""One trial: a load in chunks beside writers, killed at random steps, and the increments after it."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from unittest import mock

from psycopg2.extensions import parse_dsn

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch, load, one_chunk
from aurora_sync.model.certificate import Level
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.watermark import Watermark
from aurora_sync.provisioning import replication
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.logical import slot
from aurora_sync.source.reading import Reading
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.ddl import target_name
from aurora_sync_tests.scenarios.chunked_load.loads import Killed, chunked, hooked, wide
from aurora_sync_tests.scenarios.chunked_load.writers import Writers
from aurora_sync_tests.scenarios.debezium.model import ModelConnector, cluster
from aurora_sync_tests.scenarios.dms_files.task import Task
from aurora_sync_tests.scenarios.world import World

_PLAIN = "id bigint PRIMARY KEY, v text, updated_at timestamptz DEFAULT clock_timestamp()"
_TOUCHED = (
    "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$",
    "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()",
)
KINDS: dict[str, dict[str, Any]] = {
    "xmin": {},
    "append": {"watermark_type": "xmin", "append_only": True},
    "soft": {"watermark_type": "xmin", "deletes": "soft"},
    "integer": {"watermark_col": "id"},
    "identity": {"watermark_type": "integer", "watermark_col": "id"},
    "timestamp": {"watermark_col": "updated_at"},
    "composite": {"watermark_cols": ["updated_at", "id"]},
    "outbox": {},
    "logical": {},
    "debezium": {},
    "dms": {},
}
STREAMS = ("logical", "debezium", "dms")
KILLED = 0.04  # the probability that a run is killed at a step


@dataclass
class Trial:
    """A trial of one kind."""

    world: World
    kind: str
    seed: int
    again: bool = False  # the load is a later one, over the rows of an earlier one
    passes: bool = False
    kills: int = 0
    steps: int = 0
    statements: int = 0
    truth: Any = None  # rows of the newest snapshot
    config: TableConfig = field(init=False)
    _end: ExitStack = field(default_factory=ExitStack)
    _send: Callable[[], object] = lambda: None

    def run(self) -> Receipt:
        """Run the trial, assert that the target is equal, and return the receipt of the load."""
        with self.writing() as writers:
            receipt = self._loaded()
            assert receipt.load or self.kills  # a run that was killed behind its commit has no receipt
            # Without the load, the receipt is of an increment, which may have a doubt of its strategy.
            assert not (receipt.load and receipt.certificate.level is Level.UNCERTIFIED)
            for _ in range(2):  # the strategy goes on from the load
                writers.step()
                self._run(full=False)
            writers.finish()
            self.statements = writers.statements
            self._equal()
        return receipt

    @contextmanager
    def writing(self) -> Iterator[Writers]:
        """Create the table, and yield its writers."""
        self.dice = random.Random(f"{self.kind}/{self.seed}")
        with self._end:
            self._prepare()
            if self.again:
                self._run(full=False)
            keyed, assigned = self.kind != "append", self.kind == "identity"
            with Writers(self.world, self.dice, keyed, assigned) as writers:
                self._writers = writers
                yield writers

    def _prepare(self) -> None:
        world, keys = self.world, {"watermark_type": self.kind, "delete_guard": {"max_rows": 10**6}, **KINDS[self.kind]}
        columns = _PLAIN
        if self.kind == "append":
            columns = _PLAIN.replace(" PRIMARY KEY", "")
        if self.kind == "identity":
            columns = _PLAIN.replace("bigint", "bigint GENERATED ALWAYS AS IDENTITY")
        wide(world, *_TOUCHED, columns=columns, rows=0)
        given = "OVERRIDING SYSTEM VALUE " if self.kind == "identity" else ""
        world.execute(f"INSERT INTO t {given}SELECT i, repeat('x', 1500) || i FROM generate_series(1, 40) i")
        if self.kind == "identity":
            world.execute("SELECT setval(pg_get_serial_sequence('t', 'id'), 40)")
        if self.kind in ("logical", "debezium"):
            keys["slot"] = f"load_{uuid.uuid4().hex[:12]}"
        if self.kind == "debezium":
            servers = self._end.enter_context(cluster())
            world.places = replace(world.places, source=Source(world.dsn, Kafka(servers)))
            keys |= {"topic_prefix": keys["slot"], "connector": {"role": parse_dsn(world.dsn)["user"]}}
            self._send = ModelConnector(world, servers, keys["slot"], publication=keys["slot"]).send
        if self.kind == "dms":
            task = Task(world, "t", ["id", "v", "updated_at"], ["id"])
            keys["files"], self._send = task.folder, task.write
            task.start()
            self._end.callback(task.stop)
            task.load()
        self.config = chunked(**keys)
        if self.kind == "outbox":
            world.make(self.config)
        if "slot" in keys:
            replication.set_up(world.dsn, [self.config], timeout="30s")
            self._end.callback(_dropped, world, keys["slot"])

    def _loaded(self) -> Receipt:
        """Load, again after each kill. Returns the receipt of the last run of the load."""
        full = self.again
        after = timedelta(0) if self.passes else timedelta(days=1)
        with hooked(self._hook), mock.patch.object(load, "PASS_AFTER", after), self._seen():
            while True:
                try:
                    receipt = self._run(full=full)
                except Killed:
                    self.kills += 1
                    full = full and one_chunk.loading_state(self.config, self.world.places) is None
                    continue
                compared = receipt.certificate.level is Level.CERTIFIED
                if receipt.load and compared and self.kind not in (*STREAMS, "append", "soft"):
                    assert self.world.target_rows(self.config) == self.truth
                return receipt

    def _run(self, *, full: bool) -> Receipt:
        self._send()
        if full or self.kind == "dms":
            return self.world.sync(self.config, full=full, allow_deletes=True)
        receipts: list[Receipt] = []
        batch.run([self.config], self.world.places, receipts.append, allow_deletes=True)
        return receipts[-1]

    def _hook(self, moment: str) -> None:
        self.steps += 1
        if moment == "within":
            if self.dice.random() < KILLED:
                raise Killed
            return
        if moment == "applied":
            _assert_not_certified(self.world, self.config)
        self._writers.step()
        if self.dice.random() < KILLED:
            raise Killed

    @contextmanager
    def _seen(self) -> Iterator[None]:
        """Keep the rows that the newest snapshot sees."""
        observe = Reading.observe

        def observed(reading: Reading, *arguments: Any, **keywords: Any) -> Any:
            at = observe(reading, *arguments, **keywords)
            with reading._connection.cursor() as cursor:
                cursor.execute("SELECT * FROM public.t")
                self.truth = type(self.world.source_rows(self.config))(cursor.fetchall())
            return at

        with mock.patch.object(Reading, "observe", observed):
            yield

    def _equal(self) -> None:
        compares = self.kind in ("xmin", "soft", "integer", "identity", "timestamp", "composite")
        if compares:
            self.world.sync(self.config, reconcile=True, allow_deletes=True)
        else:
            self._run(full=False)
            self._run(full=False)
        if self.kind == "soft":
            present = self.world.query('SELECT "ID", "V" FROM "PUBLIC"."T" WHERE "_DELETED" IS DISTINCT FROM TRUE')
            assert sorted(present) == sorted(self.world.execute("SELECT id, v FROM t"))
        else:
            self.world.assert_equal(self.config)


def _assert_not_certified(world: World, config: TableConfig) -> None:
    with world.places.warehouse.session() as session:
        entry = sync_log.newest_entry(session, target_name(config), world.places.log_schema)
    assert entry
    assert Watermark.from_json(entry.watermark).load
    assert json.loads(entry.certificate)["level"] == Level.UNCERTIFIED.value


def _dropped(world: World, name: str) -> None:
    with connect(world.dsn) as connection:
        if slot.look(connection, name):
            slot.drop(connection, name)
