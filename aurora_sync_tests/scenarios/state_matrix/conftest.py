"""Two kinds of warehouse, and a way to break either of them at any statement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from aurora_sync.warehouse.base import Session, Warehouse
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag
from aurora_sync_tests.scenarios.world import World
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, Server, SnowflakeLike
from aurora_sync_tests.warehouse.through import Dying, Killed


class Mortal(DuckDBWarehouse):
    """A warehouse whose client is killed before a statement, counted over all sessions."""

    left = -1

    @contextmanager
    def session(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        with super().session(query_tag=query_tag) as session:
            dying = Dying(session, self.left)
            try:
                yield dying
            finally:
                self.left = dying.left


@pytest.fixture
def server(world: World) -> Server:
    """Return a small Snowflake; ``world.query`` reads its contents."""
    return Server(world.warehouse_path, world.places.stage.store)


@pytest.fixture(params=["duckdb", "snowflake"])
def warehouse(request: pytest.FixtureRequest, world: World) -> Warehouse:
    if request.param == "duckdb":
        return Mortal(world.warehouse_path)
    return SnowflakeLike.on(request.getfixturevalue("server"))


@pytest.fixture
def kill_at(warehouse: Warehouse) -> Callable[[int], None]:
    """Return a function that kills the client before the n-th statement from now on; -1 never."""

    def duckdb(statement: int) -> None:
        assert isinstance(warehouse, Mortal)
        warehouse.left = statement

    def snowflake(statement: int) -> None:
        assert isinstance(warehouse, SnowflakeLike)
        left = [statement]

        def before(connection: Connection, _: str) -> None:
            if left[0] == 0:
                connection.vanish()
                raise Killed
            left[0] -= 1

        warehouse.server.before = before

    return duckdb if isinstance(warehouse, Mortal) else snowflake


@pytest.fixture
def moved(world: World, warehouse: Warehouse) -> World:
    """Return the world with its target in that warehouse."""
    world.places = dataclasses.replace(world.places, warehouse=warehouse)
    return world
