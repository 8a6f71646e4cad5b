"""The option ``timestamptz``: each of the three types of Snowflake holds the moments of PostgreSQL's timestamptz."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import pytest

from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Evolution
from aurora_sync.objects.store import Store
from aurora_sync.source.database import Source
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse.base import ReportedColumn, Session, Warehouse
from aurora_sync.warehouse.snowflake import SnowflakeWarehouse
from aurora_sync_tests.scenarios.world import config
from aurora_sync_tests.warehouse.increments import Folder, apply, column
from aurora_sync_tests.warehouse.sides import Sides
from aurora_sync_tests.warehouse.test_golden import Recorder

Option = Literal["tz", "ltz", "ntz"]
OPTIONS: tuple[Option, ...] = ("tz", "ltz", "ntz")
TYPES = {"tz": "TIMESTAMP_TZ(6)", "ltz": "TIMESTAMP_LTZ(6)", "ntz": "TIMESTAMP_NTZ(6)"}
# The last one is in the hour that repeats when summer time ends.
VALUES = ("0001-01-01 00:00:00+00", "1969-12-31 23:59:59.000001+00", "2024-02-29 12:00:00.5+05:30", "2024-10-27 01:30Z")
COLUMNS = (column("id", "int8"), column("at", "timestamptz"))


class Reporting(Recorder):
    """Reports the type under which a target was created. DuckDB and fakesnow have one type for TZ and LTZ."""

    def __init__(self, inner: Session, created: Option) -> None:
        super().__init__(inner)
        self.created = created

    def describe(self, schema: str, name: str) -> dict[str, ReportedColumn]:
        found = super().describe(schema, name)
        zoned = TYPES["ltz" if self.created == "ltz" else "tz"].partition("(")[0]
        return {n: replace(c, type=zoned) if c.type == "TIMESTAMP_TZ" else c for n, c in found.items()}


class Orders:
    """The target of a table with a column of timestamptz, and the DDL of its last run."""

    def __init__(self, session: Session, folder: Folder, option: Option = "tz") -> None:
        self.session, self.folder, self.sent, self.created = session, folder, [""], option
        self.config = config("orders", timestamptz=option)
        self.state: dict[str, Any] = {}

    def load(self, at: str, columns: tuple[Column, ...] = COLUMNS, **others: Any) -> None:
        """Write row 1 with this value in every column but the key."""
        kind = {"disposition": Disposition.UPSERT if self.state else Disposition.REPLACE} | others
        rows = [("1", *[at] * (len(columns) - 1), "5")]
        manifest = self.folder.increment(columns, rows, **self.state, **kind)
        recorder = Reporting(self.session, self.created)
        applied = apply(recorder, self.config, manifest, self.folder)
        self.state = {"expected": applied.run_sequence, "expected_load_id": manifest.load_id}
        self.sent = [sent for sent in recorder.statements if sent.startswith(("CREATE TABLE", "ALTER"))]

    def texts(self, of: str = "AT") -> list[tuple[Any, ...]]:
        return self.session.query(f'SELECT CAST("{of}" AS VARCHAR) FROM "PUBLIC"."ORDERS"')

    @property
    def type(self) -> str:
        return self.session.describe("PUBLIC", "ORDERS")["AT"].type


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("key", ["id int", "id timestamptz"])
def test_values_arrive_and_change_as_at_the_source(
    dsn: str, session: Session, folder: Folder, option: Option, key: str
) -> None:
    sides = Sides(dsn, session, folder, options={"timestamptz": option})
    sides.execute(f"CREATE TABLE t ({key} PRIMARY KEY, at timestamptz)")
    first = "'2024-01-01 00:00Z'::timestamptz + {0} * interval '0.05 s'" if "timestamptz" in key else "{0}"
    for number, value in enumerate(VALUES):
        sides.execute(f"INSERT INTO t VALUES ({first.format(number)}, %s)", (value,))
    sides.execute(f"INSERT INTO t VALUES ({first.format(9)}, NULL)")
    sides.sync()
    sides.execute("UPDATE t SET at = at + interval '1 microsecond' WHERE at > '2024-06-01'")
    assert not sides.equal()
    sides.sync("at > '2024-06-01'")
    assert sides.equal()
    assert session.query('SELECT COUNT(*) FROM "PUBLIC"."T"') == [(len(VALUES) + 1,)]


@pytest.mark.parametrize("option", ["ltz", "ntz"])
@pytest.mark.parametrize("kind", ["duckdb", "postgres"])
def test_table_is_followed_reconciled_and_verified(
    request: pytest.FixtureRequest, dsn: str, store: Store, folder: Folder, option: Option, kind: str
) -> None:
    warehouse: Warehouse = request.getfixturevalue(f"{kind}_warehouse")
    places = Places(Source(dsn), Stage(store, target=warehouse.describe()), warehouse)
    with warehouse.session() as session:
        execute = Sides(dsn, session, folder).execute
    execute("CREATE TABLE t (id timestamptz PRIMARY KEY, at timestamptz)")
    execute("INSERT INTO t SELECT '2024-01-01Z'::timestamptz + n * interval '1 h', now() FROM generate_series(1, 5) n")
    table = config(timestamptz=option)
    assert sync.run(table, places).inserted == 5
    execute("UPDATE t SET at = '1999-12-31 23:59:59.9Z' WHERE id = '2024-01-01 03:00+01'")
    receipt = sync.run(table, places)
    assert (receipt.disposition, receipt.updated) == (Disposition.UPSERT, 1)
    execute("DELETE FROM t WHERE id = '2024-01-01 05:00Z'")
    receipt = sync.run(table, places, reconcile=True)
    assert (receipt.inserted, receipt.updated, receipt.deleted, receipt.target_rows) == (0, 0, 1, 4)
    verified = sync.verify(table, places).verification
    assert verified is not None
    assert verified.equal, verified.examples
    with warehouse.session() as session:
        session.modify("""UPDATE "PUBLIC"."T" SET "AT" = CAST('1999-12-31 23:59:59' AS TIMESTAMP_NTZ(6))""")
    verified = sync.verify(table, places).verification
    assert verified is not None
    assert not verified.equal


@pytest.mark.parametrize("option", OPTIONS)
def test_new_column_has_the_type_of_the_option(session: Session, folder: Folder, option: Option) -> None:
    orders = Orders(session, folder, option)
    orders.load("2024-01-01 12:00:00+00")
    assert f'"AT" {TYPES[option]}' in orders.sent[-1]
    orders.load("2024-01-01 12:00:00.5+00", (*COLUMNS, column("later", "timestamptz")))
    assert orders.sent == [f'ALTER TABLE "PUBLIC"."ORDERS" ADD COLUMN "LATER" {TYPES[option]}']
    assert orders.texts("LATER") == orders.texts()


@pytest.mark.parametrize(
    ("before", "after"), [("tz", "ltz"), ("tz", "ntz"), ("ltz", "tz"), ("ltz", "ntz"), ("ntz", "tz")]
)
def test_existing_column_keeps_its_type_when_the_option_changes(
    session: Session, folder: Folder, before: Option, after: Option
) -> None:
    orders = Orders(session, folder, before)
    orders.load("2024-01-01 12:00:00+00")
    was = orders.type
    orders.config = config("orders", timestamptz=after)
    for disposition in (Disposition.UPSERT, Disposition.REPLACE):
        orders.load("2024-01-01 12:00:00.25+00", disposition=disposition)
        assert (orders.sent, orders.type) == ([], was)
    assert [text[:22] for (text,) in orders.texts()] == ["2024-01-01 12:00:00.25"]


def test_existing_column_keeps_its_type_when_its_policy_changes(duckdb_session: Session, folder: Folder) -> None:
    orders = Orders(duckdb_session, folder)
    orders.load("2024-01-01 12:00:00+00")
    orders.config = config("orders", timestamptz="ntz")
    changed = (COLUMNS[0], column("at", "timestamptz", policy="fail"))
    orders.load("2024-01-01 12:00:00+00", changed, evolution=Evolution(retyped=("at",)))
    assert (orders.sent, orders.type) == ([], "TIMESTAMP_TZ")


def test_column_that_was_timestamp_gets_the_type_of_the_option(session: Session, folder: Folder) -> None:
    orders = Orders(session, folder)
    orders.load("2024-01-01 12:00:00", (COLUMNS[0], column("at", "timestamp")))
    orders.load("2024-01-01 12:00:00.5+00", evolution=Evolution(retyped=("at",)))
    assert orders.type == "TIMESTAMP_TZ"


@pytest.mark.parametrize("option", OPTIONS)
def test_column_that_becomes_text_has_the_text_of_postgresql(session: Session, folder: Folder, option: Option) -> None:
    orders = Orders(session, folder, option)
    orders.load("2024-01-01 12:00:00.5+00")
    manifest = folder.increment(COLUMNS, [("2", "infinity", "6")], **orders.state)
    apply(session, orders.config, manifest, folder)
    assert sorted(orders.texts()) == [("2024-01-01 12:00:00.5+00",), ("infinity",)]


@pytest.mark.parametrize("option", OPTIONS)
def test_history_has_the_key_of_a_missing_row_as_postgresql_prints_it(
    session: Session, folder: Folder, option: Option
) -> None:
    table = config("orders", "logical", history=True, timestamptz=option)
    columns, keys = (column("id", "timestamptz"),), ("2024-01-01 00:00:00+00", "2024-01-01 10:20:30.25+00")
    first = folder.increment(columns, [(key, "5") for key in keys], disposition=Disposition.REPLACE, log_position=1)
    apply(session, table, first, folder)
    state: dict[str, Any] = {"expected": 1, "expected_load_id": first.load_id, "log_position": 2}
    apply(
        session,
        table,
        folder.increment(columns, [], disposition=Disposition.REPLACE, **state),
        folder,
        allow_deletes=True,
    )
    rows = session.query('SELECT "_OP", "ID" FROM "PUBLIC"."ORDERS_HISTORY"')
    assert sorted(rows) == [(op, key) for op in "DR" for key in keys]


@pytest.mark.parametrize("option", OPTIONS)
def test_bounds_of_a_key_have_its_type(snowflake_warehouse: SnowflakeWarehouse, folder: Folder, option: Option) -> None:
    columns = (column("id", "timestamptz"),)
    table = config("orders", timestamptz=option)
    with snowflake_warehouse.session() as session:
        recorder = Reporting(session, option)
        first = folder.increment(columns, [("2024-01-01 00:00:00+00", "5")], disposition=Disposition.REPLACE)
        apply(recorder, table, first, folder)
        state: dict[str, Any] = {"expected": 1, "expected_load_id": first.load_id}
        apply(recorder, table, folder.increment(columns, [("2024-01-02 00:00:00.5+00", "6")], **state), folder)
    merge = [sent for sent in recorder.statements if sent.startswith("MERGE")][-1]
    zone = "" if option == "ntz" else "+00:00"
    constant = f"CAST('2024-01-02 00:00:00.500000{zone}' AS {TYPES[option]})"
    assert f't."ID" BETWEEN {constant} AND {constant}' in merge
