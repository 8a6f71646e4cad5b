from __future__ import annotations

import json
import logging

import pytest

from aurora_sync.model.state import State
from aurora_sync.model.watermark import Watermark
from aurora_sync.objects.store import Store
from aurora_sync.stage import layout
from aurora_sync.stage.manifest import Hint
from aurora_sync.stage.writer import Stage

TABLE = "public.orders"


@pytest.fixture
def stage(store: Store) -> Stage:
    return Stage(store, target="duckdb:warehouse")


def hint(stage: Stage) -> Hint:
    found = stage.hint(TABLE)
    assert found is not None
    return found


def test_table_never_confirmed_has_no_hint(stage: Stage) -> None:
    assert stage.hint(TABLE) is None


def test_hint_is_what_was_confirmed(stage: Stage, watermark: Watermark) -> None:
    state = State(3, watermark, target_rows=12)
    stage.confirm(TABLE, state, "s3://bucket/manifest.json")
    found = hint(stage)
    assert (found.state, found.manifest_uri, found.table) == (state, "s3://bucket/manifest.json", TABLE)
    assert stage.hint("public.order") is None
    assert stage.hint("public.orders2") is None


def test_later_run_and_later_confirmation_come_first(stage: Stage, watermark: Watermark) -> None:
    for sequence in (8, 9, 10, 11):
        stage.confirm(TABLE, State(sequence, watermark), None)
    assert hint(stage).state.run_sequence == 11
    stage.confirm(TABLE, State(11, watermark, target_rows=5), None)
    assert hint(stage).state.target_rows == 5


def test_log_behind_the_hint_replaces_it(stage: Stage, watermark: Watermark) -> None:
    """After a restore of the target the lost rows must be exported again, so an old hint must not be used."""
    for sequence in (5, 8, 9):
        stage.confirm(TABLE, State(sequence, watermark), None)
    stage.confirm(TABLE, State(5, watermark, target_rows=1), None)
    assert hint(stage).state == State(5, watermark, target_rows=1)
    stage.confirm(TABLE, State(0, None), None)
    assert hint(stage).state == State(0, None)


def test_hint_of_another_target_is_no_hint(stage: Stage, watermark: Watermark) -> None:
    stage.confirm(TABLE, State(3, watermark), None)
    assert Stage(stage.store, target="snowflake").hint(TABLE) is None


@pytest.mark.parametrize("damage", ["cut", "not JSON", "newer version", "newer watermark", "no state"])
def test_damaged_hint_is_no_hint_and_is_logged(
    stage: Stage, watermark: Watermark, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    stage.confirm(TABLE, State(3, watermark), None)
    (key,) = stage.store.list(layout.hints_prefix(stage.store.prefix, TABLE))
    body = stage.store.get(key)
    assert body is not None
    document = json.loads(body)
    damaged = {
        "cut": body[:-20],
        "not JSON": b"\xff\xfe",
        "newer version": json.dumps({**document, "version": 2}).encode(),
        "newer watermark": json.dumps({**document, "watermark": {**document["watermark"], "version": 3}}).encode(),
        "no state": json.dumps({"version": 1}).encode(),
    }
    stage.store.delete([key])
    stage.store.put_new(key, damaged[damage])
    with caplog.at_level(logging.WARNING):
        assert stage.hint(TABLE) is None
    assert key in caplog.text
    stage.confirm(TABLE, State(3, watermark), None)
    assert hint(stage).state.run_sequence == 3
