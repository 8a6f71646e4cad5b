"""A policy that a tag brings, a row access policy or a stream on a target in Snowflake: when a run notices it."""

from __future__ import annotations

import dataclasses

import pytest

from aurora_sync.engine.check import look_at_targets
from aurora_sync.engine.places import Places
from aurora_sync.errors import WarehouseError
from aurora_sync.source.database import Source
from aurora_sync.stage.writer import Stage
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.snowflake_semantics import Connection, Server, SnowflakeLike

ATTACHED = ("POLICY_REFERENCES", "SHOW STREAMS")


@pytest.fixture
def server(world: World) -> Server:
    """A small Snowflake in which table t was synced."""
    world.execute("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'v')")
    server = Server(world.warehouse_path, world.places.stage.store)
    warehouse = SnowflakeLike.on(server)
    world.places = Places(Source(world.dsn), Stage(world.places.stage.store, target=warehouse.describe()), warehouse)
    world.sync(config())
    return server


def forget_hint(world: World) -> None:
    store = world.places.stage.store
    store.delete([key for key in store.list(store.prefix) if "/applied/" in key])


def test_run_that_reads_the_sync_log_notices_a_row_access_policy(world: World, server: Server) -> None:
    sent: list[str] = []

    def record(_: Connection, statement: str) -> None:
        sent.extend(name for name in ATTACHED if name in statement)

    server.before = record
    server.policies = [("EUROPE", "ROW_ACCESS_POLICY", None)]
    world.execute("UPDATE t SET v = 'w'")
    world.sync(config())
    assert sent == []  # an increment that relies on the hint does not look
    forget_hint(world)
    world.execute("UPDATE t SET v = 'x'")
    with pytest.raises(WarehouseError, match="row access policy EUROPE"):
        world.sync(config())
    assert sent == ["POLICY_REFERENCES", "SHOW STREAMS"]
    assert world.query('SELECT "V" FROM "PUBLIC"."T"') == [("w",)]
    world.sync(config(policies="exempt"))
    assert world.query('SELECT "V" FROM "PUBLIC"."T"') == [("x",)]


def test_check_looks_at_every_target(world: World, server: Server) -> None:
    server.streams = [("T_CHANGES", "DB.PUBLIC.T")]
    problems, notes = look_at_targets(lambda: [config(), config(target_table="not_there_yet")], world.places)
    assert problems == []
    assert [note.partition(":")[0] for note in notes] == ["the stream T_CHANGES reads PUBLIC.T"]
    server.policies = [("EUROPE", "ROW_ACCESS_POLICY", None)]
    problems, _ = look_at_targets(lambda: [config()], world.places)
    assert len(problems) == 1
    assert problems[0].startswith("public.t: PUBLIC.T has the row access policy EUROPE")


def test_check_names_collated_columns_that_are_synced(world: World, server: Server) -> None:
    world.query('ALTER TABLE "PUBLIC"."T" ADD COLUMN "NOTE" VARCHAR')
    server.collations = {"NOTE": "en-ci"}
    assert look_at_targets(lambda: [config()], world.places) == ([], [])
    server.collations |= {"V": "en-ci"}
    problems, _ = look_at_targets(lambda: [config()], world.places)
    assert len(problems) == 1
    assert "PUBLIC.T have a collation" in problems[0]
    assert "V (en-ci); expected none" in problems[0]
    with pytest.raises(WarehouseError, match="have a collation"):
        world.sync(config(), full=True)


def test_check_names_targets_of_somebody_else(world: World, server: Server) -> None:
    """A table without the columns of aurora_sync, and one whose rows another sync log has."""
    world.query('CREATE TABLE "PUBLIC"."MINE" ("ID" INTEGER)')
    configs = [config(target_table="mine"), config()]
    problems, _ = look_at_targets(lambda: configs, world.places)
    assert len(problems) == 1
    assert "PUBLIC.MINE exists, but was not created by aurora_sync" in problems[0]
    with pytest.raises(WarehouseError, match=r"PUBLIC\.MINE exists, but was not created by aurora_sync"):
        world.sync(configs[0])
    places = dataclasses.replace(world.places, log_schema="OTHER")
    problems, _ = look_at_targets(lambda: [config()], places)
    assert len(problems) == 1
    assert "PUBLIC.T has rows, but the sync log in OTHER has no run that wrote them" in problems[0]
    world.query('DELETE FROM "PUBLIC"."T"')
    assert look_at_targets(lambda: [config()], places) == ([], [])


def test_verification_does_not_compare_masked_values(world: World, server: Server) -> None:
    server.masks["V"] = "PII"
    with pytest.raises(WarehouseError, match=r"V \(PII\)"):
        world.assert_verified(config())
    assert world.assert_verified(config(policies="exempt")) == 1
