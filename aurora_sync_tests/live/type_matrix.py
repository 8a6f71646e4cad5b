"""Every type and its breaking values through real places, in one wide table; leaves nothing behind on either side."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.places import Places
from aurora_sync.engine.sync import run, verify
from aurora_sync.source.connection import connect
from aurora_sync.warehouse.ddl import target_name
from aurora_sync_tests.live.roundtrip import execute, scratch
from aurora_sync_tests.scenarios.type_matrix.cases import CASES, Case
from aurora_sync_tests.scenarios.type_matrix.oracle import assert_arrived


def type_matrix(
    places: Places, *, without: tuple[str, ...] = (), more: tuple[Case, ...] = (), export: str = "client"
) -> None:
    """First what the natural types hold, then what makes them text. ``without`` are types that this warehouse's
    stand-in is known to get wrong, ``more`` those that only this source has."""
    name = f"aurora_sync_live_{secrets.token_hex(4)}"
    places = dataclasses.replace(places, log_schema=f"_{name}".upper())
    config = TableConfig.model_validate(
        {"schema": name, "table_name": "wide", "watermark_type": "xmin", "export": export}
    )
    cases = [case for case in (*CASES, *more) if case.type not in without]
    with scratch(places, [config], name) as connection:
        for statement in dict.fromkeys(part for case in cases for part in case.before.split("; ") if part):
            execute(connection, statement)
        columns = ", ".join(f"v{n} {case.type}" for n, case in enumerate(cases))
        execute(connection, f"CREATE TABLE wide (id int PRIMARY KEY, {columns})")
        _insert(connection, 0, [case.exact for case in cases])
        run(config, places)
        _assert_arrived(connection, places, config, cases)
        _insert(connection, 1000, [tuple(case.unfit) for case in cases])
        receipt = run(config, places)
        changed = [change.text for change in receipt.schema_changes]
        assert len(changed) == sum(bool(case.unfit) for case in cases), changed
        _assert_arrived(connection, places, config, cases)
        found = verify(config, places).verification
        assert found is not None
        assert found.equal, found.examples


def _insert(connection: Any, first: int, values: list[tuple[str, ...]]) -> None:
    """The n-th values of all columns in one row; NULL where a column has fewer."""
    for place in range(max(map(len, values)) + 1):
        row = ", ".join(column[place] if place < len(column) else "NULL" for column in values)
        execute(connection, f"INSERT INTO wide VALUES ({first + place}, {row})")


def _assert_arrived(connection: Any, places: Places, config: TableConfig, cases: list[Case]) -> None:
    columns = ", ".join(f'"V{n}"' for n in range(len(cases)))  # a column that was converted is the last of the target
    with places.warehouse.session() as session:
        rows = session.query(f'SELECT "ID", {columns} FROM {target_name(config).sql}')
    held = {int(row[0]): row[1:] for row in rows}
    texts = ", ".join(
        f"CASE WHEN v{n} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', v{n}) END" for n in range(len(cases))
    )
    with connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'; SET DateStyle = 'ISO'")
        cursor.execute(f"SELECT id, {texts} FROM wide")
        source = {row[0]: row[1:] for row in cursor.fetchall()}
    assert held.keys() == source.keys(), (held.keys(), source.keys())
    with connect(places.source.dsn) as asked:
        for number, oracles in source.items():
            for case, oracle, value in zip(cases, oracles, held[number], strict=False):
                assert_arrived(asked, case, value, oracle, config.schema_)
