"""Loads the definitions in the forkserver of a run, so that its steps get them with the fork.

The forkserver imports this module (preload.py). Each step's process would otherwise load all definitions of
the code location by itself: for 1,000 tables three CPU seconds, more than the sync of a small table.
"""

from __future__ import annotations

from aurora_sync.model import foreign_text
from aurora_sync.orchestration.preload import load_handed_over_job

logger = foreign_text.logger(__name__)

try:
    load_handed_over_job()
except Exception as error:  # noqa: BLE001 - the processes of the steps load the definitions by themselves, and report the error
    logger.warning("the definitions could not be loaded before the steps: %s", error)
