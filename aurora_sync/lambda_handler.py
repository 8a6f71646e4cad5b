"""The sync as an AWS Lambda function: ``{"tables": ["public.orders", "audit_*"]}`` syncs those tables.

Handler: ``aurora_sync.lambda_handler.handler``. Settings come from the function's environment, tables.yaml from
its package (AURORA_SYNC_TABLES). A Lambda ends after 15 minutes: give first loads of large tables to another
runner; a run that is cut off leaves target and watermark as they were. What may pass by itself is tried again as
long as there is time (engine/retries.py).
"""

from __future__ import annotations

import os
from functools import partial
from math import inf
from typing import Any, Protocol

from aurora_sync.config.settings import Settings
from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.engine.retries import retrying
from aurora_sync.engine.selection import select_batches
from aurora_sync.model.receipt import Receipt


class Context(Protocol):
    """What is used of the context that Lambda gives."""

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: dict[str, Any], context: Context | None = None) -> dict[str, Any]:
    """Sync the tables that ``event["tables"]`` names (names or globs; none or no key: all of tables.yaml).

    Returns ``{"receipts": [...]}``. Raises the first error: Lambda reports it and the invoker decides on a retry;
    tables synced before it stay synced.
    """
    settings = Settings.from_environment(os.environ)
    places = Places.from_settings(settings)
    patient = partial(retrying, seconds_left=lambda: context.get_remaining_time_in_millis() / 1000 if context else inf)
    receipts: dict[str, Receipt] = {}
    for each in patient(partial(select_batches, settings, places.source, event.get("tables") or [])):
        patient(lambda each=each: batch.run(each, places, lambda done: receipts.update({done.target: done})))  # type: ignore[misc]
    return {"receipts": [receipt.to_json() for receipt in receipts.values()]}
