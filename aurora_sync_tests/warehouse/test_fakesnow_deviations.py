"""Where the fakesnow server is not Snowflake: what a green suite does therefore not show.

Each is asserted, so that a newer fakesnow that is closer to Snowflake makes itself known here. Beyond them:
a lock is not waited for (a rival is an error at once, and not after LOCK_TIMEOUT), session parameters are
taken and ignored, a stage reads local files, and of the COPY options only the exact set of ours is accepted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse


@pytest.fixture
def session(snowflake_warehouse: SnowflakeWarehouse) -> Iterator[Session]:
    with snowflake_warehouse.session() as session:
        yield session


def test_commit_after_a_failed_statement_rolls_back_without_a_word(session: Session) -> None:
    """Snowflake's COMMIT fails then, or keeps the rest where TRANSACTION_ABORT_ON_ERROR is off. No matter which:
    Session.transaction rolls back itself."""
    session.query('CREATE SCHEMA "S"')
    session.query('CREATE TABLE "S"."T" ("A" NUMBER(5,0))')
    session.query("BEGIN TRANSACTION")
    session.modify('INSERT INTO "S"."T" VALUES (1)')
    with pytest.raises(WarehouseError):
        session.modify('INSERT INTO "S"."T" VALUES (\'x\')')
    session.query("COMMIT")
    assert session.query('SELECT * FROM "S"."T"') == []


def test_ddl_inside_a_transaction_does_not_commit_it(session: Session) -> None:
    """In Snowflake it does; that is why apply runs all DDL before the transaction or after it."""
    session.query('CREATE SCHEMA "S"')
    session.query('CREATE TABLE "S"."T" ("A" NUMBER(5,0))')
    session.query("BEGIN TRANSACTION")
    session.modify('INSERT INTO "S"."T" VALUES (1)')
    session.query('CREATE TABLE "S"."U" ("A" NUMBER(5,0))')
    session.query("ROLLBACK")
    assert session.query('SELECT * FROM "S"."T"') == []


def test_a_merge_of_two_source_rows_into_one_target_row_is_no_error(session: Session) -> None:
    """With ERROR_ON_NONDETERMINISTIC_MERGE it is one in Snowflake; apply asserts unique keys itself."""
    session.query('CREATE SCHEMA "S"')
    session.query('CREATE TABLE "S"."T" ("A" NUMBER(5,0), "B" NUMBER(5,0))')
    session.modify('INSERT INTO "S"."T" VALUES (1, 1)')
    session.modify(
        'MERGE INTO "S"."T" AS t USING (SELECT 1 AS "A", 2 AS "B" UNION ALL SELECT 1, 3) AS s ON t."A" = s."A"'
        ' WHEN MATCHED THEN UPDATE SET "B" = s."B"'
    )
    assert session.query('SELECT COUNT(*) FROM "S"."T"') == [(1,)]


def test_a_schema_whose_name_has_a_quote_cannot_be_made(session: Session) -> None:
    with pytest.raises(WarehouseError):
        session.query('CREATE SCHEMA "A""B"')


def test_a_wrong_password_is_accepted(snowflake_warehouse: SnowflakeWarehouse) -> None:
    """What Snowflake says to one is tested on the connector's own error classes in test_snowflake.py."""
    with dataclasses.replace(snowflake_warehouse, password="wrong").session() as session:
        assert session.query("SELECT 1") == [(1,)]
