"""Both kinds of warehouse, and a way to break either at any statement."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from aurora_sync.warehouse.base import Session, Warehouse
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.scenarios.world import World
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, Server, SnowflakeLike
from aurora_sync_tests.warehouse.through import Dying, Killed


class Mortal(DuckDBWarehouse):
    """Its client is killed in front of a statement, counted over all sessions."""

    left = -1

    @contextmanager
    def session(self, *, query_tag: str = "") -> Iterator[Session]:
        with super().session(query_tag=query_tag) as session:
            dying = Dying(session, self.left)
            try:
                yield dying
            finally:
                self.left = dying.left


@pytest.fixture
def server(world: World) -> Server:
    """A small Snowflake; what it holds can be read through ``world.query``."""
    return Server(world.warehouse_path, world.places.stage.store)


@pytest.fixture(params=["duckdb", "snowflake"])
def warehouse(request: pytest.FixtureRequest, world: World) -> Warehouse:
    if request.param == "duckdb":
        return Mortal(world.warehouse_path)
    return SnowflakeLike.on(request.getfixturevalue("server"))


@pytest.fixture
def kill_at(warehouse: Warehouse) -> Callable[[int], None]:
    """Have the client be killed in front of the n-th statement from now on; of -1, never again."""

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
    """The world, with its target in that warehouse."""
    world.places = dataclasses.replace(world.places, warehouse=warehouse)
    return world
