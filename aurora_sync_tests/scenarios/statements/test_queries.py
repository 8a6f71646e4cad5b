"""The receipt of a run in Snowflake names the statements that needed a virtual warehouse, by query id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.model.receipt import Receipt
from aurora_sync.source.database import Source
from aurora_sync.stage.writer import Stage
from aurora_sync_tests.scenarios.logical.conftest import Streamed, streamed  # noqa: F401
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.snowflake_semantics import Server, SnowflakeLike

UPDATE = "UPDATE t SET v = v || 'x' WHERE id <= 10"


@pytest.fixture
def server(world: World, tmp_path: Path) -> Server:
    """Return a small Snowflake, which the world's runs load into."""
    server = Server(tmp_path / "like.duckdb", world.places.stage.store)
    warehouse = SnowflakeLike.on(server)
    stage = Stage(world.places.stage.store, target=warehouse.describe())
    world.places = Places(Source(world.dsn), stage, warehouse)
    for table in ("t", "u"):
        world.execute(
            f"CREATE TABLE {table} (id int PRIMARY KEY, v text)",
            f"INSERT INTO {table} SELECT i, 'v' FROM generate_series(1, 100) i",
        )
    return server


def shown(receipt: Receipt) -> list[str]:
    return [f"{query.phase} {query.statement}" for query in receipt.queries]


def tags(server: Server, receipt: Receipt) -> list[dict[str, Any]]:
    """Return the tags of the receipt's statements, as the server recorded them."""
    history = {query_id: (statement, tag) for query_id, statement, tag in server.history}
    for query in receipt.queries:
        assert history[query.id][0].startswith(query.statement)
    return [json.loads(history[query.id][1]) for query in receipt.queries]


def test_receipt_names_the_statements_of_an_increment(world: World, server: Server) -> None:
    world.sync(config())
    world.execute(UPDATE)
    receipt = world.sync(config())
    assert shown(receipt) == [
        "load COPY",
        "load SELECT",
        "merge UPDATE",
        "merge SELECT",
        "merge MERGE",
        "merge INSERT",
    ]
    assert [tag["phase"] for tag in tags(server, receipt)] == ["load"] * 2 + ["merge"] * 4
    assert {(tag["table"], tag["target"], tag["load_id"]) for tag in tags(server, receipt)} == {
        ("public.t", "PUBLIC.T", receipt.load_id)
    }
    assert receipt.to_json()["queries"][4].keys() == {"id", "statement", "phase", "seconds"}


def test_idle_run_has_no_queries(world: World, server: Server) -> None:
    world.sync(config())
    assert world.sync(config()).queries == ()


def test_verification_names_its_statements_after_those_of_the_increment(world: World, server: Server) -> None:
    world.sync(config())
    world.execute(UPDATE)
    phases = [query.phase for query in sync.verify(config(), world.places).queries]
    assert list(dict.fromkeys(phases)) == ["verify", "load", "merge"]  # the state is read for the verification
    assert phases[-1] == "verify"


def test_tables_of_one_transaction_have_their_own_queries_and_tags(
    world: World,
    server: Server,
    streamed: Streamed,  # noqa: F811
) -> None:
    tables = streamed.table("t"), streamed.table("u")
    streamed.setup(*tables)
    streamed.run(*tables)
    world.execute(UPDATE, "DELETE FROM u WHERE id = 3")
    receipts = streamed.run(*tables)
    ids = [query.id for receipt in receipts.values() for query in receipt.queries]
    assert len(set(ids)) == len(ids)
    for name, receipt in receipts.items():
        assert {"load COPY", "merge MERGE"} <= set(shown(receipt))
        assert {(tag["table"], tag["load_id"]) for tag in tags(server, receipt)} == {(name, receipt.load_id)}
