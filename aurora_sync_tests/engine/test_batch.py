from __future__ import annotations

from pathlib import Path

import pytest

from aurora_sync.config.loader import expand, from_mapping
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.batch import batches

TABLES = [
    {"table_name": "a", "watermark_type": "xmin"},
    {"table_name": "b", "watermark_type": "logical", "slot": "b"},
    {"table_name": "c", "watermark_type": "xmin"},
    {"table_name": "d", "watermark_type": "logical", "slot": "b"},
]


@pytest.fixture
def tables() -> tuple[TableConfig, ...]:
    return tuple(expand(from_mapping({"tables": TABLES}, Path("tables.yaml")), ()))


def test_tables_of_a_slot_are_one_batch_in_the_place_of_the_first(tables: tuple[TableConfig, ...]) -> None:
    a, b, c, d = tables
    assert batches(tables, tables) == [(a,), (b, d), (c,)]
    assert batches([d, c], tables) == [(b, d), (c,)]


def test_a_table_with_the_name_of_a_slot_is_a_batch_of_its_own(tables: tuple[TableConfig, ...]) -> None:
    a, b, *_ = tables
    named = a.model_copy(update={"table_name": "x"})
    slot = b.model_copy(update={"slot": named.qualified_name})
    assert batches([named, slot], [named, slot]) == [(named,), (slot,)]


def test_two_entries_of_one_table_are_two_batches(tables: tuple[TableConfig, ...]) -> None:
    first = tables[0]
    second = first.model_copy(update={"target_schema": "elsewhere"})
    assert batches([first, second, first], [first, second]) == [(first,), (second,)]


def test_many_tables_are_not_compared_with_each_other(
    tables: tuple[TableConfig, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def compared(*_: object) -> bool:
        raise AssertionError("a thousand tables would be compared half a million times")

    monkeypatch.setattr(TableConfig, "__eq__", compared)
    assert len(batches(tables, tables)) == 3
