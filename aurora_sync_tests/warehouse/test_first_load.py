"""The first load of a table into DuckDB, whose rows are checked while they are written. It has the results of a load
whose rows are checked before."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import GuardError
from aurora_sync.model.manifest import Disposition
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.warehouse.increments import Folder, apply, column
from aurora_sync_tests.warehouse.through import Through

Policy = Literal["exact", "null", "fail"]
Rows = Sequence[tuple[str | None, ...]]

MONEY = ((6 << 16) | 2) + 4  # numeric(6,2)
GOOD: Rows = [(str(n), f"k{n}", f"{n}.50", "2024-02-29 00:00:00+00", "7") for n in range(1, 100)]
NAN = ("0", "k0", "NaN", "2024-02-29 00:00:00+00", "7")
BEFORE_CHRIST = ("-1", "k-1", None, "0044-03-15 00:00:00+00 BC", "7")


class Reads(Through):
    """A session that counts the statements that parse the staged files."""

    parsed = 0

    def before(self, statement: str) -> None:
        self.parsed += "STAGING_" in statement and statement.startswith(("SELECT", "INSERT INTO"))


class CheckedBefore(Reads):
    def __init__(self, inner: Session) -> None:
        super().__init__(inner)
        self.dialect = dataclasses.replace(inner.dialect, reads_files=False)


def columns(policy: Policy) -> list[Any]:
    return [
        column("id", "int8"),
        column("k"),
        column("price", "numeric", modifier=MONEY, policy=policy),
        column("at", "timestamptz", policy=policy),
    ]


def load(session: Session, folder: Folder, policy: Policy, rows: Rows, key: tuple[str, ...], **more: Any) -> Any:
    """Load once. Return what the target has then, and what the run reports."""
    manifest = folder.increment(columns(policy), rows, key=key, disposition=Disposition.REPLACE, files=3, **more)
    config = TableConfig(table_name="orders", watermark_type="xmin", primary_key=list(key) or None)
    try:
        applied = apply(session, config, manifest, folder)
    except GuardError as error:
        assert session.query("SELECT 1 FROM information_schema.tables WHERE table_name = 'ORDERS'") == []
        return str(error)
    held = sorted(session.query('SELECT * EXCLUDE ("_SYNCED_AT") FROM "PUBLIC"."ORDERS"'), key=repr)
    return held, dataclasses.replace(applied, seconds={}), session.describe("PUBLIC", "ORDERS")


@pytest.mark.parametrize("key", [("id",), ("k",), ("id", "k"), ()], ids=["number", "text", "both", "no key"])
@pytest.mark.parametrize(
    ("bad", "policy"),
    [
        ([], "fail"),
        *(([row], policy) for row in (NAN, BEFORE_CHRIST) for policy in ("exact", "null", "fail")),
        ([NAN, BEFORE_CHRIST], "exact"),
        ([GOOD[0]], "null"),
        ([(None, "k0", *GOOD[0][2:])], "null"),
        ([("0", None, *GOOD[0][2:])], "null"),
    ],
)
def test_load_has_the_same_result(
    duckdb_warehouse: DuckDBWarehouse, tmp_path: Any, key: tuple[str, ...], policy: Policy, bad: Rows
) -> None:
    found = []
    for number, form in enumerate((Reads, CheckedBefore)):
        warehouse = DuckDBWarehouse(tmp_path / f"{number}.duckdb")
        with warehouse.session() as session:
            found.append(load(form(session), Folder(tmp_path / f"objects{number}"), policy, [*GOOD, *bad], key))
    assert found[0] == found[1]
    misfits = any(row in (NAN, BEFORE_CHRIST) for row in bad)
    no_key = any(row[place] is None for row in bad for place, name in enumerate(("id", "k")) if name in key)
    refused = (misfits and policy == "fail") or no_key or (bad == [GOOD[0]] and key)
    assert isinstance(found[0], str) == bool(refused)


def test_rows_that_fit_are_parsed_once(duckdb_session: Session, folder: Folder) -> None:
    session = Reads(duckdb_session)
    load(session, folder, "fail", GOOD, ("id",))
    assert session.parsed == 1


def test_wrong_number_of_rows_is_refused(duckdb_session: Session, folder: Folder) -> None:
    message = load(duckdb_session, folder, "fail", GOOD, ("id",), source_rows=len(GOOD) + 1)
    assert f"the export has {len(GOOD)} rows, but the source counted {len(GOOD) + 1} rows" in message
