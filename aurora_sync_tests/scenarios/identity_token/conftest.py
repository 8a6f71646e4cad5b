"""A fixture that removes a margin which would hide a missing guard."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aurora_sync.strategies import clock


@pytest.fixture(autouse=True)
def _clock_fence_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MARGIN", timedelta(0))
