from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight
from aurora_sync.model.column import Column
from aurora_sync.model.relation import Index, SourceTable
from aurora_sync.strategies import strategy_for


def table(*columns: str, key: str | None = "id", **values: Any) -> SourceTable:
    """Return a table of NOT NULL bigint columns with a primary key. ``name?`` may be NULL."""
    described = tuple(
        Column(name.removesuffix("?"), number, "bigint", "int8", not_null=not name.endswith("?"))
        for number, name in enumerate(columns or ("id", "code?", "amount?"), start=1)
    )
    indexes = values.pop("indexes", (index(key, primary=True),) if key else ())
    return SourceTable("public", "orders", 1, values.pop("kind", "r"), described, indexes, ("r",), **values)


def index(*columns: str, **values: Any) -> Index:
    made = Index(columns, unique=True, primary=False, immediate=True, partial=False)
    return replace(made, **values)


def config(**keys: Any) -> TableConfig:
    return TableConfig.model_validate({"table_name": "orders", "watermark_type": "xmin", **keys})


def problems(source: SourceTable | None, **keys: Any) -> list[str]:
    chosen = config(**keys)
    return preflight.problems(chosen, source, strategy_for(chosen.watermark_type.value))


VIEW = table("id", "amount?", key=None, kind="v")


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        (table(), {}),
        (table(), {"watermark_type": "full_snapshot"}),
        (table(), {"watermark_type": "integer", "watermark_col": "id"}),
        (table("b", "a", indexes=(index("a", "b", primary=True),)), {"primary_key": ["b", "a"]}),
        (table(key=None, indexes=(index("id"),)), {"primary_key": "id"}),
        (table(key=None), {"watermark_type": "full_snapshot"}),
        (table(key=None), {"append_only": True}),
        (table(key=None, inherits=True), {"watermark_type": "full_snapshot"}),
        (table(inherits=True), {"watermark_type": "full_snapshot"}),
        (VIEW, {"watermark_type": "full_snapshot"}),
        (VIEW, {"watermark_type": "full_snapshot", "primary_key": "id"}),
        (table("id", "ID_2", "_deleted?"), {"columns": {"exclude": "_*"}}),
        (table(readable=True, select_on_table=True), {"columns": {"exclude": ["pass*", "c[o]de"]}}),
    ],
)
def test_a_table_that_fits_has_no_problems(source: SourceTable, keys: dict[str, Any]) -> None:
    assert problems(source, **keys) == []


def test_a_table_that_does_not_exist_is_the_only_problem() -> None:
    (found,) = problems(None, primary_key="nonsense")
    assert found.startswith("found no such table, view or foreign table")


def test_every_problem_of_a_table_is_named_at_once() -> None:
    source = table("id", "ID?", "_run_seq?", key=None, row_security=True, select_on_table=False)
    found = problems(source, column_types={"di": "text"})
    assert [text.split(" ")[0] for text in found] == ["row-level", "this", "column_types:", "found", "column", "column"]


@pytest.mark.parametrize("kind", ["v", "m", "f"])
def test_a_view_or_foreign_table_under_xmin_is_pointed_to_full_snapshot(kind: str) -> None:
    found = problems(replace(VIEW, kind=kind), primary_key="id")
    assert len(found) == 1
    assert "use watermark_type: full_snapshot" in found[0]


# Columns


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        (
            {"watermark_type": "integer", "watermark_col": "amuont"},
            "watermark_col: the table has no column amuont; did you mean amount?",
        ),
        ({"column_types": {"xyz": "text"}}, "column_types: the table has no column xyz; it has id, code, amount"),
        ({"columns": {"exclude": ["codes"]}}, "columns.exclude: the table has no column codes; did you mean code?"),
        (
            {"columns": {"include": ["id", "amount", "cod"]}},
            "columns.include: the table has no column cod; did you mean code?",
        ),
        (
            {"columns": {"include": "x*"}},
            "columns: include and exclude leave no column to sync; change them so that at least one column remains",
        ),
        ({"columns": {"exclude": "i?"}}, "columns: id is excluded, but belongs to the merge key; include it"),
        (
            {"watermark_type": "integer", "watermark_col": "amount", "columns": {"include": ["id", "code"]}},
            "columns: amount is excluded, but belongs to the watermark; include it",
        ),
        ({"primary_key": ["id", "line"]}, "primary_key: the table has no column line; it has id, code, amount"),
    ],
)
def test_unknown_and_missing_columns_are_refused(keys: dict[str, Any], problem: str) -> None:
    assert problems(table(), **keys) == [problem]


def test_every_unknown_watermark_column_is_named() -> None:
    found = problems(table(), watermark_type="composite", watermark_cols=["updated_at", "idd"])
    assert found[:2] == [
        "watermark_cols: the table has no column updated_at; it has id, code, amount",
        "watermark_cols: the table has no column idd; did you mean id?",
    ]


def test_a_watermark_column_of_the_wrong_type_is_refused_by_its_strategy() -> None:
    found = problems(table(), watermark_type="timestamp", watermark_col="amount")
    assert len(found) == 1
    assert "amount" in found[0]


def test_columns_are_selected_by_names_and_globs_in_the_order_of_the_table() -> None:
    source = replace(table("c", "a*", "b_1", "b_2"), columns=tuple(reversed(table("c", "a*", "b_1", "b_2").columns)))

    def selected(**columns: Any) -> list[str]:
        return [column.name for column in preflight.selected_columns(config(columns=columns), source)]

    assert selected() == ["c", "a*", "b_1", "b_2"]
    assert selected(include=["b_*", "c"], exclude="*_2") == ["c", "b_1"]
    assert selected(exclude="a[*]") == ["c", "b_1", "b_2"]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        (("id", "Name", "name"), "column name would be NAME in the target, the name of column Name"),
        (
            ("id", "_synced_at"),
            "column _synced_at would be _SYNCED_AT in the target, the name of a column that aurora_sync adds",
        ),
    ],
)
def test_columns_that_collide_when_folded_are_refused(columns: tuple[str, ...], problem: str) -> None:
    (found,) = problems(table(*columns))
    assert found.startswith(problem)


def test_only_ascii_letters_are_folded() -> None:
    assert problems(table("id", "größe", "GRÖSSE", "GRöße")) == [
        "column GRöße would be GRößE in the target, the name of column größe; exclude one of them with "
        "columns.exclude, or rename it in a view and sync the view"
    ]
    assert problems(table("id", "ä", "Ä")) == []


# The merge key


def test_the_merge_key_is_what_is_declared_or_else_the_primary_key() -> None:
    source = table("a", "b", "c", indexes=(index("b", "a", primary=True), index("c")))
    assert preflight.merge_key(config(), source) == ("b", "a")
    assert preflight.merge_key(config(primary_key="c"), source) == ("c",)
    assert preflight.merge_key(config(), table(key=None)) == ()


@pytest.mark.parametrize(
    ("backing", "fault"),
    [
        (index("id", immediate=False), "its constraint is deferrable"),
        (index("id", partial=True), "its index is partial"),
        (index("id", valid=False), "its index is invalid"),
        (index("code"), "code may be NULL"),
    ],
)
def test_a_declared_key_whose_index_cannot_hold_it_is_refused_and_another_is_offered(
    backing: Index, fault: str
) -> None:
    source = table("id", "code?", "other", indexes=(backing, index("other")))
    (found,) = problems(source, primary_key=list(backing.columns))
    assert found.startswith(f"primary_key {backing.columns[0]}: not usable as merge key: {fault}")
    assert found.endswith("primary_key: [other] is possible")


@pytest.mark.parametrize(
    "indexes",
    [(), (index("id", unique=False),), (index("id", "code"),), (index("id", ""),)],
    ids=["no index", "not unique", "more columns", "an expression"],
)
def test_a_declared_key_without_a_unique_index_on_exactly_its_columns_is_refused(indexes: tuple[Index, ...]) -> None:
    (found,) = problems(table("id", "code", indexes=indexes), primary_key="id")
    assert found.startswith("primary_key id: found no unique index on exactly these columns")


def test_one_sound_index_is_enough_beside_an_unsound_one() -> None:
    source = table(indexes=(index("id", immediate=False), index("id")))
    assert problems(source, primary_key="id") == []


@pytest.mark.parametrize("watermark", [{"watermark_type": "integer", "watermark_col": "id"}, {}])
def test_a_table_without_a_key_needs_full_snapshot_or_append_only(watermark: dict[str, Any]) -> None:
    (found,) = problems(table(key=None), **watermark)
    assert found.startswith("found no merge key, it has no primary key")
    assert "or use full_snapshot, or xmin with append_only: true" in found


@pytest.mark.parametrize("watermark", [{"watermark_type": "integer", "watermark_col": "id"}, {}])
@pytest.mark.parametrize("kind", ["v", "m", "f"])
def test_what_is_no_table_is_told_of_no_append_only_and_of_no_index(watermark: dict[str, Any], kind: str) -> None:
    """Only rows with an xmin can be appended, and a view has no index."""
    found = " ".join(problems(replace(table(key=None, kind=kind), member_kinds=(kind,)), **watermark))
    assert "set primary_key to columns that are unique and never NULL" in found
    assert "or use full_snapshot" in found
    assert "append_only" not in found
    assert "unique index" not in found


@pytest.mark.parametrize(
    ("source", "keys"), [(table(), {}), (table(key=None, indexes=(index("id"),)), {"primary_key": "id"})]
)
def test_append_only_is_refused_where_there_is_a_key(source: SourceTable, keys: dict[str, Any]) -> None:
    """An updated row would be appended a second time, beside its old version."""
    assert problems(source, append_only=True, **keys) == [
        "append_only: the table has a merge key (id), so updates are found as well; remove append_only"
    ]


def test_a_deferrable_primary_key_serves_no_increment_and_is_no_key_of_a_full_snapshot() -> None:
    source = table(indexes=(index("id", primary=True, immediate=False),))
    (found,) = problems(source)
    assert found.startswith("found no merge key, its primary key is not usable: its constraint is deferrable")
    assert preflight.merge_key(config(watermark_type="full_snapshot"), source) == ()
    assert problems(source, watermark_type="full_snapshot") == []


@pytest.mark.parametrize("keys", [{}, {"append_only": True}, {"watermark_type": "full_snapshot", "primary_key": "id"}])
def test_a_parent_of_inherited_tables_needs_a_full_snapshot_without_a_key(keys: dict[str, Any]) -> None:
    (found,) = problems(table(inherits=True), **keys)
    assert found.startswith(
        "it has children by INHERITS, and its keys do not cover their rows; use watermark_type: full_"
    )


# Privileges of the role


def test_row_level_security_is_refused() -> None:
    (found,) = problems(table(row_security=True))
    assert found.startswith("row-level security applies to this role")


@pytest.mark.parametrize(
    "source",
    [
        table(select_on_table=False),
        table(readable=False, select_on_table=False),
        replace(VIEW, readable=False, select_on_table=False),
    ],
    ids=["grants on columns", "no grant", "a view"],
)
def test_a_missing_select_privilege_is_refused(source: SourceTable) -> None:
    (found,) = problems(source, watermark_type="full_snapshot")
    assert found.startswith("this role may not SELECT from it")


@pytest.mark.parametrize("keys", [{"types": {"text": "clamp"}}, {"column_types": {"id": "null"}}])
def test_text_of_the_merge_key_is_neither_cut_nor_left_out(keys: dict[str, Any]) -> None:
    source = table()
    key, *others = source.columns
    text = replace(key, type_name="text", base_type="text", type_category="S")
    (found,) = problems(replace(source, columns=(text, *others)), **keys)
    assert found.startswith(f"{next(iter(keys))}: id belongs to the merge key")
