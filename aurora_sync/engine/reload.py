"""Read rows again that a sync has read before: those since a time, or those of a range of keys (decision 23)."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from functools import partial

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.attempts import repeated
from aurora_sync.engine.look import looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import RunOptions
from aurora_sync.engine.sync import increment
from aurora_sync.errors import DefectError, values_shown
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.reload import Reload, RowRange
from aurora_sync.source.copy_out import Progress


def reload(
    config: TableConfig,
    places: Places,
    request: Reload,
    *,
    allow_deletes: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """Sync one table, and read the requested rows again in the same snapshot and transaction.

    Of a range of keys, the target has the rows of the source afterwards, and no others. Raises as
    :func:`aurora_sync.engine.sync.run` does; ConfigError when the request does not fit the table, or when the table
    must be read whole; GuardError when there are more rows than ``max_rows``.
    """
    options = RunOptions(allow_deletes=allow_deletes, reload=request)
    with values_shown(config.show_values):
        return repeated(partial(increment, config, places, on_progress), options, config.qualified_name)


def count(config: TableConfig, places: Places, request: Reload) -> RowRange:
    """Return the range with the number of its rows at the source, whatever ``max_rows`` is. Reads no row and changes
    nothing. Raises ConfigError as :func:`reload` does."""
    options = RunOptions(reload=dataclasses.replace(request, max_rows=sys.maxsize))
    with looking(config, places, options, trust_hint=True) as found:
        if found.plan.read.again is None:
            raise DefectError("the plan lacks the rows to read again", where=config.qualified_name)
        return found.plan.read.again
