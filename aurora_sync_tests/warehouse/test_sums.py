"""The sums of each warehouse equal PostgreSQL's, for every kind of key and every type that both sides print alike."""

from __future__ import annotations

import pytest

from aurora_sync.model.buckets import Buckets
from aurora_sync.warehouse.base import Session
from aurora_sync_tests.warehouse.increments import Folder
from aurora_sync_tests.warehouse.sides import WHOLE, Sides

ROWS = 40
# The columns of the key, and their values in row n.
KEYS = {
    "integer": ("id int", "(n - 20) * 107374182"),
    "smallest and largest": ("id bigint","n + CASE WHEN n < 20 THEN -9223372036854775808 ELSE 9223372036854775767 END"),
    "oid": ("id oid", "(4294967295 - n)::oid"),
    "numeric without a fraction": ("id numeric(10,0)", "n * 1000003"),
    "numeric": ("id numeric(10,2)", "(n - 20) / 4.0"),
    "text": ("id text", r"(ARRAY['', ' ', ':', 'ß', E'\U0001F926\U0001F3FC', E'e\u0301', E'a\nb', '\N'])[n%8+1]||n/8"),
    "char": ("id char(6)", "n"),
    "uuid": ("id uuid", "md5(n::text)::uuid"),
    "timestamptz": ("id timestamptz", "'1969-12-31 23:59:59.9+05:30'::timestamptz + n * interval '0.05 s'"),
    "bytea": ("id bytea", "decode(repeat('00ff', n), 'hex')"),
    "composite": ("id int, part text", "n / 8, repeat(':', n % 8)"),
    "composite with a boolean": ("id int, part boolean", "n / 2, n % 2 = 0"),
}  # fmt: skip
WIDTHS = [1, 64, 2**20, 2**44, 2**64]


@pytest.fixture
def sides(dsn: str, session: Session, folder: Folder) -> Sides:
    return Sides(dsn, session, folder)


def make(sides: Sides, kind: str) -> None:
    columns, values = KEYS[kind]
    sides.key = ("id", "part") if "part" in columns else ("id",)
    sides.execute(f"CREATE TABLE t ({columns}, v text, PRIMARY KEY ({', '.join(sides.key)}))")
    for first in (0, ROWS // 2):  # two transactions
        sides.execute(
            f"INSERT INTO t SELECT {values}, 'v' || n FROM generate_series({first}, {first + ROWS // 2 - 1}) n"
        )


@pytest.mark.parametrize("kind", KEYS)
def test_sums_agree_for_every_kind_of_key(sides: Sides, kind: str) -> None:
    make(sides, kind)
    sides.sync()
    with sides.comparison() as both:
        for width in WIDTHS:
            ours, theirs = both.versions(width)
            assert ours == theirs
            assert sum(count for count, *_ in ours.values()) == ROWS
            ours, theirs = both.contents(width)
            assert ours == theirs
        labels = tuple(sorted(both.versions(2**20)[0]))[::2]
        ours, theirs = both.versions(64, among=Buckets(2**20, labels))
        assert ours == theirs != {}


def test_integer_key_kept_as_text_is_its_own_number_too(sides: Sides) -> None:
    sides.column_types = {"id": "text"}
    make(sides, "integer")
    sides.sync()
    with sides.comparison() as both:
        for width in WIDTHS:
            ours, theirs = both.versions(width)
            assert ours == theirs
            ours, theirs = both.contents(width)
            assert ours == theirs
        assert set(both.versions(1)[0]) == {(n - 20) * 107374182 for n in range(ROWS)}


@pytest.mark.parametrize("kind", ["integer", "text", "composite"])
def test_staged_rows_count_as_if_they_were_merged(sides: Sides, kind: str) -> None:
    make(sides, kind)
    sides.sync()
    sides.execute("UPDATE t SET v = v || '!' WHERE v LIKE '%7'")
    ours, theirs = sides.versions(64)
    assert ours != theirs
    ours, theirs = sides.versions(64, staged="v LIKE '%!'")
    assert ours == theirs
    ours, theirs = sides.versions(64, staged="true")
    assert ours == theirs


PORTABLE = {
    "i2 smallint": ["0", "-32768"],
    "i8 bigint": ["-9223372036854775808", "9223372036854775807"],
    "o oid": ["0", "4294967295"],
    "n numeric(10,2)": ["-0.05", "0", "99999999.99"],
    "whole numeric(38,0)": ["-999999999999999999", "0"],
    "fraction numeric(2,2)": ["0.5", "-0.05", "0", "0.99"],
    "tenths numeric(1,1)": ["-0.9", "0.1"],
    "deep numeric(38,37)": ["-0.5", "9.0000000000000000000000000000000000001"],
    "free numeric": ["1e40", "NaN", "1.500"],
    "t text": ["", "NULL", " ", "N", "1:a", "Größe", "\U0001f926\U0001f3fc e\u0301", 'a\n"b",\\N', "\\"],
    "c char(5)": ["", "ab", "é"],
    "b boolean": ["t", "f"],
    "d date": ["0001-01-01", "1582-10-10", "9999-12-31"],
    "ti time": ["00:00:00", "23:59:59.999999", "12:00:00.1"],
    "ts timestamp": ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999", "2024-02-29 12:00:00.5"],
    "tz timestamptz": ["1969-12-31 23:59:59.000001+00", "2024-02-29 12:00:00.1+05:30", "2024-01-01 00:00:00+00"],
    "by bytea": ["\\x", "\\x00ff5c22"],
    "u uuid": ["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"],
    "j json": ['{"b": 1.50,  "a": 1, "a": 2}'],
    "iv interval": ["1 mon -3 days 00:00:00.1"],
    "a int[]": ["{}", "{1,NULL,-3}"],
    "cc public.pair": ["(,)", "(1,)", "(1,a)", '(,"a,b")'],
}  # fmt: skip


@pytest.fixture
def portable(sides: Sides) -> Sides:
    """Return a row for each value of PORTABLE, with NULL in all other columns."""
    sides.execute("CREATE TYPE public.pair AS (x int, y text)")
    sides.execute(f"CREATE TABLE t (id int PRIMARY KEY, {', '.join(PORTABLE)}, f8 float8 DEFAULT 0.1)")
    cases = [(column.split()[0], value) for column, values in PORTABLE.items() for value in values]
    for number, (name, value) in enumerate(cases):
        sides.execute(f"INSERT INTO t (id, {name}) VALUES (%s, %s)", (number, value))
    sides.execute("INSERT INTO t (id) VALUES (-1)")
    sides.sync()
    return sides


def test_contents_of_every_portable_type_agree(portable: Sides) -> None:
    ours, theirs = portable.contents(1)
    assert ours == theirs
    assert len({tuple(sums) for label, sums in ours.items() if label >= 0}) == len(ours) - 1


def test_composite_value_of_nulls_is_not_null(portable: Sides) -> None:
    """In PostgreSQL ``(1,) IS NOT NULL`` is false; a target that lost such a value would look equal."""
    before = portable.contents(1)[0]
    portable.execute("UPDATE t SET cc = NULL WHERE cc::text IN ('(,)', '(1,)')")
    after = portable.contents(1)[0]
    assert sum(before[label] != after[label] for label in before) == 2


EDITS = [
    "UPDATE {t} SET \"V\" = 'other' WHERE \"V\" = 'v7'",
    'UPDATE {t} SET "V" = NULL WHERE "V" = \'v7\'',
    'UPDATE {t} SET "_SRC_XMIN" = "_SRC_XMIN" + 1 WHERE "V" = \'v7\'',
    "DELETE FROM {t} WHERE \"V\" = 'v39'",
    'INSERT INTO {t} ("ID", "V", "_SRC_XMIN") SELECT 99, "V", "_SRC_XMIN" FROM {t} WHERE "V" = \'v7\'',
    # One lost row and one ghost of one transaction: the number of rows and the sum of versions stay.
    'UPDATE {t} SET "ID" = 99 WHERE "V" = \'v7\'',
]


@pytest.mark.parametrize("kind", ["integer", "numeric without a fraction"])
@pytest.mark.parametrize("edit", EDITS)
def test_any_edit_of_the_target_is_noticed(sides: Sides, kind: str, edit: str) -> None:
    """An edit is noticed even when it leaves _KEY_NO unchanged, and when all rows are in one bucket."""
    make(sides, kind)
    sides.sync()
    sides.session.modify(edit.format(t='"PUBLIC"."T"'))
    with sides.comparison() as both:
        noticed = [(ours != theirs) for ours, theirs in (both.versions(2**64), both.contents(2**64))]
    by_versions = '"_SRC_XMIN"' in edit or '"ID"' in edit or "DELETE" in edit
    if kind != "integer" and edit.startswith('UPDATE {t} SET "ID"'):
        by_versions = False  # the bucket comes from _KEY_NO, which the edit left unchanged: only contents differ
    assert noticed == [by_versions, '"_SRC_XMIN" +' not in edit]


def test_row_without_a_key_number_lies_in_bucket_zero(sides: Sides) -> None:
    """A reconcile finds the row there, and rewrites or removes it."""
    make(sides, "text")
    sides.sync()
    sides.session.modify('UPDATE "PUBLIC"."T" SET "_KEY_NO" = NULL WHERE "V" = \'v7\'')
    with sides.comparison() as both:
        ours, theirs = both.versions(1)
        assert len(set(ours) - set(theirs)) == 1
        assert set(theirs) - set(ours) == {0}
        assert both.versions(1, among=Buckets(1, (0,)))[1].keys() == {0}
    assert sides.versions(1, among=WHOLE, staged="v = 'v7'")[1] == ours
