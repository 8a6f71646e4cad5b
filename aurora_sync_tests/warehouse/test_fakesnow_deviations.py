"""Differences between the fakesnow server and Snowflake, which a green suite therefore does not cover.

Each is asserted, so that a newer fakesnow that is closer to Snowflake fails here. Further differences: a lock is not
waited for (a rival is an error at once, not after LOCK_TIMEOUT), session parameters are accepted and ignored, a stage
reads local files, and only the exact COPY options of aurora_sync are accepted.
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
    """In Snowflake the COMMIT fails, or keeps the other statements when TRANSACTION_ABORT_ON_ERROR is off. Both cases
    are safe, because Session.transaction rolls back itself."""
    session.query('CREATE SCHEMA "S"')
    session.query('CREATE TABLE "S"."T" ("A" NUMBER(5,0))')
    session.query("BEGIN TRANSACTION")
    session.modify('INSERT INTO "S"."T" VALUES (1)')
    with pytest.raises(WarehouseError):
        session.modify('INSERT INTO "S"."T" VALUES (\'x\')')
    session.query("COMMIT")
    assert session.query('SELECT * FROM "S"."T"') == []


def test_ddl_inside_a_transaction_does_not_commit_it(session: Session) -> None:
    """In Snowflake DDL commits; apply therefore runs all DDL before or after the transaction."""
    session.query('CREATE SCHEMA "S"')
    session.query('CREATE TABLE "S"."T" ("A" NUMBER(5,0))')
    session.query("BEGIN TRANSACTION")
    session.modify('INSERT INTO "S"."T" VALUES (1)')
    session.query('CREATE TABLE "S"."U" ("A" NUMBER(5,0))')
    session.query("ROLLBACK")
    assert session.query('SELECT * FROM "S"."T"') == []


def test_a_merge_of_two_source_rows_into_one_target_row_is_no_error(session: Session) -> None:
    """In Snowflake it is an error with ERROR_ON_NONDETERMINISTIC_MERGE; apply itself checks that keys are unique."""
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
    """test_snowflake_login.py tests Snowflake's refusal with a server of its own."""
    settings = dataclasses.replace(snowflake_warehouse.settings, login={"password": "wrong"})
    with dataclasses.replace(snowflake_warehouse, settings=settings).session() as session:
        assert session.query("SELECT 1") == [(1,)]
