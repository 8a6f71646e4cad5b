"""Tests of schema_changes.py by values, one for each row of its table; scenarios/schema_changes runs whole syncs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.errors import GuardError
from aurora_sync.model.certificate import Action
from aurora_sync.model.column import Column
from aurora_sync.model.watermark import Watermark
from aurora_sync.strategies.schema_changes import SchemaChanges, allowed, compare, known_columns, still_synced
from aurora_sync_tests.strategies.observations import at, watermark

ID = Column("id", 1, "integer", "int4", not_null=True)
NAME = Column("name", 2, "character varying(5)", "varchar")
ADDED = Column("added", 3, "text", "text", missing="x")
THEN = {"attributes": 2, "members": {"16400": 1}}


def stored(**token: Any) -> Watermark:
    mark = watermark("xmin", {}, at(xmin=1000, xmax=1100, token=THEN | token), "c")
    return replace(mark, columns=known_columns((ID, NAME), ("id",)))


def changes(
    *columns: Column, key: Sequence[str] = ("id",), older: Any = tuple, hidden: Sequence[Column] = (), **token: Any
) -> SchemaChanges:
    now = at(xmin=1050, xmax=1200, token=THEN | token)
    return compare(stored(), columns, key, now, in_source=(*columns, *hidden), older=older)


def found(*columns: Column, **options: Any) -> list[tuple[str, Action]]:
    return [(finding.event, finding.action) for finding in changes(*columns, **options).findings]


def test_nothing() -> None:
    assert changes(ID, replace(NAME, comment="the name", default="'x'")) == SchemaChanges()


def test_added() -> None:
    filled = changes(ID, NAME, ADDED)
    assert (filled.backfill, filled.findings[0].action) == ((ADDED,), Action.BACKFILL)
    assert "get 'x'" in filled.findings[0].text
    reseeded = [("column added", Action.RESEED)]
    assert found(ID, NAME, replace(ADDED, generated=True)) == reseeded
    assert found(ID, NAME, ADDED, members={"16400": 9}) == reseeded  # a rewrite moved the default into the rows
    assert found(ID, NAME, ADDED, older=lambda _: ()) == reseeded  # partitions have different defaults
    assert found(ID, NAME, replace(ADDED, policy="null")) == reseeded  # changed values have to be counted
    assert found(ID, NAME, replace(ADDED, base_type="_text", type_category="A")) == reseeded
    assert found(ID, NAME, ADDED, attributes=2, key=()) != []
    assert found(ID, NAME, replace(ADDED, attnum=2, name="other")) != []
    assert found(ID, replace(NAME, attnum=3)) == [("column dropped", Action.ADAPT), ("column added", Action.BACKFILL)]


def test_dropped_or_excluded() -> None:
    dropped = changes(ID)
    assert [(f.event, f.action) for f in dropped.findings] == [("column dropped", Action.ADAPT)]
    assert dropped.evolution.dropped == ("name",)
    assert not dropped.texts_stay
    assert found(ID, hidden=(NAME,)) == [("column excluded", Action.ADAPT)]


def test_renamed() -> None:
    renamed = changes(ID, replace(NAME, name="title"))
    assert renamed.evolution.renamed == {"name": "title"}
    assert renamed.texts_stay
    assert changes(ID, replace(NAME, name="Name")).evolution.renamed == {"name": "Name"}
    swapped = changes(replace(ID, name="name"), replace(NAME, name="id"), key=("name",))
    assert (swapped.evolution.renamed, swapped.evolution.rekeyed) == ({}, True)
    assert swapped.reseed


@pytest.mark.parametrize(
    ("type_name", "base_type", "action"),
    [
        ("text", "text", Action.ADAPT),
        ("character varying(3)", "varchar", Action.ADAPT),
        ("character(5)", "bpchar", Action.RESEED),
        ("integer", "int4", Action.RESEED),
    ],
)
def test_retyped(type_name: str, base_type: str, action: Action) -> None:
    column = replace(NAME, type_name=type_name, base_type=base_type)
    assert found(ID, column) == [("column type", action)]
    assert found(ID, column, members={"16400": 9}) == [("column type", Action.RESEED)]
    assert changes(ID, column).evolution.retyped == ("name",)


def test_others() -> None:
    assert found(ID, replace(NAME, not_null=True)) == [("not null", Action.GO_ON)]
    assert found(ID, replace(NAME, policy="text")) == [("policy", Action.RESEED)]
    assert found(ID, replace(NAME, generated=True, default="upper('a')")) == [("generated column", Action.RESEED)]
    assert found(ID, NAME, key=("name",)) == [("merge key", Action.RESEED)]
    assert found(ID, NAME, key=("id", "name")) == [("merge key", Action.RESEED)]
    assert changes(ID, NAME, key=()).evolution.former_key == ("id",)


def test_label_of_an_enum() -> None:
    mark = replace(stored(labels={"7": "red", "8": "blue"}))

    def now(labels: dict[str, str]) -> list[str]:
        moment = at(xmin=1050, xmax=1200, token=THEN | {"labels": labels})
        return [f.before for f in compare(mark, (ID, NAME), ("id",), moment, in_source=(ID, NAME)).findings]

    assert now({"7": "crimson", "8": "blue"}) == ["red"]
    assert now({"7": "red", "8": "blue", "9": "green"}) == []
    assert now({"7": "red"}) == []


def test_table_that_was_made_anew_is_compared_by_names() -> None:
    moment = {"table_oid": 99, "members": {"99": 1}}
    assert found(replace(ID, attnum=5), replace(NAME, attnum=1), **moment) == []
    assert found(ID, replace(NAME, name="title"), **moment) == [
        ("column dropped", Action.ADAPT),
        ("column included", Action.RESEED),
    ]


def test_modes() -> None:
    renamed = changes(ID, replace(NAME, name="title"))
    assert allowed(renamed, "apply", "public.t") == renamed
    for mode in ("freeze", "ignore"):
        with pytest.raises(GuardError, match=rf"public\.t: .* is {mode}: column renamed: name -> title"):
            allowed(renamed, mode, "public.t")
    dropped = allowed(changes(ID), "ignore", "public.t")
    assert dropped.evolution.dropped == ()
    assert [finding.action for finding in dropped.findings] == [Action.GO_ON]
    assert still_synced(stored(), (ID, NAME, ADDED), at(xmin=1, xmax=2, token=THEN)) == (ID, NAME)
    nullable = changes(ID, replace(NAME, not_null=True))
    assert allowed(nullable, "freeze", "public.t") == nullable
