"""A MERGE that DuckDB runs as a deletion and an insertion has the result of the MERGE."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse.base import Merged, Session
from aurora_sync.warehouse.duckdb import to_duckdb

KEYS = 12
CREATE = (
    'CREATE TABLE "{0}" ("ID" NUMBER(5,0), "K" FLOAT, "V" VARCHAR, "N" NUMBER(5,0), "MINE" VARCHAR DEFAULT \'new\')'
)
DELETES = ("", " WHEN MATCHED AND s.\"OP\" = 'D' THEN DELETE")
CHANGED = 't."V" IS DISTINCT FROM s."V" OR t."N" IS DISTINCT FROM s."N"'


def merge(target: str, deletes: str, within: str = "") -> str:
    new = " AND NOT (s.\"OP\" = 'D')" if deletes else ""
    return (
        f'MERGE INTO "{target}" AS t USING (SELECT s."ID", s."K", s."V", CAST(? AS NUMBER(5,0)) + s."N" AS "N", s."OP"'
        f' FROM "STAGED" AS s) AS s ON t."ID" = s."ID" AND t."K" = s."K"{within}{deletes}'
        f' WHEN MATCHED AND ({CHANGED}) THEN UPDATE SET "V" = s."V", "N" = s."N"'
        f' WHEN NOT MATCHED{new} THEN INSERT ("ID", "K", "V", "N") VALUES (s."ID", s."K", s."V", s."N")'
    )


def rows(chosen: random.Random, keys: int) -> list[tuple[Any, ...]]:
    """Return a row for each of some keys."""
    found = chosen.sample(range(KEYS), keys)
    # -0.0 and 0.0 are equal keys, and a changed row keeps the one that the target has.
    return [
        (key, chosen.choice((0.0, -0.0)), chosen.choice((None, "a", "b")), chosen.choice((None, 1, 2))) for key in found
    ]


def content(session: Session, table: str) -> Counter[tuple[Any, ...]]:
    return Counter((*row, str(row[1])) for row in session.query(f'SELECT * FROM "{table}"'))


def fill(session: Session, table: str, given: list[tuple[Any, ...]]) -> None:
    for row in given:
        places = ", ".join("?" for _ in row)
        session.modify(f'INSERT INTO "{table}" VALUES ({places})', row)


@pytest.mark.parametrize("deletes", DELETES, ids=("upserts", "deletes"))
def test_replacement_has_the_result_of_the_merge(duckdb_session: Session, deletes: str) -> None:
    session, chosen = duckdb_session, random.Random(deletes)
    session.query('CREATE TABLE "STAGED" ("ID" NUMBER(5,0), "K" FLOAT, "V" VARCHAR, "N" NUMBER(5,0), "OP" VARCHAR)')
    for table in ("T", "EXPECTED"):
        session.query(CREATE.format(table))
    for trial in range(12):
        stored = [(*row, chosen.choice((None, "mine"))) for row in rows(chosen, 8)]
        if trial % 4 == 0:
            stored += stored[:2]  # somebody doubled a row by hand
        staged = [(*row, chosen.choice("UUD")) for row in rows(chosen, 8)]
        for table, given in (("T", stored), ("EXPECTED", stored), ("STAGED", staged)):
            session.modify(f'DELETE FROM "{table}"')
            fill(session, table, given)
        within = ' AND t."ID" BETWEEN 2 AND 9' if trial % 3 == 0 else ""
        # Of a second merge in the same transaction, some rows are not committed yet.
        with session.transaction():
            for number in (0, 1):
                found = session.merge(merge("T", deletes, within), (number,))
                actions = session._connection.execute(  # type: ignore[attr-defined]
                    f"{to_duckdb(merge('EXPECTED', deletes, within))} RETURNING merge_action", (number,)
                ).fetchall()
                done = Counter(action for (action,) in actions)
                assert found == Merged(done["INSERT"], done["UPDATE"], done["DELETE"])
                assert content(session, "T") == content(session, "EXPECTED")


def test_table_with_a_column_rowid_is_merged(duckdb_session: Session) -> None:
    session = duckdb_session
    for table in ("T", "S"):
        session.query(f'CREATE TABLE "{table}" ("ID" NUMBER(5,0), "ROWID" NUMBER(5,0))')
    session.modify('INSERT INTO "T" VALUES (1, 7), (2, 7)')
    session.modify('INSERT INTO "S" VALUES (2, 8), (3, 8)')
    statement = (
        'MERGE INTO "T" AS t USING (SELECT * FROM "S") AS s ON t."ID" = s."ID" WHEN MATCHED THEN UPDATE'
        ' SET "ROWID" = s."ROWID" WHEN NOT MATCHED THEN INSERT ("ID", "ROWID") VALUES (s."ID", s."ROWID")'
    )
    with session.transaction():
        assert session.merge(statement) == Merged(1, 1, 0)
    assert session.query('SELECT * FROM "T" ORDER BY "ID"') == [(1, 7), (2, 8), (3, 8)]


def test_doubled_staged_key_is_refused(duckdb_session: Session) -> None:
    session = duckdb_session
    for table in ("T", "S"):
        session.query(f'CREATE TABLE "{table}" ("ID" NUMBER(5,0), "V" NUMBER(5,0))')
    session.modify('INSERT INTO "T" VALUES (1, 7)')
    session.modify('INSERT INTO "S" VALUES (1, 8), (1, 9)')
    statement = (
        'MERGE INTO "T" AS t USING (SELECT * FROM "S") AS s ON t."ID" = s."ID" WHEN MATCHED THEN UPDATE'
        ' SET "V" = s."V" WHEN NOT MATCHED THEN INSERT ("ID", "V") VALUES (s."ID", s."V")'
    )
    with pytest.raises(WarehouseError, match="key of one target row"), session.transaction():
        session.merge(statement)
    assert session.query('SELECT * FROM "T"') == [(1, 7)]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 10))])
def test_merges_of_one_transaction_keep_a_table_with_a_primary_key(duckdb_session: Session, seed: int) -> None:
    """DuckDB 2.0 returns wrong values after a transaction deleted, by their number, rows that it had added itself."""
    session, chosen = duckdb_session, random.Random(seed)
    session.query('CREATE TABLE "P" ("ID" NUMBER(9,0) NOT NULL, "V" VARCHAR, "N" NUMBER(9,0), PRIMARY KEY ("ID"))')
    session.query('CREATE TABLE "S" ("ID" NUMBER(9,0), "V" VARCHAR, "N" NUMBER(9,0), "OP" VARCHAR, "PART" VARCHAR)')
    held: dict[int, tuple[str, int]] = {}
    for _ in range(8):
        session.modify('DELETE FROM "S"')
        with session.transaction():
            for part in range(5):
                staged = {
                    chosen.randrange(4000): ("x" * chosen.randrange(30), chosen.randrange(5), chosen.random() < 0.3)
                    for _ in range(chosen.choice([3, 50, 3000]))
                }
                rows = (f"({k}, '{v}', {n}, '{'D' if gone else 'U'}', '{part}')" for k, (v, n, gone) in staged.items())
                session.modify(f'INSERT INTO "S" VALUES {", ".join(rows)}')
                session.merge(
                    f"""MERGE INTO "P" AS t USING (SELECT * FROM "S" AS s WHERE "PART" = '{part}') AS s"""
                    """ ON t."ID" = s."ID" WHEN MATCHED AND s."OP" = 'D' THEN DELETE"""
                    ' WHEN MATCHED THEN UPDATE SET "V" = s."V", "N" = s."N"'
                    """ WHEN NOT MATCHED AND NOT (s."OP" = 'D') THEN INSERT ("ID", "V", "N")"""
                    ' VALUES (s."ID", s."V", s."N")'
                )
                for key, (value, number, gone) in staged.items():
                    held.pop(key, None)
                    if not gone:
                        held[key] = value, number
        found = {int(key): (value, int(number)) for key, value, number in session.query('SELECT * FROM "P"')}
        assert found == held
