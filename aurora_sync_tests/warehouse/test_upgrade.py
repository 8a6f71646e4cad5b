"""What `aurora-sync upgrade --plan` lists for a target of an earlier release."""

from __future__ import annotations

import pytest

from aurora_sync.model.column import Column
from aurora_sync.warehouse.base import ReportedColumn, Session, TableProperties
from aurora_sync.warehouse.upgrade import improvements
from aurora_sync_tests.scenarios.world import config
from aurora_sync_tests.warehouse.increments import column
from aurora_sync_tests.warehouse.through import Through

LONGEST = 134217728


class Existing(Through):
    """A session that reports one target as Snowflake does."""

    def __init__(self, inner: Session, columns: dict[str, ReportedColumn], comment: str) -> None:
        super().__init__(inner)
        self.columns, self.comment = columns, comment

    def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
        return self.columns

    def spellings(self, name: str) -> list[tuple[str, str]]:
        return []

    def properties(self, schema: str, name: str) -> TableProperties | None:
        return TableProperties(self.comment, iceberg=False)

    def before(self, statement: str) -> None:
        raise AssertionError(f"the plan sent {statement}")


OWN = {"_RUN_SEQ": ReportedColumn("NUMBER(19,0)")}
COLUMNS = (column("id", "int8"), Column("code", 2, "varchar(20)", "varchar", 24, comment="It's a code"), column("note"))
SYNCED = "Synced from public.orders by aurora_sync"


def listed(session: Session, columns: dict[str, ReportedColumn], comment: str = SYNCED) -> list[tuple[str, str]]:
    existing = Existing(session, columns | OWN, comment)
    found = improvements(existing, config("orders"), "All orders", COLUMNS, ("id",))
    return [(each.what, each.statement) for each in found]


def test_target_of_an_earlier_release_is_listed_with_its_statements(duckdb_session: Session) -> None:
    existing = {
        "ID": ReportedColumn("NUMBER(19,0)"),
        "CODE": ReportedColumn("VARCHAR", collation="en-ci", length=LONGEST),
        "NOTE": ReportedColumn("VARCHAR", length=20),
    }
    assert listed(duckdb_session, existing) == [
        ("the comment of the table", f"""COMMENT ON TABLE "PUBLIC"."ORDERS" IS 'All orders\n{SYNCED}'"""),
        ("the primary key", 'ALTER TABLE "PUBLIC"."ORDERS" ADD PRIMARY KEY ("ID") NORELY'),
        ("the comment of column CODE", """COMMENT ON COLUMN "PUBLIC"."ORDERS"."CODE" IS 'It''s a code'"""),
        ("column CODE has the collation en-ci; aurora_sync compares texts byte by byte", ""),
        (f"column CODE is VARCHAR({LONGEST}), and a new target would have VARCHAR(20)", ""),
        (
            "the length of column NOTE, which is VARCHAR(20)",
            'ALTER TABLE "PUBLIC"."ORDERS" ALTER COLUMN "NOTE" SET DATA TYPE VARCHAR(16777216)',
        ),
    ]


def test_former_primary_key_is_dropped_first(duckdb_session: Session) -> None:
    existing = {"ID": ReportedColumn("NUMBER(19,0)"), "OLD": ReportedColumn("NUMBER(19,0)", in_key=True)}
    statements = [statement for _, statement in listed(duckdb_session, existing)]
    assert statements[1:] == [
        'ALTER TABLE "PUBLIC"."ORDERS" DROP PRIMARY KEY',
        'ALTER TABLE "PUBLIC"."ORDERS" ADD PRIMARY KEY ("ID") NORELY',
    ]


@pytest.mark.parametrize("there", [True, False])
def test_nothing_is_listed_for_a_new_target_and_without_a_target(duckdb_session: Session, there: bool) -> None:
    existing = {
        "ID": ReportedColumn("NUMBER(19,0)", in_key=True),
        "CODE": ReportedColumn("VARCHAR", comment="It's a code", length=20),
        "NOTE": ReportedColumn("VARCHAR", length=16777216),
    }
    session = Existing(duckdb_session, existing | OWN if there else {}, f"All orders\n{SYNCED}")
    assert improvements(session, config("orders"), "All orders", COLUMNS, ("id",)) == []
