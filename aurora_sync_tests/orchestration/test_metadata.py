"""The entries that a person reads first on the page of an asset."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.certificate import Certificate, Level, Reconciled
from aurora_sync.orchestration import compat, metadata
from aurora_sync_tests.certificates import CERTIFIED
from aurora_sync_tests.orchestration.receipts import receipt


def test_state_says_until_when_a_table_is_certified_and_what_is_not_seen() -> None:
    assert metadata.state(receipt()) == (
        "Certified until 2026-01-01 00:00:00 UTC (inserts, updates); only a reconcile removes rows that were deleted at"
        " the source"
    )
    all_changes = dataclasses.replace(CERTIFIED, changes=("inserts", "updates", "deletes"))
    assert metadata.state(receipt(certificate=all_changes)).endswith("(inserts, updates, deletes)")


def test_state_says_why_a_table_is_not_certified() -> None:
    doubted = Certificate(Level.UNCERTIFIED, ("inserts",), "clocks of writers may differ")
    assert metadata.state(receipt(certificate=doubted)) == "Uncertified: clocks of writers may differ"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "none is configured; the last one, or full read, was run 2, as of 2026-01-01 00:00 UTC"),
        ({"reconcile": {"every": 5}}, "in 4 runs at the latest; the last one, or full read, was run 2, "),
        ({"reconcile": {"every": 1}}, "at the next run; the last one, "),
        ({"reconcile": {"every": 5, "schedule": "0 3 * * *"}}, "in 4 runs at the latest or at 2026-01-02 03:00 UTC; "),
        ({"watermark_type": "full_snapshot"}, "every run reads the whole table"),
    ],
)
def test_next_reconcile_follows_the_configuration(
    options: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compat, "next_tick", lambda cron: {"0 3 * * *": datetime(2026, 1, 2, 3, tzinfo=UTC)}[cron])
    table = TableConfig.model_validate({"table_name": "customers", "watermark_type": "xmin", **options})
    last = dataclasses.replace(CERTIFIED, reconciled=Reconciled(2, datetime(2026, 1, 1, tzinfo=UTC)))
    assert metadata.next_reconcile(receipt(certificate=last), table).startswith(expected)


def test_next_tick_of_a_schedule_is_in_utc() -> None:
    found = compat.next_tick("30 3 * * *")
    assert (found.hour, found.minute, found.utcoffset()) == (3, 30, datetime.now(UTC).utcoffset())
    assert found > datetime.now(UTC)
