"""No statement of the product has a form that harms a target."""

from __future__ import annotations

import pytest

from aurora_sync.warehouse import ddl, sync_log, targets
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import TableName
from aurora_sync_tests.warehouse.forms import problems
from aurora_sync_tests.warehouse.test_golden import GOLDEN

COPY = (
    """COPY INTO "L"."STAGING_T" FROM '@"D"."S"."F"/p/' FILES = ('a') FILE_FORMAT = (TYPE = CSV)"""
    " ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
)
MERGE = (
    'MERGE INTO "P"."T" AS t USING (SELECT s."A" AS "A" FROM "L"."STAGING_T" AS s) AS s ON t."A" = s."A"'
    ' WHEN MATCHED AND (t."B" IS DISTINCT FROM s."B") THEN UPDATE SET "_RUN_SEQ" = s."_RUN_SEQ",'
    ' "_SYNCED_AT" = s."_SYNCED_AT" WHEN NOT MATCHED THEN INSERT ("A", "_RUN_SEQ", "_SYNCED_AT")'
    ' VALUES (s."A", s."_RUN_SEQ", s."_SYNCED_AT")'
)
# A part of a message, and statements that it must be about.
PLANTED = [
    ("CREATE OR REPLACE", """CREATE OR REPLACE TABLE "P"."T" COPY GRANTS DEFAULT_DDL_COLLATION = '' AS SELECT 1"""),
    ("CREATE OR REPLACE", """CREATE OR REPLACE TABLE "P"."T" ("A" VARCHAR) DEFAULT_DDL_COLLATION = ''"""),
    ("CREATE OR REPLACE", """CREATE OR REPLACE TEMPORARY TABLE "P"."T" ("A" VARCHAR) DEFAULT_DDL_COLLATION = ''"""),
    ("SwapTable", 'ALTER TABLE "P"."T" SWAP WITH "P"."U"'),
    ("AlterRename", 'ALTER TABLE "P"."T" RENAME TO "P"."U"'),
    ("DROP TABLE", 'DROP TABLE IF EXISTS "P"."T"'),
    ("DROP SCHEMA", 'DROP SCHEMA "P"'),
    ("DROP COLUMN A", 'ALTER TABLE "P"."T" DROP COLUMN IF EXISTS "A"'),
    ("TruncateTable", 'TRUNCATE TABLE "P"."T"'),
    ("Undrop", 'UNDROP TABLE "P"."T"'),
    ("without DEFAULT_DDL_COLLATION", 'CREATE TABLE IF NOT EXISTS "P"."T" ("A" VARCHAR)'),
    ("without DEFAULT_DDL_COLLATION", """CREATE TABLE "P"."T" ("A" VARCHAR) DEFAULT_DDL_COLLATION = 'en-ci'"""),
    ("without DEFAULT_DDL_COLLATION", 'CREATE TABLE "P"."T" AS SELECT 1 AS "A"'),
    ("without COLLATE", 'ALTER TABLE "P"."T" ADD COLUMN "A" VARCHAR(10)'),
    ("without COLLATE", """ALTER TABLE "P"."T" ADD COLUMN "A" VARCHAR COLLATE 'en-ci'"""),
    ("CREATE VIEW", 'CREATE VIEW "P"."V" AS SELECT 1 AS "A"'),
    ("IF NOT EXISTS", 'CREATE SCHEMA "P"'),
    ("has no schema", 'DELETE FROM "T"'),
    ("has no schema", 'SELECT 1 FROM "P"."T" WHERE EXISTS (SELECT 1 FROM "U")'),
    ("is not quoted", "DELETE FROM p.t"),
    ("is not quoted", 'UPDATE "P".t SET "A" = 1'),
    ("2 statements", 'SELECT 1; DROP TABLE "P"."T"'),
    ("equality", MERGE.replace('t."A" = s."A"', "TRUE")),
    ("every matched row", MERGE.replace('AND (t."B" IS DISTINCT FROM s."B") ', "")),
    ("record the run", MERGE.replace('"_RUN_SEQ" = s."_RUN_SEQ", ', "")),
    ("without FILES", COPY.replace("FILES = ('a') ", "")),
    ("without FILE_FORMAT", COPY.replace("FILE_FORMAT = (TYPE = CSV) ", "")),
    ("ON_ERROR", COPY.replace("ABORT_STATEMENT", "CONTINUE")),
    ("ON_ERROR", COPY.replace("ON_ERROR = ABORT_STATEMENT ", "")),
    ("FORCE", COPY.replace(" FORCE = TRUE", "")),
    ("PURGE", f"{COPY} PURGE = TRUE"),
    ("not a staging table", COPY.replace("STAGING_T", "T")),
    ("not a staging table", COPY.replace('"STAGING_T"', '"T" ("A")')),
    ("BINARY_AS_TEXT", COPY.replace("TYPE = CSV", "TYPE = PARQUET")),
    ("BINARY_AS_TEXT", COPY.replace("TYPE = CSV", "TYPE = PARQUET BINARY_AS_TEXT = TRUE")),
    ("MATCH_BY", COPY.replace("TYPE = CSV", "TYPE = PARQUET") + " MATCH_BY_COLUMN_NAME = CASE_SENSITIVE"),
]


@pytest.mark.parametrize(("part", "statement"), PLANTED)
def test_harmful_form_is_found(part: str, statement: str) -> None:
    assert any(part in problem for problem in problems(statement)), problems(statement)


@pytest.mark.parametrize("statement", [COPY, MERGE])
def test_form_of_the_product_is_accepted(statement: str) -> None:
    assert problems(statement) == []


def test_ddl_in_a_transaction_is_found() -> None:
    for statement in (
        """ALTER TABLE "P"."T" ADD COLUMN "A" VARCHAR COLLATE ''""",
        """CREATE TABLE "P"."T" ("A" VARCHAR) DEFAULT_DDL_COLLATION = ''""",
        'COMMENT ON TABLE "P"."T" IS \'\'',
        'DROP TABLE IF EXISTS "L"."STAGING_T"',
        'ALTER TABLE "P"."T" DROP PRIMARY KEY',
    ):
        assert problems(statement) == []
        assert problems(statement, in_transaction=True) == ["DDL commits the open transaction"]


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.snowflake.sql")), ids=lambda path: path.name)
def test_pinned_statements_are_harmless(path: object) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()  # type: ignore[attr-defined]
    statements = [line.removesuffix(";") for line in lines if not line.startswith("--")]
    assert statements
    assert {each: found for each in statements if (found := problems(each))} == {}


def test_statement_that_the_product_sends_is_checked(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    if session.dialect.translate.__module__ == "aurora_sync_tests.warehouse.postgres":
        return  # an example, whose suites run on the other backends too
    target = TableName("PUBLIC", "T")
    monkeypatch.setattr(ddl, "NO_COLLATION", "")
    with pytest.raises(AssertionError, match="without DEFAULT_DDL_COLLATION"):
        sync_log.make(session, target, "_AURORA_SYNC")


def test_ddl_that_the_product_sends_in_a_transaction_is_noticed(duckdb_session: Session) -> None:
    with pytest.raises(AssertionError, match="DDL commits"), duckdb_session.transaction():
        targets.drop_key(duckdb_session, TableName("S", "T"))
