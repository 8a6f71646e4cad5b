from __future__ import annotations

import datetime
from decimal import Decimal

import pytest

from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse.base import Session

# The example of docs/write-your-own-warehouse.md has no data frames.
pytestmark = pytest.mark.parametrize("warehouse", ["duckdb", "snowflake"], indirect=True)


def test_rows_of_a_query_come_as_arrow_in_the_warehouse_s_own_types(session: Session) -> None:
    reader = session.arrow(
        "SELECT CAST('1.50' AS NUMBER(10,2)) AS \"N\", 'naïve' AS \"T\", CAST('2026-01-02' AS DATE) AS \"D\""
    )
    assert reader.read_all().to_pylist() == [{"N": Decimal("1.50"), "T": "naïve", "D": datetime.date(2026, 1, 2)}]


def test_no_rows_have_columns_all_the_same(session: Session) -> None:
    reader = session.arrow('SELECT 1 AS "A" WHERE 1 = 0')
    assert reader.schema.names == ["A"]
    assert reader.read_all().num_rows == 0


def test_refused_query_is_an_error_of_ours(session: Session) -> None:
    with pytest.raises(WarehouseError):
        session.arrow("SELECT * FROM NOTHING.HERE")
