"""A real source, stage and warehouse for one test, with the operations that scenarios need."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch, sync
from aurora_sync.engine.places import Places
from aurora_sync.model.names import fold
from aurora_sync.model.receipt import Receipt
from aurora_sync.objects.store import Store
from aurora_sync.provisioning.triggers.backfill import backfill
from aurora_sync.provisioning.triggers.installed import TriggerKind
from aurora_sync.provisioning.triggers.plan import missing_steps
from aurora_sync.provisioning.triggers.steps import run_steps
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.stage.writer import Stage
from aurora_sync.strategies import strategy_for
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import ADDED_TYPES, TableName, identifier
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync.warehouse.located import find_target
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag

Rows = Counter[tuple[Any, ...]]


class CountingWarehouse(DuckDBWarehouse):
    """A warehouse that counts its sessions, and is metered like Snowflake."""

    metered = True
    sessions = 0

    @contextmanager
    def session(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        self.sessions += 1
        with super().session(query_tag=query_tag) as session:
            yield session


def config(table: str = "t", watermark_type: str = "xmin", **keys: Any) -> TableConfig:
    return TableConfig.model_validate({"table_name": table, "watermark_type": watermark_type, **keys})


def opened(monkeypatch: pytest.MonkeyPatch) -> list[Connection]:
    """Return a list to which each connection to PostgreSQL is added when it is opened."""
    found: list[Connection] = []
    connect = psycopg2.connect

    def opening(*arguments: Any, **options: Any) -> Connection:
        found.append(connect(*arguments, **options))
        return found[-1]

    monkeypatch.setattr(psycopg2, "connect", opening)
    return found


@dataclass
class World:
    """Source, stage and warehouse of one test. Needs AWS_* in the environment (``store_environment``)."""

    dsn: str
    stage_url: str
    warehouse_path: Path
    places: Places = field(init=False)
    warehouse: CountingWarehouse = field(init=False)

    def __post_init__(self) -> None:
        self.warehouse = CountingWarehouse(self.warehouse_path)
        stage = Stage(Store.from_url(self.stage_url), target=self.warehouse.describe())
        self.places = Places(Source(self.dsn), stage, self.warehouse)

    def sync(self, config: TableConfig, **options: Any) -> Receipt:
        return sync.run(config, self.places, **options)

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run each statement in its own transaction; return the rows of the last."""
        with self.session() as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []

    def make(self, config: TableConfig, kind: TriggerKind = TriggerKind.outbox) -> None:
        """Install the table's triggers, as `aurora-sync triggers apply` does."""
        key = config.schema_, config.table_name
        with connect(self.dsn) as connection:
            table = catalogue.load(connection, [key])[config.qualified_name]
            steps = missing_steps(connection, table, kind, reader="", key=config.primary_key)
            assert list(run_steps(connection, steps))
            if kind is TriggerKind.audit_columns:
                list(backfill(connection, table))

    @contextmanager
    def session(self) -> Iterator[Connection]:
        """Yield a writer's connection as psycopg2 opens it, where a transaction begins with the first statement. An
        open transaction is rolled back before this returns. close() alone leaves that to the server, which may do it
        after the next statement of the test and hold the horizon until then."""
        connection = psycopg2.connect(self.dsn, client_encoding="UTF8")
        try:
            yield connection
        finally:
            with suppress(psycopg2.Error):  # its server may already be gone
                connection.rollback()
            connection.close()

    def terminate(self, sessions: str) -> None:
        """End the sessions of this condition on pg_stat_activity, and return when they have ended."""
        assert self.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {sessions}")
        while self.execute(f"SELECT FROM pg_stat_activity WHERE {sessions}"):
            time.sleep(0.01)

    @contextmanager
    def open_transaction(self, *statements: str) -> Iterator[Connection]:
        """Yield a session that has run these statements without a commit."""
        with self.session() as connection:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            yield connection

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a query in the warehouse, without counting a session."""
        with DuckDBWarehouse(self.warehouse_path).session() as session:
            return session.query(statement, parameters)

    def source_rows(self, config: TableConfig) -> Rows:
        """Return the committed rows, typed."""
        with self.session() as connection, connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(config.schema_, config.table_name)))
            rows = cursor.fetchall()
            return Counter(tuple(bytes(v) if isinstance(v, memoryview) else v for v in row) for row in rows)

    def target_rows(self, config: TableConfig) -> Rows:
        """Return the target's rows in the source's columns, typed, in the source's order."""
        with DuckDBWarehouse(self.warehouse_path).session() as session:
            target, found = find_target(session, config)
            names = [name for name in found if name not in ADDED_TYPES]
            order = [fold(name) for name in self._source_columns(config)]  # a converted column is the target's last one
            names.sort(key=lambda name: order.index(fold(name)) if fold(name) in order else len(order))
            columns = ", ".join(identifier(name) for name in names)
            return Counter(session.query(f"SELECT {columns} FROM {target.sql}"))

    def _source_columns(self, config: TableConfig) -> list[str]:
        with self.session() as connection, connection.cursor() as cursor:
            table = sql.Identifier(config.schema_, config.table_name)
            cursor.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table))
            return [column.name for column in cursor.description or ()]

    def assert_equal(self, config: TableConfig) -> None:
        """Assert that source and target hold the same rows, each equally often."""
        source, target = self.source_rows(config), self.target_rows(config)
        lost, surplus = source - target, target - source
        assert not lost, f"{lost.total()} rows missing or stale, such as {next(iter(lost))}"
        assert not surplus, f"{surplus.total()} rows too many, such as {next(iter(surplus))}"

    def verify(self, config: TableConfig) -> Receipt:
        return batch.verify(config, self.places)

    def assert_verified(self, config: TableConfig, **options: Any) -> int:
        """Sync the table unless a stream brings its changes, and assert that source and target are equal by content.
        Returns the number of rows."""
        if strategy_for(config.watermark_type.value).keeps_xmin:
            self.sync(config, **options)
        found = self.verify(config).verification
        assert found is not None
        assert found.equal, found.examples
        return found.source_rows

    def run_sequences(self, config: TableConfig) -> list[int]:
        """Return the run sequences of all increments in the sync log, in order."""
        log = TableName(self.places.log_schema, "SYNC_LOG")
        found = self.query(
            f'SELECT "RUN_SEQUENCE" FROM {log.sql} WHERE "TARGET" = ? ORDER BY "APPLIED_AT"',
            (TableName(*config.target).sql,),
        )
        return [int(sequence) for (sequence,) in found]

    def staging_tables(self) -> list[str]:
        found = self.query("SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES WHERE STARTSWITH(TABLE_NAME, 'STAGING_')")
        return [name for (name,) in found]

    def objects(self) -> list[str]:
        """Return the keys of all objects in the stage."""
        return list(self.places.stage.store.list(self.places.stage.store.prefix))
