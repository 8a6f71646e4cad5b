"""The interface of a runner, which decides which tables are synced together, and how.

A runner owns which tables go together, how their targets are brought up to date and compared, what the change sensor
looks at, and what `check` reports about their streams. It has no state. Every method may be called again; if it is
killed at any point, the next run ends at the same target.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.look import Look
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import Plan
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.receipt import Receipt
from aurora_sync.source.copy_out import Progress
from aurora_sync.source.database import Source

OnReceipt = Callable[[Receipt], object]
OnProgress = Callable[[Progress], None] | None


class Runner(ABC):
    joins = False  # True: small increments of several tables may share one transaction (engine/together.py)
    marked_together = True  # True: one request returns the marks of many tables; False: each table needs its own

    def shared_with(self, config: TableConfig) -> str | None:
        """Return the name of the replication slot that carries the changes of several tables, which are therefore
        synced together; None when the table is synced by itself."""
        return None

    @abstractmethod
    def run(
        self,
        batch: Sequence[TableConfig],
        places: Places,
        on_receipt: OnReceipt,
        *,
        allow_deletes: bool = False,
        on_progress: OnProgress = None,
    ) -> None:
        """Bring the targets of tables that are synced together up to date, and pass one receipt per updated table to
        ``on_receipt``. Raises as :func:`aurora_sync.engine.sync.run` does."""

    @abstractmethod
    def verify(self, config: TableConfig, places: Places, *, on_progress: OnProgress = None) -> Receipt:
        """Apply the strategy's own increment and nothing else, then compare source and target in its snapshot. Raises
        NotComparedError when a run would scan or reconcile the table, or read all of it."""

    def preview(self, found: Look) -> tuple[Plan, str | None]:
        """Return the plan of the run that ``found`` would start, and the statement that reads its stream; None for the
        statement when the run would read the table."""
        return found.plan, None

    def marks(self, tables: Sequence[TableConfig], source: Source) -> dict[str, str]:
        """Return a mark by qualified table name; a changed mark means that the stream has new changes. Empty when the
        source itself shows changes. Raises SourceError, StageError or ConfigError."""
        return {}

    def problems(self, tables: Sequence[TableConfig], source: Source) -> Iterator[str]:
        """Yield the problems of the stream that carries the tables' changes, one sentence each."""
        yield from ()


def problems_of(look: Callable[[], object]) -> list[str]:
    """Return the error of ``look`` as a list of lines; empty when it raises none."""
    try:
        look()
    except AuroraSyncError as error:
        return str(error).split("\n")
    return []
