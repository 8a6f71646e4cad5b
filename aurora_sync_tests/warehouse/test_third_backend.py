"""A backend that no other file of the package knows: the whole engine syncs tables to PostgreSQL.

The suites of this folder that use the fixture ``warehouse`` run on it too. See docs/write-your-own-warehouse.md.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.errors import ConfigError
from aurora_sync.model.receipt import Receipt
from aurora_sync.objects.store import Store
from aurora_sync.source.database import Source
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse import sync_log
from aurora_sync_tests.warehouse.postgres import PostgresWarehouse

# One column of each natural type, and one that stays text.
TABLE = """
CREATE TABLE t (id int PRIMARY KEY, name text, price numeric(10,2), ratio float8, active bool, born date, wakes time(6),
                made_at timestamp, changed_at timestamptz, picture bytea, document jsonb, tags text[], owner uuid);
INSERT INTO t SELECT n, 'it''s ' || n, n + 0.5, n / 3.0, n % 2 = 0, '2024-02-29', '06:30:00.5',
                     '2024-01-01 00:00:00.25', '2024-01-01 12:00:00+02', '\\x00ff', '{"a": [1, null]}',
                     '{x,NULL,"y,z"}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' FROM generate_series(1, 5) n;
INSERT INTO t (id, name) VALUES (6, ''), (7, NULL);
"""
SHOWN = 'SELECT "ID", "NAME" FROM "PUBLIC"."T" ORDER BY "ID"'


@pytest.fixture
def places(dsn: str, store: Store, postgres_warehouse: PostgresWarehouse) -> Places:
    return Places(Source(dsn), Stage(store, target=postgres_warehouse.describe()), postgres_warehouse)


@pytest.fixture
def execute(dsn: str) -> Callable[[str], None]:
    def run(statements: str) -> None:
        with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statements)

    run(TABLE)
    return run


def moved(receipt: Receipt) -> tuple[str, int, int, int, int]:
    return receipt.disposition.value, receipt.inserted, receipt.updated, receipt.deleted, receipt.target_rows


def rows(places: Places) -> list[tuple[Any, ...]]:
    with places.warehouse.session() as session:
        return session.query(SHOWN)


def test_table_is_loaded_followed_reconciled_replaced_and_verified(
    places: Places, execute: Callable[[str], None]
) -> None:
    config = TableConfig(table_name="t", watermark_type="xmin")
    assert moved(sync.run(config, places)) == ("replace", 7, 0, 0, 7)
    execute("UPDATE t SET name = 'new' WHERE id = 2; INSERT INTO t (id) VALUES (8)")
    assert moved(sync.run(config, places)) == ("upsert", 1, 1, 0, 8)
    execute("DELETE FROM t WHERE id = 3")
    assert moved(sync.run(config, places, reconcile=True)) == ("upsert", 0, 0, 1, 7)
    verified = sync.verify(config, places).verification
    assert verified is not None
    assert verified.equal, verified.examples
    assert rows(places)[1:3] == [(2, "new"), (4, "it's 4")]
    execute("DELETE FROM t WHERE id = 4")
    whole = TableConfig(table_name="t", watermark_type="full_snapshot")
    assert moved(sync.run(whole, places)) == ("replace", 0, 0, 1, 6)
    with places.warehouse.session() as session:
        (entry,) = sync_log.newest(session)
        assert (entry.run_sequence, entry.target_rows) == (4, 6)
        assert session.query("SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_NAME LIKE 'STAGING%'") == [
            (0,)
        ]


def test_row_that_differs_in_the_target_is_found_by_verify_and_repaired_by_a_reconcile(
    places: Places, execute: Callable[[str], None]
) -> None:
    config = TableConfig(table_name="t", watermark_type="xmin")
    sync.run(config, places)
    with places.warehouse.session() as session:
        session.modify("""UPDATE "PUBLIC"."T" SET "PRICE" = 9 WHERE "ID" = 1""")
        session.modify("""DELETE FROM "PUBLIC"."T" WHERE "ID" = 5""")
        session.modify("""INSERT INTO "PUBLIC"."T" ("ID", "_SRC_XMIN") VALUES (99, 1)""")
    verified = sync.verify(config, places).verification
    assert verified is not None
    assert not verified.equal
    execute("UPDATE t SET name = name")
    assert moved(sync.run(config, places, reconcile=True))[-1] == 7
    verified = sync.verify(config, places).verification
    assert verified is not None
    assert verified.equal, verified.examples


def test_backend_that_reads_no_files_of_others_says_so(postgres_warehouse: PostgresWarehouse, store: Store) -> None:
    refused = "cannot read files of AWS DMS, which watermark_type: dms needs"
    with postgres_warehouse.session() as session:
        with pytest.raises(ConfigError, match=refused):
            session.copy_files('"A"."RAW"', ["id"], store, [], "")
        with pytest.raises(ConfigError, match=refused):
            session.copy_ragged('"A"."RAW"', store, [], 3, "")
