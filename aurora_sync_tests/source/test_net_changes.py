"""A sequence of changes and its net changes, applied to a table, end in the same rows."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aurora_sync.errors import DefectError, GuardError
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Part
from aurora_sync.source.logical.pgoutput import UNCHANGED
from aurora_sync.source.net_changes import NetChanges

COLUMNS = (
    Column("id", 1, "integer", "int4"),
    Column("name", 2, "text", "text"),
    Column("doc", 3, "text", "text"),
)
_ROW = re.compile(r'(?:[^"\n]|"(?:[^"]|"")*")*\n')
_FIELD = re.compile(r'(?:(?<=,)|^)((?:"(?:[^"]|"")*")?)(?=,|$)')
Table = dict[bytes, tuple[bytes | None, ...]]


def net(longest: int | None = None) -> NetChanges:
    return NetChanges("public.t", COLUMNS, ["id"], longest)


def rows_of(changes: NetChanges, part: int = 0) -> tuple[list[list[str | None]], Part]:
    written = io.BytesIO()
    found = changes.write(written.write, part)
    return [list(fields(line)) for line in _ROW.findall(written.getvalue().decode())], found


def fields(row: str) -> Iterator[str | None]:
    for field in _FIELD.findall(row.removesuffix("\n")):
        yield field[1:-1].replace('""', '"') if field else None


def apply(table: Table, rows: list[list[str | None]], part: Part) -> Table:
    """Apply net changes to a table as warehouse/dispositions/changes.py does."""
    before = {} if part.truncated else dict(table)
    after = dict(before)
    upserts = [row for row in rows if row[4] == "U"]
    assert part.partial == sum(row[5] is not None for row in upserts)
    for id_, name, doc, _, _, known, _, origin in upserts:
        values = [value.encode() if value is not None else None for value in (id_, name, doc)]
        if known is not None:
            assert origin is not None
            kept = before[origin.encode()]
            values = [old if flag == "0" else new for new, old, flag in zip(values, kept, known, strict=True)]
        after[str(id_).encode()] = tuple(values)
    for id_, *_, operation, _known, _part, _origin in rows:
        if operation == "D":
            after.pop(str(id_).encode(), None)
    return after


KEYS = st.sampled_from([b"1", b"2", b"3", b"4"])
VALUES = st.sampled_from([None, b"", b"a", b'"q",\n', b"long"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "update", "update", "move", "move", "delete", "truncate", "cut"]),
        KEYS,
        KEYS,
        VALUES,
        st.none() | VALUES.map(lambda value: (value,)),
    ),
    max_size=30,
)


@settings(max_examples=400)
@given(STEPS)
def test_any_changes_end_in_the_same_rows(steps: list[Any]) -> None:
    """``doc`` is stored out of line, so an update that does not change it does not repeat it."""
    source: Table = {b"1": (b"1", b"one", b"first"), b"2": (b"2", None, b"second")}
    target, changes, part = dict(source), net(), 0
    for kind, key, other, name, doc in steps:
        if kind == "cut":
            target = apply(target, *rows_of(changes, part))
            part += 1
        elif kind == "insert" and key not in source:
            source[key] = (key, name, doc and doc[0])
            changes.insert(source[key], 7, 10)
        elif kind == "update" and key in source:
            sent = (key, name, doc[0] if doc else UNCHANGED)
            source[key] = (key, name, doc[0] if doc else source[key][2])
            changes.update(sent, 7, 10)
        elif kind == "move" and key in source and other not in source:
            sent = (other, name, doc[0] if doc else UNCHANGED)
            source[other] = (other, name, doc[0] if doc else source.pop(key)[2])
            source.pop(key, None)
            changes.update(sent, 7, 10, (key,))
        elif kind == "delete" and key in source:
            del source[key]
            changes.delete((key,))
        elif kind == "truncate":
            source.clear()
            changes.truncate()
    assert apply(target, *rows_of(changes, part)) == source
    assert (bool(changes), changes.bytes) == (False, 0)


def test_row_is_written_with_what_the_warehouse_needs() -> None:
    changes = net()
    changes.insert((b"1", b'say "hi"', None), 700, 20)
    changes.update((b"2", b"", UNCHANGED), 701, 20)
    changes.update((b"4", None, UNCHANGED), 702, 20, (b"3",))
    changes.delete((b"9",))
    written = io.BytesIO()
    assert changes.write(written.write, 5) == Part(partial=2)
    assert written.getvalue().decode().splitlines() == [
        '"1","say ""hi""",,"700","U",,"5",',
        '"2","",,"701","U","110","5","2"',
        '"3",,,"0","D",,"5",',
        '"4",,,"702","U","110","5","3"',
        '"9",,,"0","D",,"5",',
    ]


def test_key_that_is_stored_out_of_line_comes_from_the_old_one() -> None:
    changes = net()
    changes.update((UNCHANGED, b"x", b"y"), 7, 10, (b"1",))
    assert rows_of(changes) == ([["1", "x", "y", "7", "U", None, "0", None]], Part())


def test_size_is_that_of_the_pending_changes() -> None:
    changes = net()
    for _ in range(1000):
        changes.update((b"1", b"a", b"b"), 7, 50)
    assert changes.bytes == 50
    changes.delete((b"1",))
    assert changes.bytes == 0


def test_update_of_a_row_that_is_gone_is_a_defect() -> None:
    changes = net()
    changes.delete((b"1",))
    with pytest.raises(DefectError, match="deleted before"):
        changes.update((b"1", b"a", b"b"), 7, 10)


def test_arrays_become_json() -> None:
    column = Column("tags", 2, "text[]", "_text", type_category="A")
    changes = NetChanges("public.t", (COLUMNS[0], column), ["id"])
    changes.insert((b"1", b'{"a b",NULL}'), 7, 10)
    assert rows_of(changes)[0][0][:2] == ["1", '["a b",null]']


@pytest.mark.parametrize(("policy", "expected"), [("null", None), ("clamp", "é" * 25)])
def test_value_too_long_for_a_warehouse(policy: str, expected: str | None) -> None:
    changes = NetChanges("public.t", (COLUMNS[0], Column("doc", 2, "text", "text", policy=policy)), ["id"], 100)
    changes.insert((b"1", ("é" * 51).encode()), 7, 10)
    changes.insert((b"2", b"x" * 100), 7, 10)
    rows, _ = rows_of(changes)
    assert [row[1] for row in rows] == [expected, "x" * 100]
    (adjusted,) = changes.adjusted
    assert (adjusted.column, adjusted.values, adjusted.examples) == ("doc", 1, ("102 bytes of 1",))
    strict = net(100)
    strict.insert((b"1", b"x", b"y" * 101), 7, 10)
    with pytest.raises(GuardError, match="column doc has values longer than") as raised:
        rows_of(strict)
    assert raised.value.values == "doc: 101 bytes of 1"
    both = net(100)
    both.insert((b"1", b"x" * 102, b"y" * 101), 7, 10)
    with pytest.raises(GuardError, match="of the warehouse; column doc has values longer than") as raised:
        rows_of(both)
    assert raised.value.values.endswith("102 bytes of 1; doc: 101 bytes of 1")


def test_zero_and_minus_zero_are_one_key_of_a_float_and_two_of_a_text() -> None:
    value = Column("v", 2, "integer", "int4")
    for policy, left in (("exact", [["-0", "2", "U"]]), ("text", [["0", None, "D"], ["-0", "2", "U"]])):
        key = Column("id", 1, "double precision", "float8", policy=policy)
        changes = NetChanges("public.t", (key, value), ["id"])
        changes.insert((b"0", b"1"), 1, 0)
        changes.update((b"-0", b"2"), 1, 0, (b"0",))
        rows, _ = rows_of(changes)
        assert [[id_, v, operation] for id_, v, _, operation, *_ in rows] == left
