from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from aurora_sync.stage import layout

NOW = datetime(2026, 11, 23, 1, 2, 3, tzinfo=UTC)
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=70)


def test_prefix_is_readable_for_ordinary_names() -> None:
    assert layout.attempt_prefix("p/", "public.orders", "0a1b2c", NOW) == "p/public.orders/20261123T010203Z-0a1b2c/"
    assert layout.part_name(12) == "part-00012.csv.zst"


@given(NAMES, NAMES)
def test_two_tables_never_share_a_prefix(one: str, other: str) -> None:
    first, second = layout.table_prefix("p/", one), layout.table_prefix("p/", other)
    assert (one == other) == (first == second)
    assert one == other or not first.startswith(second)


@given(NAMES)
def test_keys_hold_only_characters_that_s3_takes_literally(name: str) -> None:
    assert set(layout.table_prefix("", name)) <= set(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-%/"
    )


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(1, 10**6))
def test_attempts_sort_by_time(at: datetime, later: int) -> None:
    at = at.replace(tzinfo=UTC)
    first = layout.attempt_prefix("", "t", layout.new_load_id(), at)
    second = layout.attempt_prefix("", "t", layout.new_load_id(), at + timedelta(seconds=later))
    assert first < second


def test_load_ids_differ() -> None:
    assert len({layout.new_load_id() for _ in range(1000)}) == 1000


@given(st.integers(0, 9_999_999_998), st.integers(0, 10**9))
def test_hint_of_a_later_run_or_moment_sorts_first(sequence: int, milliseconds: int) -> None:
    key = layout.hint_key("p/", "t", sequence, NOW)
    assert layout.hint_sequence(key) == sequence
    assert layout.hint_key("p/", "t", sequence + 1, NOW - timedelta(milliseconds=milliseconds)) < key
    assert layout.hint_key("p/", "t", sequence, NOW + timedelta(milliseconds=milliseconds + 1)) < key


def test_key_that_is_no_hint_has_no_sequence() -> None:
    assert layout.hint_sequence("p/t/applied/readme.txt") is None


def test_key_of_a_file_is_known_compressed_or_not() -> None:
    prefix = layout.attempt_prefix("p/", "public.orders", "0a1b2c3d4e5f", NOW)
    for name in ("part-00000.csv.zst", "part-00000.csv", "history-00000.csv.zst", "manifest.json"):
        found = layout.attempt_key("p/", prefix + name)
        assert found
        assert found.name == name
    assert layout.attempt_key("p/", f"{prefix}part-00000.csv.gz") is None
