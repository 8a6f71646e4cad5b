"""PostgreSQL's own text is the oracle: what the warehouse holds, turned back to text, equals it, or the policy of the
column says what it is instead, and the run says how often."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.type_matrix.cases import CASES, CLAMPED, INTERNAL, UNFIT, XML, Case
from aurora_sync_tests.scenarios.type_matrix.oracle import as_text, assert_arrived
from aurora_sync_tests.scenarios.world import World, config


def make(world: World, case: Case, *values: str) -> None:
    world.execute(*filter(None, case.before.split("; ")), f"CREATE TABLE t (id int PRIMARY KEY, v {case.type})")
    for number, value in enumerate((*values, "NULL")):
        world.execute(f"INSERT INTO t VALUES ({number}, {value})")


def in_source(world: World) -> dict[int, str | None]:
    """By the session settings of an export."""
    with connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT id, CASE WHEN v IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', v) END FROM public.t"
        )
        return dict(cursor.fetchall())


def in_warehouse(world: World) -> dict[int, Any]:
    return {int(id_): v for id_, v in world.query('SELECT "ID", "V" FROM "PUBLIC"."T"')}


def type_in_warehouse(world: World) -> str:
    ((found,),) = world.query(
        "SELECT DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'T' AND COLUMN_NAME = 'V'"
    )
    return str(found)


def test_every_type_of_the_server_has_a_case(world: World) -> None:
    found = world.execute(
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
        " AND typtype IN ('b', 'e', 'r', 'm') AND typcategory <> 'A'"
    )
    cases = {case.type.partition("(")[0].strip('"') for case in (*CASES, XML)} | {"bpchar"}
    assert {name for (name,) in found} - cases == INTERNAL


@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_arrives_as_postgresql_prints_it(world: World, case: Case) -> None:
    make(world, case, *case.exact)
    table = config()
    world.sync(table)
    source, held = in_source(world), in_warehouse(world)
    assert held.keys() == source.keys()
    for number, oracle in source.items():
        assert_arrived(world.dsn, case, held[number], oracle)
    world.assert_verified(table)


def test_array_of_every_type_arrives(world: World) -> None:
    cases = [case for case in CASES if not case.type.endswith("[]")]
    world.execute(*dict.fromkeys(part for case in cases for part in case.before.split("; ") if part))
    columns = ", ".join(f"v{number} {case.type}[]" for number, case in enumerate(cases))
    arrays = (f"ARRAY[{', '.join((*case.exact, *case.unfit, 'NULL'))}]::{case.type}[]" for case in cases)
    world.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})", f"INSERT INTO t VALUES (1, {', '.join(arrays)})")
    world.sync(config())
    texts = ", ".join(f"v{number}::text" for number in range(len(cases)))
    with connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT {texts} FROM public.t")
        (oracles,) = cursor.fetchall()
    ((_, *held),) = world.query(f'SELECT "ID", {", ".join(f"V{number}" for number in range(len(cases)))} FROM PUBLIC.T')
    for case, value, oracle in zip(cases, held, oracles, strict=True):
        assert_arrived(world.dsn, Case(f"{case.type}[]", ()), value, oracle)
    world.assert_verified(config())


@pytest.mark.parametrize("case", UNFIT, ids=str)
def test_column_becomes_text_for_a_value_that_its_natural_type_cannot_hold(world: World, case: Case) -> None:
    make(world, case, *case.exact)
    table = config()
    world.sync(table)
    natural = type_in_warehouse(world)
    for number, value in enumerate(case.unfit):
        world.execute(f"INSERT INTO t VALUES ({100 + number}, {value})")
    receipt = world.sync(table)
    assert type_in_warehouse(world) == "VARCHAR" != natural
    assert any("became VARCHAR; it was" in warning for warning in receipt.warnings)
    source, held = in_source(world), in_warehouse(world)
    assert held.keys() == source.keys()
    for number, oracle in source.items():
        assert_arrived(world.dsn, case, held[number], oracle)
    world.assert_verified(table)
    world.execute("DELETE FROM t WHERE id >= 100", "UPDATE t SET v = v")
    world.sync(table, full=True)
    assert type_in_warehouse(world) == "VARCHAR"  # a type does not come and go with its values


@pytest.mark.parametrize("case", UNFIT, ids=str)
def test_first_load_with_such_a_value_makes_the_column_text(world: World, case: Case) -> None:
    make(world, case, *case.unfit)
    world.sync(config())
    assert type_in_warehouse(world) == "VARCHAR"
    source, held = in_source(world), in_warehouse(world)
    for number, oracle in source.items():
        assert_arrived(world.dsn, case, held[number], oracle)


@pytest.mark.parametrize("case", UNFIT, ids=str)
def test_fail_and_null(world: World, case: Case) -> None:
    make(world, case, *case.exact)
    table = config(column_types={"v": "fail"})
    world.sync(table)
    before, natural = in_warehouse(world), type_in_warehouse(world)
    for number, value in enumerate(case.unfit):
        world.execute(f"INSERT INTO t VALUES ({100 + number}, {value})")
    unfit = len(case.unfit)
    with pytest.raises(GuardError, match=rf"public\.t: {unfit} values of column v: .* cannot hold '.*' of 100\b"):
        world.sync(table)
    assert in_warehouse(world) == before
    table = config(column_types={"v": "null"})
    receipt = world.sync(table)
    (adjusted,) = receipt.adjusted
    assert (adjusted.column, adjusted.policy, adjusted.values) == ("v", "null", unfit)
    assert str(adjusted) in receipt.warnings
    held = in_warehouse(world)
    assert {key: held.pop(key) for key in list(held) if key >= 100} == dict.fromkeys(range(100, 100 + unfit))
    assert held == before
    assert type_in_warehouse(world) == natural
    world.assert_verified(table)


@pytest.mark.parametrize("case", CLAMPED, ids=str)
def test_clamp(world: World, case: Case) -> None:
    make(world, case, *case.unfit)
    table = config(column_types={"v": "clamp"})
    receipt = world.sync(table)
    assert receipt.adjusted[0].values == len(case.unfit)
    held = in_warehouse(world)
    for number, nearest in enumerate(case.unfit.values()):
        assert nearest is not None
        assert as_text(held[number], nearest) == nearest
    world.assert_verified(table)


@pytest.mark.parametrize("case", UNFIT, ids=str)
def test_text_from_the_start(world: World, case: Case) -> None:
    make(world, case, *case.exact, *case.unfit)
    world.sync(config(types={case.type_name: "text"}))
    assert in_warehouse(world) == in_source(world)
