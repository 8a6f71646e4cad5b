"""The sample legacy database and the applications that write to it."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.config.loader import load
from aurora_sync.embedded import legacy
from aurora_sync.embedded.writers import Writers
from aurora_sync.errors import SourceError

TABLES = ("customers", "orders", "invoices", "order_items", "countries", "audit_trail", "baskets")


def counts(dsn: str) -> dict[str, int]:
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        found = {}
        for table in TABLES:
            cursor.execute(f"SELECT count(*) FROM legacy.{table}")
            found[table] = cursor.fetchall()[0][0]
        return found


def checksums(dsn: str) -> list[str]:
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        found = []
        for table in TABLES:
            cursor.execute(f"SELECT sum(hashtextextended(t::text, 0))::text FROM legacy.{table} t")
            found.append(cursor.fetchall()[0][0])
        return found


def test_sample_is_created_once_and_always_the_same(dsn: str) -> None:
    assert legacy.create(dsn) is True
    first = checksums(dsn)
    assert legacy.create(dsn) is False
    assert checksums(dsn) == first
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA legacy CASCADE")
    assert legacy.create(dsn) is True
    assert checksums(dsn) == first
    assert all(counts(dsn).values())


def test_every_table_of_the_sample_has_a_comment_and_an_entry_in_tables_yaml(legacy_dsn: str) -> None:
    with contextlib.closing(psycopg2.connect(legacy_dsn)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class"
            " WHERE relnamespace = 'legacy'::regnamespace AND relkind = 'r'"
        )
        comments = dict(cursor.fetchall())
    assert set(comments) == set(TABLES)
    assert all(comments.values())
    config = load(Path(__file__).parents[2] / "tables.yaml")
    assert {entry.table.qualified_name for entry in config.tables} == {f"legacy.{table}" for table in TABLES}
    assert len({entry.table.watermark_type for entry in config.tables}) == 6


def test_trigger_keeps_updated_at(legacy_dsn: str) -> None:
    with contextlib.closing(psycopg2.connect(legacy_dsn)) as connection, connection.cursor() as cursor:
        for table in ("invoices", "order_items"):
            cursor.execute(f"UPDATE legacy.{table} SET updated_at = '2001-01-01' WHERE order_id = 2")
            cursor.execute(f"SELECT bool_and(updated_at = now()) FROM legacy.{table} WHERE order_id = 2")
            assert cursor.fetchone() == (True,)


def test_writers_count_exactly_what_they_commit(legacy_dsn: str) -> None:
    before = counts(legacy_dsn)
    with Writers(legacy_dsn, seed=7, pause=0.002) as writers:
        while writers.committed["transactions"] < 100:
            time.sleep(0.05)
    done = writers.committed
    after = counts(legacy_dsn)
    for table in TABLES:
        assert after[table] - before[table] == done[f"{table} inserted"] - done[f"{table} deleted"], table
    assert done["customers updated"]
    assert done["orders inserted"]


def test_writers_commit_identity_values_out_of_order(legacy_dsn: str) -> None:
    late: set[int] = set()
    highest = legacy.ORDERS
    seen: set[int] = set()
    with Writers(legacy_dsn, seed=8, pause=0.005) as writers:
        while not late and writers.committed["transactions"] < 50_000:
            with contextlib.closing(psycopg2.connect(legacy_dsn)) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT order_id FROM legacy.orders WHERE order_id > %s", (legacy.ORDERS,))
                visible = {order_id for (order_id,) in cursor.fetchall()}
            late = {order_id for order_id in visible - seen if order_id < highest}
            seen, highest = visible, max(visible, default=highest)
    assert late


def test_failing_writer_is_reported(dsn: str) -> None:
    writers = Writers(dsn, seed=9)

    def work() -> None:
        with writers:
            while not writers._failures:
                time.sleep(0.01)

    with pytest.raises(SourceError, match="a writer failed: relation"):
        work()
