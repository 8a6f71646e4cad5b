"""Restart a run that collides with another run or finds its target changed: at most once for each cause."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from aurora_sync.engine.plan import RunOptions
from aurora_sync.errors import RivalRunError, TargetChangedError
from aurora_sync.model import foreign_text, tracing
from aurora_sync.model.receipt import Receipt

logger = foreign_text.logger(__name__)
T = TypeVar("T")


@dataclass
class Start:
    """The start of one attempt of a run. ``changed`` holds the options of tables whose target the previous attempt
    found changed since its last run. ``may_be_stale``: a start from the sync log instead of the hint may see a newer
    state."""

    options: RunOptions
    trust_hint: bool = True
    may_be_stale: bool = True
    changed: dict[str, RunOptions] = field(default_factory=dict)

    def options_of(self, table: str) -> RunOptions:
        return self.changed.get(table, self.options)

    def next(self, error: RivalRunError | TargetChangedError) -> Start | None:
        """Return the start of the attempt after this one ended with ``error``; None when that attempt would end the
        same way."""
        if isinstance(error, RivalRunError):
            return dataclasses.replace(self, trust_hint=False, may_be_stale=False) if self.may_be_stale else None
        table = error.where
        before = self.options_of(table)
        as_text = before.as_text | error.as_text
        if before.full and as_text == before.as_text:
            return None
        # The next look may not see the change again, because columns may have been added meanwhile: read the whole
        # table.
        because = before.because if before.full else f"{error.what}: reading the whole table again"
        after = dataclasses.replace(before, full=True, because=because, as_text=as_text)
        return Start(self.options, trust_hint=False, may_be_stale=False, changed=self.changed | {table: after})


def repeated(once: Callable[[Start], T], options: RunOptions, what: str) -> T:
    """Call ``once`` and restart it after a rival run or a changed target. ``what`` names the run in the log."""
    with tracing.span("run", batch=what):
        result = _repeated(once, options, what)
        if isinstance(result, Receipt):
            tracing.describe(result)
        return result


def _repeated(once: Callable[[Start], T], options: RunOptions, what: str) -> T:
    start = Start(options, trust_hint=not (options.full or options.reconcile or options.reload))
    while True:
        try:
            return once(start)
        except (RivalRunError, TargetChangedError) as error:
            following = start.next(error)
            if following is None:
                raise
            logger.warning("%s: starting again from the sync log: %s", what, error)
            start = following
