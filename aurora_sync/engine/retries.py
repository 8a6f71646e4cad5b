"""Retries of transient errors, where no orchestrator retries.

Used by the command line, Lambda, and each table of a verification. Elsewhere in Dagster the asset's RetryPolicy retries
(orchestration/assets.py): those retries are visible in the UI and wait without holding a worker.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

from aurora_sync.errors import AuroraSyncError
from aurora_sync.model import foreign_text

logger = foreign_text.logger(__name__)
Result = TypeVar("Result")

# About 1, 4 and 16 s between four attempts. The first pause outlasts a lost connection or a throttled request; all of
# them together outlast the 20 s in which most Aurora failovers end. The next scheduled run handles longer outages.
ATTEMPTS = 4
FIRST_PAUSE = 1.0
GROWTH = 4
# Spreads the retries of runs that failed at the same moment, such as at a failover.
JITTER = 0.5
# A run needs at least this time: one that is cut off has held a snapshot on the source for nothing.
SHORTEST_RUN = 60.0


def retrying(
    call: Callable[[], Result],
    *,
    attempts: int = ATTEMPTS,
    sleep: Callable[[float], object] = time.sleep,
    seconds_left: Callable[[], float] | None = None,
) -> Result:
    """Return ``call()``; retry it after errors whose kind allows a retry, up to ``attempts`` calls in all.

    ``call`` must be safe to kill and run again, as every sync is. Raises any other error at once. Raises the last error
    with a note of the number of attempts, and without the advice to run again. ``seconds_left`` returns how long the
    caller may still run; no attempt begins when too little time would remain after the pause.
    """
    for attempt in range(1, attempts + 1):
        try:
            return call()
        except AuroraSyncError as error:
            pause = FIRST_PAUSE * GROWTH ** (attempt - 1) * random.uniform(1 - JITTER, 1 + JITTER)
            hurried = seconds_left is not None and seconds_left() < pause + SHORTEST_RUN
            if not error.kind.retry or attempt == attempts or hurried:
                if error.kind.retry:
                    times = "once" if attempt == 1 else f"{attempt} times"
                    if attempt > 1:
                        error.lasts()
                    error.add_note(f"tried {times}" + (", and no time is left for another try" if hurried else ""))
                raise
            logger.warning("trying again in %.1f s (%d of %d tries failed): %s", pause, attempt, attempts, error)
        sleep(pause)
    raise ValueError(f"attempts must be at least 1, found {attempts}")
