"""PostgreSQL's own text is the oracle. The text of a value in the warehouse equals it; or the policy of the column
defines another value, which the run counts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.type_matrix.cases import CASES, CLAMPED, INTERNAL, UNFIT, XML, Case
from aurora_sync_tests.scenarios.type_matrix.of_server import of_server
from aurora_sync_tests.scenarios.type_matrix.oracle import as_text, assert_arrived
from aurora_sync_tests.scenarios.world import World, config


def make(world: World, cases: Sequence[Case], values: Sequence[Sequence[str]]) -> None:
    """Create a table ``t`` with a column for each case, ``v0``, ``v1``, ..., which holds its values in the rows 0, 1,
    ..., and NULL in the rows after."""
    world.execute(*dict.fromkeys(part for case in cases for part in case.before.split("; ") if part))
    columns = ", ".join(f"v{place} {case.type}" for place, case in enumerate(cases))
    world.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    insert(world, 0, [(*column, "NULL") for column in values])


def insert(world: World, first: int, values: Sequence[Sequence[str]]) -> None:
    """Insert rows with the ids ``first``, ``first + 1``, ...; ``values`` are those of each column."""
    for number, row in enumerate(zip_longest(*values, fillvalue="NULL")):
        world.execute(f"INSERT INTO t VALUES ({first + number}, {', '.join(row)})")


Held = list[dict[int, Any]]


def in_source(world: World, cases: Sequence[Case]) -> Held:
    """Return the texts of each column by id, with the session settings of an export."""
    texts = ", ".join(
        f"CASE WHEN v{n} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', v{n}) END" for n in range(len(cases))
    )
    with connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id, {texts} FROM public.t")
        return _by_column(cursor.fetchall(), cases)


def in_warehouse(world: World, cases: Sequence[Case]) -> Held:
    names = ", ".join(f'"V{place}"' for place in range(len(cases)))
    return _by_column(world.query(f'SELECT "ID", {names} FROM "PUBLIC"."T"'), cases)


def _by_column(rows: Sequence[tuple[Any, ...]], cases: Sequence[Case]) -> Held:
    return [{int(row[0]): row[place + 1] for row in rows} for place in range(len(cases))]


def types_in_warehouse(world: World) -> list[str]:
    found = world.query(
        "SELECT DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = 'T' AND COLUMN_NAME RLIKE 'V[0-9]+'"
        " ORDER BY ORDINAL_POSITION"
    )
    return [str(type_) for (type_,) in found]


def assert_all_arrived(world: World, cases: Sequence[Case], subtests: pytest.Subtests) -> None:
    columns = zip(cases, in_warehouse(world, cases), in_source(world, cases), strict=True)
    with connect(world.dsn) as connection:
        for case, held, source in columns:
            with subtests.test(case=case.type):
                assert held.keys() == source.keys()
                for number, oracle in source.items():
                    assert_arrived(connection, case, held[number], oracle)


def test_every_type_of_the_server_has_a_case(world: World) -> None:
    found = world.execute(
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace"
        " AND typtype IN ('b', 'e', 'r', 'm') AND typcategory <> 'A'"
    )
    cases = {case.type.partition("(")[0].strip('"') for case in (*CASES, XML)} | {"bpchar"}
    types = {name for (name,) in found}
    assert types - cases == INTERNAL & types


def test_value_arrives_as_postgresql_prints_it(world: World, subtests: pytest.Subtests) -> None:
    cases = of_server(world, CASES, subtests)
    make(world, cases, [case.exact for case in cases])
    world.sync(config())
    assert_all_arrived(world, cases, subtests)
    world.assert_verified(config())


def test_array_of_every_type_arrives(world: World, subtests: pytest.Subtests) -> None:
    cases = of_server(world, [case for case in CASES if not case.type.endswith("[]")], subtests)
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
    with connect(world.dsn) as connection:
        for case, value, oracle in zip(cases, held, oracles, strict=True):
            assert_arrived(connection, Case(f"{case.type}[]", ()), value, oracle)
    world.assert_verified(config())


# Documents: the warehouse does not keep their text, so a column of them becomes text by a full read.
DOCUMENTS = [case for case in UNFIT if case.type == "jsonb" or case.type.endswith("[]")]
SCALARS = [case for case in UNFIT if case not in DOCUMENTS]


@pytest.mark.parametrize(("cases", "read_again"), [(SCALARS, False), (DOCUMENTS, True)], ids=["scalars", "documents"])
def test_column_becomes_text_for_a_value_that_its_natural_type_cannot_hold(
    world: World, subtests: pytest.Subtests, cases: list[Case], read_again: bool
) -> None:
    make(world, cases, [case.exact for case in cases])
    world.sync(config())
    natural = types_in_warehouse(world)
    assert "VARCHAR" not in natural
    insert(world, 100, [tuple(case.unfit) for case in cases])
    receipt = world.sync(config())
    assert types_in_warehouse(world) == ["VARCHAR"] * len(cases)
    for place in range(len(cases)):
        assert any(f"column v{place} of the target became VARCHAR; it was" in warning for warning in receipt.warnings)
    assert any("reading the whole table again" in warning for warning in receipt.warnings) == read_again
    assert_all_arrived(world, cases, subtests)
    world.assert_verified(config())
    world.execute("DELETE FROM t WHERE id >= 100", "UPDATE t SET v0 = v0")
    world.sync(config(), full=True)
    assert types_in_warehouse(world) == ["VARCHAR"] * len(cases)  # the type does not depend on which values are present


def test_first_load_with_such_a_value_makes_the_column_text(world: World, subtests: pytest.Subtests) -> None:
    make(world, UNFIT, [tuple(case.unfit) for case in UNFIT])
    world.sync(config())
    assert types_in_warehouse(world) == ["VARCHAR"] * len(UNFIT)
    assert_all_arrived(world, UNFIT, subtests)


def test_fail_and_null(world: World, subtests: pytest.Subtests) -> None:
    make(world, UNFIT, [case.exact for case in UNFIT])
    columns = [f"v{place}" for place in range(len(UNFIT))]
    world.sync(config(column_types=dict.fromkeys(columns, "fail")))
    before, natural = in_warehouse(world, UNFIT), types_in_warehouse(world)
    insert(world, 100, [tuple(case.unfit) for case in UNFIT])
    for name, case in zip(columns, UNFIT, strict=True):
        with subtests.test("fail", case=case.type):
            one_fails = dict.fromkeys(columns, "null") | {name: "fail"}
            values = rf"public\.t: {len(case.unfit)} values of column {name}: .* cannot hold them"
            with pytest.raises(GuardError, match=values):
                world.sync(config(column_types=one_fails))
            assert in_warehouse(world, UNFIT) == before
    table = config(column_types=dict.fromkeys(columns, "null"))
    receipt = world.sync(table)
    assert [str(adjusted) in receipt.warnings for adjusted in receipt.adjusted] == [True] * len(UNFIT)
    adjusted = {found.column: (found.policy, found.values) for found in receipt.adjusted}
    assert adjusted == {name: ("null", len(case.unfit)) for name, case in zip(columns, UNFIT, strict=True)}
    for case, held, was in zip(UNFIT, in_warehouse(world, UNFIT), before, strict=True):
        with subtests.test("null", case=case.type):
            unfit = {key: held.pop(key) for key in list(held) if key >= 100}
            assert set(unfit.values()) == {None}
            assert len(unfit) == max(len(case.unfit) for case in UNFIT)
            assert held == was
    assert types_in_warehouse(world) == natural
    world.assert_verified(table)


def test_clamp(world: World, subtests: pytest.Subtests) -> None:
    make(world, CLAMPED, [tuple(case.unfit) for case in CLAMPED])
    table = config(column_types={f"v{place}": "clamp" for place in range(len(CLAMPED))})
    receipt = world.sync(table)
    assert [adjusted.values for adjusted in receipt.adjusted] == [len(case.unfit) for case in CLAMPED]
    for case, held in zip(CLAMPED, in_warehouse(world, CLAMPED), strict=True):
        with subtests.test(case=case.type):
            for number, nearest in enumerate(case.unfit.values()):
                assert nearest is not None
                assert as_text(held[number], nearest) == nearest
    world.assert_verified(table)


def test_text_from_the_start(world: World, subtests: pytest.Subtests) -> None:
    make(world, UNFIT, [(*case.exact, *case.unfit) for case in UNFIT])
    world.sync(config(types={case.type_name: "text" for case in UNFIT}))
    for case, held, source in zip(UNFIT, in_warehouse(world, UNFIT), in_source(world, UNFIT), strict=True):
        with subtests.test(case=case.type):
            assert held == source
