"""One test for each row of the table in identity.py."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aurora_sync.errors import Kind, SourceError
from aurora_sync.increment import Column
from aurora_sync.strategies import strategy_for
from aurora_sync.strategies.identity import Verdict, covers, judge
from aurora_sync_tests.strategies.observations import at, config, watermark

SEEN = at(xmin=1000, xmax=1100)


def verdict(now: Any, *, covered: str = "c") -> Verdict:
    return judge(watermark("xmin", {}, SEEN, "c"), now, covered)


def test_first_run_has_nothing_to_go_on_from() -> None:
    assert judge(None, SEEN, "c") == Verdict(None)


def test_same_source_goes_on() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200))
    assert found.since is not None
    assert not found.since.restarted
    assert found.reasons == ()


def test_restarted_server_widens_the_read() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200, token={"started": "2026-06-01 11:59:00+00"}))
    assert found.since is not None
    assert found.since.restarted
    assert "restarted" in found.reasons[0]


def test_server_that_recovered_from_a_crash_widens_the_read() -> None:
    """One backend that crashed takes all others with it; the postmaster, and so its start, stays."""
    found = verdict(at(1, xmin=1050, xmax=1200, token={"counters_since": "2026-06-01 11:59:00+00"}))
    assert found.since is not None
    assert found.since.restarted
    assert "restarted" in found.reasons[0]


def test_renamed_label_reads_the_whole_table_and_an_added_or_dropped_one_goes_on() -> None:
    stored = watermark("xmin", {}, at(xmin=1000, xmax=1100, token={"labels": {"7": "red", "8": "blue"}}), "c")

    def now(labels: dict[str, str]) -> Verdict:
        return judge(stored, at(1, xmin=1050, xmax=1200, token={"labels": labels}), "c")

    renamed = now({"7": "crimson", "8": "blue"})
    assert renamed.since is None
    assert "labels of its enums were renamed: red" in renamed.reasons[0]
    assert now({"7": "red", "8": "blue", "9": "green"}).since is not None
    assert now({"7": "red"}).since is not None  # the column went away: covers() tells


def test_attached_partition_goes_on() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200, token={"members": {"16400": 16400, "17000": 17000}}))
    assert found.since is not None
    assert found.reasons == ()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ({"system_identifier": "7001"}, "another database system"),
        ({"timeline": 2}, "another timeline"),
        ({"database_oid": 5}, "made anew"),
        ({"table_oid": 16401}, "made anew or swapped"),
    ],
)
def test_another_history_reads_the_whole_table(token: dict[str, Any], reason: str) -> None:
    found = verdict(at(1, xmin=1050, xmax=1200, token=token))
    assert found.since is None
    assert reason in found.reasons[0]


@pytest.mark.parametrize(("xmin", "xmax"), [(900, 1000), (999, 1200)])
def test_counter_or_horizon_that_went_back_reads_the_whole_table(xmin: int, xmax: int) -> None:
    found = verdict(at(1, xmin=xmin, xmax=xmax))
    assert found.since is None
    assert "went back" in found.reasons[0]


def test_restored_and_restarted_server_reads_the_whole_table() -> None:
    assert verdict(at(1, xmin=900, xmax=950, token={"started": "later"})).since is None


def test_changed_columns_read_the_whole_table() -> None:
    found = verdict(at(1, xmin=1050, xmax=1200), covered="d")
    assert found.since is None
    assert "columns" in found.reasons[0]


def test_reader_that_lags_behind_the_watermark_is_refused() -> None:
    with pytest.raises(SourceError, match="not yet replayed") as raised:
        verdict(at(1, xmin=900, xmax=1099, token={"in_recovery": True}))
    assert raised.value.kind is Kind.TRANSIENT
    assert verdict(at(1, xmin=1000, xmax=1100, token={"in_recovery": True})).since is not None


ID, NAME = Column("id", 1, "integer", "int4"), Column("name", 2, "text", "text")


def covered(*columns: Column, key: tuple[str, ...] = ("id",), strategy: str = "xmin", **keys: Any) -> str:
    return covers(config(strategy, **keys), strategy_for(strategy), columns or (ID, NAME), key)


def test_what_a_watermark_covers_stays_the_same_for_what_does_not_matter() -> None:
    assert covered() == covered()
    assert covered() == covered(replace(ID, comment="the id", default="7"), NAME)
    assert covered() == covered(strategy="full_snapshot")  # sees the same changes: goes on from its horizon


@pytest.mark.parametrize(
    "other",
    [
        covered(ID),
        covered(ID, replace(NAME, name="nom")),
        covered(ID, replace(NAME, type_name="character varying(5)")),
        covered(ID, replace(NAME, attnum=3)),  # dropped and made again
        covered(ID, replace(NAME, generated=True, default="upper('a')")),
        covered(key=("name",)),
        covered(column_types={"name": "text"}),
        covered(append_only=True),
        covered(strategy="integer", watermark_col="id"),  # sees no updates
    ],
)
def test_what_a_watermark_covers_changes_with_what_the_rows_are_made_of(other: str) -> None:
    assert other != covered()


def test_generation_expression_is_part_of_what_a_watermark_covers() -> None:
    one, two = (covered(ID, replace(NAME, generated=True, default=text)) for text in ("upper('a')", "lower('a')"))
    assert one != two
