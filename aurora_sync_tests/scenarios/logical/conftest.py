"""Tables of one replication slot, set up as `aurora-sync cdc setup` does it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.model.receipt import Receipt, Slot
from aurora_sync.provisioning import replication
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync_tests.scenarios.world import World, config


@dataclass
class Streamed:
    """A slot for one test: slots belong to the whole server, not to a database."""

    world: World
    name: str = field(default_factory=lambda: f"test_{uuid.uuid4().hex[:12]}")

    def table(self, name: str = "t", **keys: Any) -> TableConfig:
        return config(name, "logical", slot=self.name, **keys)

    def setup(self, *tables: TableConfig) -> list[str]:
        return [step.what for step in replication.set_up(self.world.dsn, tables, timeout="30s")]

    def run(self, *tables: TableConfig, **options: Any) -> dict[str, Receipt]:
        receipts: dict[str, Receipt] = {}
        batch.run(tables, self.world.places, lambda r: receipts.update({r.table: r}), **options)
        assert receipts.keys() == {table.qualified_name for table in tables}
        return receipts

    def one(self, table: TableConfig, **options: Any) -> Receipt:
        return self.run(table, **options)[table.qualified_name]

    def slot(self) -> Slot | None:
        with connect(self.world.dsn) as connection:
            return slot.look(connection, self.name)


@pytest.fixture
def streamed(world: World) -> Iterator[Streamed]:
    made = Streamed(world)
    yield made
    if made.slot():
        with connect(world.dsn) as connection:
            slot.drop(connection, made.name)


@pytest.fixture
def other_slot(world: World) -> Iterator[str]:
    """Yield the name of a second slot that the test may create."""
    name = f"other_{uuid.uuid4().hex[:12]}"
    yield name
    with connect(world.dsn) as connection:
        if slot.look(connection, name):
            slot.drop(connection, name)
