"""The duration of the phases of a run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from aurora_sync.model import tracing


class Stopwatch:
    """Measures the seconds of each phase, and in total since it was created."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        with tracing.span(name):
            yield
        self.seconds[name] = time.monotonic() - began

    def total(self) -> float:
        return time.monotonic() - self._started
