"""Every type of the matrix through the stream: the text is what PostgreSQL prints, as in a scan."""

from __future__ import annotations

import pytest

from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.type_matrix.cases import CASES, Case
from aurora_sync_tests.scenarios.type_matrix.of_server import of_server
from aurora_sync_tests.scenarios.type_matrix.oracle import assert_arrived

# Tables with values of regrole are scanned, never streamed.
STREAMED = [case for case in CASES if case.type != "regrole"]


def stream_rows(streamed: Streamed, cases: list[Case], rows: list[list[str]]) -> None:
    """Stream each row by an INSERT and an UPDATE that changes nothing, after an empty scan; then assert that all have
    arrived."""
    world, table = streamed.world, streamed.table()
    world.execute(*dict.fromkeys(part for case in cases for part in case.before.split("; ") if part))
    columns = ", ".join(f"v{number} {case.type}" for number, case in enumerate(cases))
    world.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns}, touched int)")
    streamed.setup(table)
    streamed.one(table)
    for number, row in enumerate(rows):
        world.execute(f"INSERT INTO t VALUES ({number}, {', '.join(row)})")
    receipt = streamed.one(table)
    assert (receipt.method, receipt.inserted) == (f"stream of slot {streamed.name}", len(rows))
    world.execute("UPDATE t SET touched = 1")
    assert streamed.one(table).updated == len(rows)
    texts = ", ".join(
        f"CASE WHEN v{number} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', v{number}) END"
        for number in range(len(cases))
    )
    with connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT id, {texts} FROM public.t ORDER BY id")
        source = cursor.fetchall()
        held = world.query(f'SELECT "ID", {", ".join(f"V{n}" for n in range(len(cases)))} FROM PUBLIC.T ORDER BY "ID"')
        for (_, *oracles), (_, *values) in zip(source, held, strict=True):
            for case, value, oracle in zip(cases, values, oracles, strict=True):
                assert_arrived(connection, case, value, oracle)
    assert world.assert_verified(table) == len(rows)


def test_values_of_every_type_stream(streamed: Streamed, subtests: pytest.Subtests) -> None:
    cases = of_server(streamed.world, STREAMED, subtests)
    most = max(len(case.exact) for case in cases)
    rows = [[case.exact[number % len(case.exact)] for case in cases] for number in range(min(most, 12))]
    stream_rows(streamed, cases, [*rows, ["NULL"] * len(cases)])


def test_arrays_of_every_type_stream(streamed: Streamed, subtests: pytest.Subtests) -> None:
    cases = of_server(streamed.world, [case for case in STREAMED if not case.type.endswith("[]")], subtests)
    arrays = [f"ARRAY[{', '.join((*case.exact, 'NULL'))}]::{case.type}[]" for case in cases]
    stream_rows(
        streamed,
        [Case(f"{case.type}[]", (), before=case.before) for case in cases],
        [arrays, ["'{}'"] * len(cases), [f"ARRAY[ARRAY[NULL], ARRAY[NULL]]::{case.type}[]" for case in cases]],
    )


def test_values_that_do_not_fit_stream(streamed: Streamed) -> None:
    """JSON and arrays that become text require a full read: only the source has the text of the older values."""
    unfit = [case for case in STREAMED if case.unfit and case.type != "jsonb" and not case.type.endswith("[]")]
    stream_rows(streamed, unfit, [[next(iter(case.unfit)) for case in unfit], ["NULL"] * len(unfit)])
