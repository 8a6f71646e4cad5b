"""Fixtures with values that tests write to a stage."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from aurora_sync.model.watermark import Snapshot, Token, Watermark


@pytest.fixture
def watermark() -> Watermark:
    taken_at = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)
    token = Token("7301", 1, 18, 16384, "2026-11-01T00:00:00+00:00", False, 16500, {"16500": 16501})
    return Watermark("xmin", {"pending": [[1, "3/7"]]}, Snapshot(2**40, 2**40 + 9, taken_at), token, "id,größe")
