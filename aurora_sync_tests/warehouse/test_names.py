"""``names``: how a target is written, and that a target which exists keeps its names, on every backend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, TargetChangedError, WarehouseError
from aurora_sync.model.manifest import Disposition, Evolution, Manifest
from aurora_sync.model.names import NameStyle, written
from aurora_sync.warehouse import policies, resume, sync_log
from aurora_sync.warehouse.base import Session, Warehouse
from aurora_sync.warehouse.ddl import ADDED_TYPES, HISTORY_TYPES, TableName
from aurora_sync.warehouse.located import find_target, located
from aurora_sync.warehouse.upgrade import improvements
from aurora_sync_tests.warehouse.increments import Folder, apply, column
from aurora_sync_tests.warehouse.postgres import PostgresWarehouse

COLUMNS = (column("orderId"), column("Note"))
RENAMED = (column("orderId"), column("Remark"), column("madeBy"))
STYLES: tuple[NameStyle, ...] = ("upper", "preserve", "lower")


def lines(names: NameStyle, **keys: Any) -> TableConfig:
    keys = {"schema": "Shop", "table_name": "orderLines", "watermark_type": "logical", "history": True} | keys
    return TableConfig.model_validate(keys | {"names": names})


def load(session: Session, folder: Folder, config: TableConfig) -> Manifest:
    rows = [("1", "a", "5"), ("2", "b", "5")]
    manifest = increment(folder, COLUMNS, rows, disposition=Disposition.REPLACE)
    apply(session, config, manifest, folder)
    return manifest


def increment(folder: Folder, columns: Any, rows: Any, **others: Any) -> Manifest:
    given: dict[str, Any] = {"key": ("orderId",), "table": "Shop.orderLines", "log_position": 7}
    return folder.increment(columns, rows, **given | others)


def renaming(folder: Folder, first: Manifest) -> Manifest:
    """Return an increment after a rename and a new column, whose older rows get a value."""
    return increment(
        folder,
        RENAMED,
        [("2", "c", "me", "6"), ("3", "d", None, "6")],
        evolution=Evolution(renamed={"Note": "Remark"}),
        fill={"madeBy": "them"},
        expected=1,
        expected_load_id=first.load_id,
    )


def columns_of(session: Session, table: TableName) -> list[str]:
    added = ADDED_TYPES.keys() | HISTORY_TYPES.keys()
    return [name for name in session.describe(table.schema, table.name) if name not in added]


def made(session: Session) -> set[tuple[str, str]]:
    """Return schema and name of the targets and histories in the warehouse."""
    return {found for name in ("ORDERLINES", "ORDERLINES_HISTORY") for found in session.spellings(name)}


def kept(session: Session, config: TableConfig) -> list[str]:
    return [finding.text for finding in policies.look(session, config) if finding.event == "names"]


def rows_of(session: Session, table: TableName, columns: list[str]) -> list[tuple[Any, ...]]:
    names = ", ".join(f'"{name}"' for name in columns)
    return sorted(session.query(f"SELECT {names} FROM {table.sql}"), key=str)


@pytest.mark.parametrize("names", STYLES)
def test_target_and_history_have_names_of_the_option(session: Session, folder: Folder, names: NameStyle) -> None:
    config = lines(names, cluster_by=["Note"])
    first = load(session, folder, config)
    target = TableName(written("Shop", names), written("orderLines", names))
    history = TableName(target.schema, written("orderLines_HISTORY", names))
    assert made(session) == {(target.schema, target.name), (history.schema, history.name)}
    assert apply(session, config, renaming(folder, first), folder).target == (target.schema, target.name)
    expected = [written(name, names) for name in ("orderId", "Remark", "madeBy")]
    assert columns_of(session, target) == expected
    assert rows_of(session, target, expected) == [("1", "a", "them"), ("2", "c", "me"), ("3", "d", None)]
    recorded = [written(name, names) for name in ("orderId", "Note", "Remark", "madeBy")]
    assert sorted(columns_of(session, history)) == sorted(recorded)
    assert rows_of(session, history, [recorded[0], recorded[2]])[-1] == ("3", "d")
    assert kept(session, config) == []
    assert {"_RUN_SEQ", "_SRC_XMIN"} <= session.describe(target.schema, target.name).keys()


@pytest.mark.parametrize(("before", "after"), [("upper", "preserve"), ("preserve", "lower"), ("lower", "upper")])
def test_existing_target_keeps_its_names_when_the_option_changes(
    session: Session, folder: Folder, before: NameStyle, after: NameStyle
) -> None:
    first = load(session, folder, lines(before))
    were, config = made(session), lines(after)
    target, columns = find_target(session, config)
    assert (target.schema, target.name) == lines(before).written_target
    assert "_RUN_SEQ" in columns
    state = resume.read_state(session, config)
    assert (state.run_sequence, state.edited, state.target) == (1, "", (target.schema, target.name))
    assert state.watermark is not None
    (text,) = kept(session, config)
    assert target.sql in text

    applied = apply(session, config, renaming(folder, first), folder)
    assert (applied.run_sequence, applied.target_rows, applied.target) == (2, 3, (target.schema, target.name))
    assert made(session) == were
    key, added = written("orderId", before), [written(name, after) for name in ("Remark", "madeBy")]
    assert columns_of(session, target) == [key, *added]
    assert rows_of(session, target, [key, *added]) == [("1", "a", "them"), ("2", "c", "me"), ("3", "d", None)]
    history, _ = located(session, TableName(*config.written_targets[1]))
    assert sorted(columns_of(session, history)) == sorted([key, written("Note", before), *added])
    assert [(entry.run_sequence, entry.target) for entry in sync_log.newest(session)] == [(2, '"SHOP"."ORDERLINES"')]


def test_printed_statements_rename_what_was_kept_and_the_next_run_goes_on(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    with postgres_warehouse.session() as session:
        first = load(session, folder, lines("lower", target_schema="shop"))
        config = lines("preserve", target_schema="shop")
        found = improvements(session, config, None, COLUMNS, ("orderId",))
        renames = [each.statement for each in found if "RENAME" in each.statement]
        assert renames == [
            'ALTER TABLE "shop"."orderlines" RENAME COLUMN "orderid" TO "orderId"',
            'ALTER TABLE "shop"."orderlines" RENAME COLUMN "note" TO "Note"',
            'ALTER TABLE "shop"."orderlines_history" RENAME TO "shop"."orderLines_HISTORY"',
            'ALTER TABLE "shop"."orderlines" RENAME TO "shop"."orderLines"',
        ]
        for statement in renames:
            session.query(statement.replace('RENAME TO "shop".', "RENAME TO "))  # PostgreSQL takes the name only
        assert resume.read_state(session, config).edited == ""
        assert apply(session, config, renaming(folder, first), folder).target_rows == 3
        assert len(made(session)) == 2


def test_other_spelling_of_a_schema_is_named_by_the_plan(postgres_warehouse: PostgresWarehouse, folder: Folder) -> None:
    with postgres_warehouse.session() as session:
        load(session, folder, lines("upper", history=False))
        found = improvements(session, lines("preserve", history=False), None, COLUMNS, ("orderId",))
    assert [each.statement for each in found][-2:] == [
        'CREATE SCHEMA IF NOT EXISTS "Shop"',
        'ALTER TABLE "SHOP"."ORDERLINES" RENAME TO "Shop"."orderLines"',
    ]


def test_columns_that_differ_only_by_case_are_two_columns_under_preserve(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    config, columns = lines("preserve", history=False), (column("orderId"), column("note"), column("Note"))
    with postgres_warehouse.session() as session:
        first = increment(folder, columns, [("1", "a", "b", "5")], disposition=Disposition.REPLACE)
        apply(session, config, first, folder)
        second = increment(
            folder, columns, [("2", "c", "d", "6")], expected=1, expected_load_id=first.load_id, log_position=8
        )
        apply(session, config, second, folder)
        target = TableName("Shop", "orderLines")
        assert rows_of(session, target, ["note", "Note"]) == [("a", "b"), ("c", "d")]
        for names in ("upper", "lower"):
            refusing = lines(names, history=False, target_table="other")
            with pytest.raises(ConfigError, match=f"becomes '{written('note', refusing.names)}' in the target"):
                apply(session, refusing, first, folder)


def test_second_column_of_a_name_makes_the_run_read_the_whole_table(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    """The target's column NOTE holds the values of note, although it has the exact name of the new column."""
    config, columns = lines("preserve", history=False), (column("orderId"), column("note"), column("NOTE"))
    with postgres_warehouse.session() as session:
        first = increment(
            folder, (column("orderId"), column("note")), [("1", "a", "5")], disposition=Disposition.REPLACE
        )
        apply(session, lines("upper", history=False), first, folder)
        last = {"expected": 1, "expected_load_id": first.load_id}
        with pytest.raises(TargetChangedError, match="the target has no column note, but one whose name differs"):
            apply(session, config, increment(folder, columns, [("2", "c", "d", "6")], **last), folder)
        rows = [("1", "a", None, "5"), ("2", "c", "d", "6")]
        whole = increment(folder, columns, rows, disposition=Disposition.REPLACE, **last)
        assert apply(session, config, whole, folder).target == ("SHOP", "ORDERLINES")
        target = TableName("SHOP", "ORDERLINES")
        assert rows_of(session, target, ["ORDERID", "note", "NOTE"]) == [("1", "a", None), ("2", "c", "d")]


@pytest.mark.parametrize("names", STYLES)
def test_rename_that_changes_only_the_case_keeps_the_values(session: Session, folder: Folder, names: NameStyle) -> None:
    config = lines(names, history=False)
    first = load(session, folder, config)
    renamed = increment(
        folder,
        (column("orderId"), column("NOTE")),
        [("2", "c", "6")],
        evolution=Evolution(renamed={"Note": "NOTE"}),
        expected=1,
        expected_load_id=first.load_id,
    )
    apply(session, config, renamed, folder)
    target, wanted = TableName(*config.written_target), [written(name, names) for name in ("orderId", "NOTE")]
    assert columns_of(session, target) == wanted
    assert rows_of(session, target, wanted) == [("1", "a"), ("2", "c")]


def test_column_dropped_earlier_is_not_taken_for_one_whose_case_changes(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    config = lines("preserve", history=False)
    with postgres_warehouse.session() as session:
        columns = (column("orderId"), column("note"), column("Note"))
        first = increment(folder, columns, [("1", "a", "b", "5")], disposition=Disposition.REPLACE)
        apply(session, config, first, folder)
        dropped = increment(
            folder,
            (column("orderId"), column("Note")),
            [("2", "c", "6")],
            evolution=Evolution(dropped=("note",)),
            expected=1,
            expected_load_id=first.load_id,
        )
        apply(session, config, dropped, folder)
        target = TableName("Shop", "orderLines")
        assert rows_of(session, target, ["note", "Note"]) == [("a", "b"), (None, "c")]
        renamed = increment(
            folder,
            (column("orderId"), column("note")),
            [("3", "d", "7")],
            evolution=Evolution(renamed={"Note": "note"}),
            expected=2,
            expected_load_id=dropped.load_id,
        )
        with pytest.raises(TargetChangedError, match="renamed to note, but the target already has"):
            apply(session, config, renamed, folder)


def test_column_of_somebody_else_with_another_case_is_left_alone(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    config = lines("upper", history=False)
    with postgres_warehouse.session() as session:
        first = load(session, folder, config)
        session.query('ALTER TABLE "SHOP"."ORDERLINES" ADD COLUMN "orderId" VARCHAR')
        last = {"expected": 1, "expected_load_id": first.load_id}
        again = increment(folder, COLUMNS, [("2", "c", "6")], **last)
        assert apply(session, config, again, folder).updated == 1
        assert rows_of(session, TableName("SHOP", "ORDERLINES"), ["ORDERID", "orderId"]) == [("1", None), ("2", None)]


def test_column_that_would_be_written_under_the_name_of_another_is_an_error(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    with postgres_warehouse.session() as session:
        first = load(session, folder, lines("upper", history=False))
        session.query('ALTER TABLE "SHOP"."ORDERLINES" ADD COLUMN "orderId" VARCHAR')
        last = {"expected": 1, "expected_load_id": first.load_id}
        again = increment(folder, COLUMNS, [("2", "c", "6")], **last)
        with pytest.raises(WarehouseError, match="the last run wrote ORDERID, and this one would write orderId"):
            apply(session, lines("preserve", history=False), again, folder)
        assert rows_of(session, TableName("SHOP", "ORDERLINES"), ["ORDERID", "NOTE"]) == [("1", "a"), ("2", "b")]


def test_two_targets_that_differ_only_by_case_are_an_error(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    with postgres_warehouse.session() as session:
        load(session, folder, lines("upper", history=False))
        session.query('CREATE SCHEMA "shop"')
        session.query('CREATE TABLE "shop"."orderlines" AS SELECT * FROM "SHOP"."ORDERLINES"')
        with pytest.raises(WarehouseError, match=r"found the targets .*, which differ only by case; expected one"):
            resume.read_state(session, lines("preserve", history=False))


def test_table_of_somebody_else_with_another_case_is_left_alone(
    postgres_warehouse: PostgresWarehouse, folder: Folder
) -> None:
    with postgres_warehouse.session() as session:
        session.query('CREATE SCHEMA "shop"')
        session.query('CREATE TABLE "shop"."orderlines" ("ORDERID" VARCHAR)')
        load(session, folder, lines("upper", history=False))
        assert made(session) == {("shop", "orderlines"), ("SHOP", "ORDERLINES")}
        assert session.query('SELECT COUNT(*) FROM "shop"."orderlines"') == [(0,)]


def test_names_of_added_columns_are_refused_in_every_case(warehouse: Warehouse, folder: Folder) -> None:
    with warehouse.session() as session:
        manifest = increment(folder, (column("orderId"), column("_run_seq")), [("1", "a", "5")])
        with pytest.raises(ConfigError, match="'_run_seq' in the target, the name of a column that aurora_sync adds"):
            apply(session, lines("preserve"), replace(manifest, disposition=Disposition.REPLACE), folder)
