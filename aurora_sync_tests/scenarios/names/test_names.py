"""``names`` through whole runs: increments, changes of the columns, comparisons, and another choice afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import check, sync
from aurora_sync.engine.places import Places
from aurora_sync.errors import ConfigError
from aurora_sync.model.names import NameStyle, written
from aurora_sync.source.database import Source
from aurora_sync.stage.writer import Stage
from aurora_sync.warehouse.base import Session
from aurora_sync_tests.scenarios.world import World, config
from aurora_sync_tests.warehouse.snowflake_semantics import Server, SnowflakeLike

STYLES: tuple[NameStyle, ...] = ("upper", "preserve", "lower")


def lines(names: NameStyle) -> TableConfig:
    return config("orderLines", schema="Shop", names=names, deletes="soft")


@pytest.fixture
def made(world: World) -> World:
    world.execute(
        'CREATE SCHEMA "Shop"',
        'CREATE TABLE "Shop"."orderLines" ("orderId" int, "lineNo" int, "Note" text,'
        ' PRIMARY KEY ("orderId", "lineNo"))',
        """INSERT INTO "Shop"."orderLines" SELECT i, 1, 'note' FROM generate_series(1, 20) i""",
    )
    return world


def compared(world: World, table: TableConfig) -> tuple[bool, str]:
    receipt = world.verify(table)
    assert receipt.verification is not None
    return receipt.verification.equal, receipt.target


def targets(session: Session) -> list[tuple[str, str]]:
    return session.spellings("orderLines")


@pytest.mark.parametrize("names", STYLES)
def test_table_is_followed_compared_and_keeps_its_names(made: World, names: NameStyle) -> None:
    table = lines(names)
    target = ".".join(table.written_target)
    assert made.sync(table).target == target
    made.execute(
        """UPDATE "Shop"."orderLines" SET "Note" = 'new' WHERE "orderId" = 3""",
        """ALTER TABLE "Shop"."orderLines" ADD COLUMN "madeBy" text DEFAULT 'them'""",
        """ALTER TABLE "Shop"."orderLines" RENAME COLUMN "Note" TO "lineNote" """,
        """INSERT INTO "Shop"."orderLines" VALUES (21, 1, 'n', 'me')""",
    )
    receipt = made.sync(table)
    assert (receipt.disposition.value, receipt.target_rows) == ("upsert", 21)
    made.execute('DELETE FROM "Shop"."orderLines" WHERE "orderId" = 1')
    assert made.sync(table, reconcile=True).deleted == 1
    assert compared(made, table) == (True, target)

    other = lines(STYLES[STYLES.index(names) - 1])
    made.execute('UPDATE "Shop"."orderLines" SET "lineNote" = NULL WHERE "orderId" = 4')
    receipt = made.sync(other)
    assert (receipt.disposition.value, receipt.rows_exported, receipt.target) == ("upsert", 1, target)
    assert compared(made, other) == (True, target)
    with made.warehouse.session() as session:
        assert targets(session) == [table.written_target]
        columns = session.describe(*table.written_target)
        assert list(columns)[:3] == [written(name, names) for name in ("orderId", "lineNo", "lineNote")]


def test_idle_runs_in_snowflake_know_the_kept_name(made: World, tmp_path: Path) -> None:
    server = Server(tmp_path / "like.duckdb", made.places.stage.store)
    warehouse = SnowflakeLike.on(server)
    stage = Stage(made.places.stage.store, target=warehouse.describe())
    made.places = Places(Source(made.dsn), stage, warehouse)
    first, other = lines("upper"), lines("preserve")
    assert made.sync(first).target == "SHOP.ORDERLINES"
    assert made.sync(other).target == "SHOP.ORDERLINES"  # from the hint
    made.execute("""UPDATE "Shop"."orderLines" SET "Note" = 'x' WHERE "orderId" = 2""")
    receipt = made.sync(other)
    assert (receipt.disposition.value, receipt.rows_exported, receipt.target) == ("upsert", 1, "SHOP.ORDERLINES")
    assert compared(made, other) == (True, "SHOP.ORDERLINES")
    with warehouse.session() as session:
        assert targets(session) == [("SHOP", "ORDERLINES")]
    notes = check.look_at_targets(lambda: [other], made.places)[1]
    assert [note for note in notes if "names: preserve" in note] == [
        'the target of Shop.orderLines keeps its names, such as "SHOP"."ORDERLINES", although tables.yaml has'
        " names: preserve; `aurora-sync upgrade --plan` prints the statements that rename"
    ]


def test_columns_that_differ_only_by_case_are_refused_by_duckdb_before_rows_are_read(made: World) -> None:
    made.execute('ALTER TABLE "Shop"."orderLines" ADD COLUMN note text')
    message = "the columns Note and note differ only by case, which the warehouse ignores"
    with pytest.raises(ConfigError, match=message):
        made.sync(lines("preserve"))
    assert any(message in problem for problem in check.problems(lambda: [lines("preserve")], made.places))
    with pytest.raises(ConfigError, match="column note would be NOTE in the target, the name of column Note"):
        sync.run(lines("upper"), made.places)
