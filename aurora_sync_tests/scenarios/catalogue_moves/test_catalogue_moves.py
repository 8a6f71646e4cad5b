"""Certificates are true whatever was changed, or changed and changed back, at source and target."""

from __future__ import annotations

import random

import pytest

from aurora_sync_tests.fixtures.server_build import need_version
from aurora_sync_tests.scenarios.catalogue_moves import moves
from aurora_sync_tests.scenarios.catalogue_moves.moves import Move
from aurora_sync_tests.scenarios.catalogue_moves.subject import BOUNDED_BY_OTHERS, STRATEGIES
from aurora_sync_tests.scenarios.catalogue_moves.trial import grammar, trial
from aurora_sync_tests.scenarios.world import World, config


@pytest.mark.parametrize("seed", [1000, pytest.param(None, marks=pytest.mark.long)], ids=["known", "random"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_certificate_is_false(world: World, strategy: str, seed: int | None) -> None:
    """Random trials search for unknown faults, so they do not belong in the tests of every change."""
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    done = trial(world, strategy, seed)
    print(strategy, "seed", seed, dict(done.moves))
    assert not done.false, "\n".join(done.history)


@pytest.mark.long
@pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_certificate_is_false_after_any_move(world: World, strategy: str, partitioned: bool) -> None:
    every = grammar(strategy, partitioned=partitioned)
    done = trial(world, strategy, 1, runs=2 + len(every), only=tuple(every), partitioned=partitioned)
    assert not done.false, "\n".join(done.history)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_without_moves_is_certified(world: World, strategy: str) -> None:
    """The test fails for a strategy that never certifies. The lock fence relies on a condition that the catalogue does
    not show, so it is bounded between reconciles."""
    # Before PostgreSQL 15, partitions are never read from a topic.
    partitioned = False if strategy == "debezium" else None
    done = trial(world, strategy, 1, runs=4, only=(moves.analyzed,), partitioned=partitioned)
    assert not done.false
    expected = {"bounded"} if strategy in BOUNDED_BY_OTHERS else {"certified"}
    expected |= {"bounded"} if strategy == "integer" else set()
    expected |= {"certified"} if strategy == "debezium" else set()  # a scan comes before the topic
    assert {run.level for run in done.runs} <= expected
    assert strategy != "debezium" or any("topic" in run.text for run in done.runs)


def test_a_run_that_was_not_certified_is_remembered_until_a_reconcile(world: World) -> None:
    """A later read by the horizon begins where that run ended, so it would never find the missed row."""
    table = config("t", "timestamp", watermark_col="updated_at")
    world.execute(
        "CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz NOT NULL)",
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.updated_at := now(); RETURN NEW; END $$",
        "CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch()",
        "INSERT INTO t VALUES (1)",
    )
    for number in (2, 3):
        world.sync(table)
        world.execute(f"INSERT INTO t VALUES ({number})")
    world.execute("SET session_replication_role = replica; INSERT INTO t VALUES (4, '2020-01-01')")
    assert world.sync(table).certificate.level.value == "uncertified"
    world.execute("ALTER TABLE t ENABLE ALWAYS TRIGGER touch", "INSERT INTO t VALUES (5)")
    receipt = world.sync(table)
    assert (receipt.method, receipt.certificate.level.value) == ("horizon scan", "uncertified")
    assert world.source_rows(table) - world.target_rows(table)
    world.execute("INSERT INTO t VALUES (6)")
    assert world.sync(table).certificate.level.value == "uncertified"
    assert world.sync(table, reconcile=True).certificate.level.value == "certified"
    world.assert_equal(table)
    world.execute("INSERT INTO t VALUES (7)")
    assert world.sync(table).certificate.level.value == "certified"


REFUTED: list[tuple[str, Move, bool]] = [
    ("logical", moves.publication_of_inserts, False),
    ("logical", moves.values_changed_by_alter, False),
    ("logical", moves.truncated_and_retyped, False),
    ("logical", moves.detached_written_attached, True),
    ("xmin", moves.detached_concurrently, True),
    ("xmin", moves.attribute_replaced, False),
    ("xmin", moves.label_renamed, False),
    ("xmin", moves.target_column_dropped, False),
    ("xmin", moves.target_column_retyped, False),
    ("timestamp", moves.target_column_renamed, False),
    ("outbox", moves.target_rows_set_back, False),
    ("debezium", moves.publication_of_inserts, False),
    ("debezium", moves.values_changed_by_alter, False),
    ("dms", moves.truncated, False),
    ("dms", moves.texts_changed_by_alter, False),
]


@pytest.mark.parametrize(
    ("strategy", "move", "partitioned"), REFUTED, ids=[f"{s}-{move.__name__}" for s, move, _ in REFUTED]
)
def test_witnesses_that_see_less_give_false_certificates(
    world: World, strategy: str, move: Move, partitioned: bool
) -> None:
    if move is moves.detached_concurrently:
        need_version(world.dsn, 14, "DETACH PARTITION CONCURRENTLY")
    for seed in range(4):  # some moves yield to a run at random
        world.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
        done = trial(world, strategy, seed, runs=4, only=(move,), partitioned=partitioned, reduced=True)
        if done.false:
            return
    pytest.fail("\n".join(done.history))


HELD: list[tuple[str, Move, bool]] = [*REFUTED, ("xmin", moves.target_column_of_ours_dropped, False)]


@pytest.mark.parametrize(("strategy", "move", "partitioned"), HELD, ids=[f"{s}-{move.__name__}" for s, move, _ in HELD])
def test_no_certificate_is_false_after(world: World, strategy: str, move: Move, partitioned: bool) -> None:
    if move is moves.detached_concurrently:
        need_version(world.dsn, 14, "DETACH PARTITION CONCURRENTLY")
    done = trial(world, strategy, 1, runs=4, only=(move,), partitioned=partitioned)
    assert done.moves[move.__name__]
    assert not done.false, "\n".join(done.history)
