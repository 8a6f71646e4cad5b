"""What these scenarios take away: a margin that would stand in for other guards."""

from __future__ import annotations

from datetime import timedelta

import pytest

from aurora_sync.strategies import clock


@pytest.fixture(autouse=True)
def _clock_fence_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "MARGIN", timedelta(0))
