"""Parts of a change stream, applied to every warehouse."""

from __future__ import annotations

from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import DefectError, RivalRunError, TargetChangedError
from aurora_sync.model.manifest import Disposition, Part
from aurora_sync.warehouse import resume
from aurora_sync.warehouse.apply import apply_all
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.prepare import StagedIncrement
from aurora_sync_tests.warehouse.increments import Folder, column
from aurora_sync_tests.warehouse.test_apply import Table, counts

COLUMNS = (column("id", "int8"), column("name"), column("doc"))


def upsert(*values: str | None, known: str | None = None, part: int = 0, origin: str | None = None) -> Any:
    return (*values, "9", "U", known, str(part), origin)


def gone(id_: str, part: int = 0) -> Any:
    return (id_, None, None, "9", "D", None, str(part), None)


class Changing(Table):
    def change(self, *rows: Any, parts: tuple[Part, ...] = (Part(),)) -> tuple[int, int, int, int]:
        return counts(self.apply(self.manifest(rows, Disposition.CHANGES, parts=parts)))


@pytest.fixture(params=["hard", "soft"])
def config(request: pytest.FixtureRequest) -> TableConfig:
    return TableConfig(table_name="orders", watermark_type="xmin", deletes=request.param)


@pytest.fixture
def table(session: Session, folder: Folder, config: TableConfig) -> Changing:
    table = Changing(session, folder, config, COLUMNS)
    table.replace(("1", "a", "x", "5"), ("2", "b", "y", "5"), ("3", None, "z", "5"))
    return table


def present(table: Table) -> list[Any]:
    marks = ' WHERE "_DELETED" IS DISTINCT FROM TRUE' if table.config.deletes == "soft" else ""
    return sorted(table.session.query(f'SELECT "ID", "NAME", "DOC" FROM "PUBLIC"."ORDERS"{marks}'), key=repr)


def test_rows_are_inserted_updated_and_deleted(table: Changing) -> None:
    assert table.change(upsert("4", "d", None), upsert("2", "B", "y"), gone("1"), gone("77")) == (1, 1, 1, 3)
    assert present(table) == [(2, "B", "y"), (3, None, "z"), (4, "d", None)]


def test_column_that_the_stream_does_not_repeat_stays_as_it_is(table: Changing) -> None:
    changes = upsert("2", "B", None, known="110", origin="2")
    assert table.change(changes, parts=(Part(partial=1),)) == (0, 1, 0, 3)
    assert present(table) == [(1, "a", "x"), (2, "B", "y"), (3, None, "z")]


def test_row_whose_key_changed_takes_along_what_the_stream_does_not_repeat(table: Changing) -> None:
    changes = (gone("2"), upsert("9", "b", None, known="110", origin="2"))
    assert table.change(*changes, parts=(Part(partial=1),)) == (1, 0, 1, 3)
    assert present(table) == [(1, "a", "x"), (3, None, "z"), (9, "b", "y")]


def test_two_rows_that_swap_their_keys_take_along_theirs(table: Changing) -> None:
    swap = (upsert("1", "b", None, known="110", origin="2"), upsert("2", "a", None, known="110", origin="1"))
    table.change(*swap, parts=(Part(partial=2),))
    assert present(table) == [(1, "b", "y"), (2, "a", "x"), (3, None, "z")]


def test_parts_are_applied_in_order(table: Changing) -> None:
    changes = (
        *(upsert("1", "first", "x"), upsert("7", "seven", "doc"), gone("2")),
        *(upsert("1", "second", None, known="110", part=1, origin="1"), gone("7", part=1)),
        upsert("2", "again", None, part=1),
    )
    table.change(*changes, parts=(Part(), Part(partial=1)))
    assert present(table) == [(1, "second", "x"), (2, "again", None), (3, None, "z")]
    table.upsert(("3", "after", "z", "11"))  # the next run finds the target unchanged
    assert (3, "after", "z") in present(table)


def test_run_whose_rows_are_all_deleted_again_leaves_the_target_as_the_next_expects_it(table: Changing) -> None:
    table.change(upsert("7", "seven", "doc"), gone("7", part=1), parts=(Part(), Part()))
    table.upsert(("3", "after", "z", "11"))
    assert present(table) == [(1, "a", "x"), (2, "b", "y"), (3, "after", "z")]


def test_truncate_comes_before_what_was_written_after_it(table: Changing) -> None:
    assert table.change(upsert("3", "c", "new"), parts=(Part(truncated=True),))[3] == 1
    assert present(table) == [(3, "c", "new")]


def test_missing_column_of_a_row_that_the_target_lacks_is_an_error_and_changes_nothing(table: Changing) -> None:
    before = present(table)
    with pytest.raises(TargetChangedError, match="1 updated rows"):
        table.change(gone("1"), upsert("55", "b", None, known="110", origin="55"), parts=(Part(partial=1),))
    assert present(table) == before


def test_update_of_a_row_that_is_marked_as_deleted_is_an_error(table: Changing) -> None:
    table.change(gone("1"))
    with pytest.raises(TargetChangedError, match="1 updated rows"):
        table.change(upsert("1", "b", None, known="110", origin="1"), parts=(Part(partial=1),))


def test_part_that_does_not_say_that_it_is_partial_is_a_defect(table: Changing) -> None:
    before = present(table)
    with pytest.raises(DefectError, match="staged changes are partial, but the manifest counts 0"):
        table.change(upsert("2", "B", None, known="110", origin="2"))
    assert present(table) == before


def test_tables_of_one_transaction_are_applied_all_or_none(table: Changing, folder: Folder) -> None:
    other = Changing(table.session, folder, TableConfig(table_name="lines", watermark_type="xmin"), COLUMNS)
    other.replace(("1", "a", "x", "5"))

    def increments() -> list[StagedIncrement]:
        return [
            StagedIncrement(
                t.config, t.manifest([upsert("8", "h", "i")], Disposition.CHANGES, parts=(Part(),)), "logical"
            )
            for t in (table, other)
        ]

    stale = increments()
    first, second = apply_all(table.session, increments(), folder)
    assert (first.target_rows, second.target_rows) == (4, 2)
    table.sequence += 1
    table.load_id = resume.read_state(table.session, table.config).load_id
    with pytest.raises(RivalRunError):
        apply_all(table.session, [increments()[0], stale[1]], folder)
    assert resume.read_state(table.session, table.config).run_sequence == 2


def test_row_that_a_later_part_deletes_from_a_target_that_was_empty_is_not_counted(
    session: Session, folder: Folder, config: TableConfig
) -> None:
    table = Changing(session, folder, config, COLUMNS)
    table.replace()
    changes = (upsert("1", "a", "x"), upsert("2", "b", "y"), gone("1", part=1))
    assert table.change(*changes, parts=(Part(), Part()))[3] == 1
    assert resume.read_state(table.session, config).edited == ""
