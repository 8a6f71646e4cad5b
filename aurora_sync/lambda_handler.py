"""The sync as an AWS Lambda function: the event ``{"tables": ["public.orders", "audit_*"]}`` syncs these tables.

Handler: ``aurora_sync.lambda_handler.handler``. Settings come from the function's environment, tables.yaml from
its package (AURORA_SYNC_TABLES). A Lambda function ends after 15 minutes: run first loads of large tables elsewhere. A
run that is cut off leaves target and watermark unchanged. Transient errors are retried as long as there is time
(engine/retries.py).
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
    """The part of Lambda's context object that the handler uses."""

    def get_remaining_time_in_millis(self) -> int: ...


def handler(event: dict[str, Any], context: Context | None = None) -> dict[str, Any]:
    """Sync the tables of ``event["tables"]``, names or globs; when it is empty or missing, all tables of tables.yaml.

    Returns ``{"receipts": [...]}``, one receipt for each table. Raises the first error that retries do not resolve.
    Lambda reports it, and the invoker decides about another invocation. Tables synced before it stay synced.
    """
    settings = Settings.from_environment(os.environ)
    places = Places.from_settings(settings)
    patient = partial(retrying, seconds_left=lambda: context.get_remaining_time_in_millis() / 1000 if context else inf)
    receipts: dict[str, Receipt] = {}
    for each in patient(partial(select_batches, settings, places.source, event.get("tables") or [])):
        patient(lambda each=each: batch.run(each, places, lambda done: receipts.update({done.target: done})))  # type: ignore[misc]
    return {"receipts": [receipt.to_json() for receipt in receipts.values()]}
