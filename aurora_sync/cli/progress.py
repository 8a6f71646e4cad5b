"""Show the progress of runs on standard error: bars on a terminal, lines elsewhere, nothing with ``--json``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from aurora_sync.cli.terminal import shows_colour
from aurora_sync.model.foreign_text import printable

if TYPE_CHECKING:
    from aurora_sync.cli.bars import Bars
    from aurora_sync.source.copy_out import Progress

# Between two lines: rare enough to keep the log of a one-hour read short.
_LINE_SECONDS = 5.0


class RunProgress:
    """The progress of all runs of a command, and of the run that goes on."""

    def __init__(self, tables: int, *, quiet: bool) -> None:
        self._quiet = quiet
        self._table = ""
        self._last_line = 0.0
        self._bars: Bars | None = None
        if not quiet and shows_colour(sys.stderr):
            from aurora_sync.cli.bars import Bars  # imports rich, which a pipe does not need

            self._bars = Bars(tables)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def begin(self, tables: tuple[str, ...]) -> None:
        """Begin the run of these tables."""
        self._table, self._last_line = printable(tables[0]), 0.0
        if self._bars:
            self._bars.begin([printable(table) for table in tables])

    def __call__(self, progress: Progress) -> None:
        if self._bars:
            self._bars.show(progress)
        elif progress.seconds and not self._quiet:
            self._print(progress)

    def clear(self) -> None:
        """Remove the bars, so that a result can be printed. The next report shows them again."""
        if self._bars:
            self._bars.clear()

    def _print(self, progress: Progress) -> None:
        if progress.seconds < self._last_line:  # another attempt
            self._last_line = 0.0
        if progress.seconds - self._last_line < _LINE_SECONDS:
            return
        self._last_line = progress.seconds
        rate = progress.bytes / progress.seconds / 1e6
        share = f", {progress.share:.0%}" if progress.share is not None else ""
        print(f"{self._table}: {progress.rows:,} rows{share}, {rate:.0f} MB/s", file=sys.stderr, flush=True)
