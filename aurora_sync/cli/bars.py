"""Bars on a terminal: one for the tables of the command, one for the phase of the current run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING

from rich import progress as rich_progress
from rich.console import Console, Group
from rich.live import Live
from rich.table import Column
from rich.theme import Theme

if TYPE_CHECKING:
    from aurora_sync.source.copy_out import Progress


class Bars:
    """Two lines that are rewritten. Lines that are printed to ``sys.stderr`` meanwhile appear above them."""

    def __init__(self, tables: int) -> None:
        self._total, self._done, self._running = tables, 0, 0
        self._console = Console(file=sys.stderr, highlight=False, theme=Theme({"progress.elapsed": "none"}))
        bar = rich_progress.BarColumn(
            20, style="grey37", complete_style="white", finished_style="white", pulse_style="white"
        )
        self._tables = rich_progress.Progress(
            bar, rich_progress.TimeElapsedColumn(), _text("{task.description}"), console=self._console
        )
        self._phase = rich_progress.Progress(
            bar, _text("{task.description}"), _text("{task.fields[detail]}"), console=self._console
        )
        self._all = self._tables.add_task("", total=tables)
        self._current = self._phase.add_task("", total=None, detail="")
        self._live: Live | None = None

    def begin(self, tables: Sequence[str]) -> None:
        self._done += self._running
        self._running = len(tables)
        first, last = self._done + 1, self._done + self._running
        numbers = f"table {first:,}" if first == last else f"tables {first:,} to {last:,}"
        text = f"{numbers} of {self._total:,}: {', '.join(tables)}"
        self._tables.update(self._all, description=text, completed=self._done)
        self._begin_phase("running")
        self._start()

    def show(self, progress: Progress) -> None:
        if not progress.seconds:
            self._begin_phase(progress.phase)
        if progress.share is not None:
            self._phase.update(self._current, total=1.0, completed=progress.share)
        self._phase.update(self._current, detail=_details(progress))
        self._start()

    def clear(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _begin_phase(self, name: str) -> None:
        self._phase.remove_task(self._current)
        self._current = self._phase.add_task(name, total=None, detail="")

    def _start(self) -> None:
        if self._live is None:
            bars = Group(self._tables, self._phase)
            # Results go to standard output, which may be a pipe, so it is not redirected.
            self._live = Live(bars, console=self._console, transient=True, redirect_stdout=False)
            self._live.start(refresh=True)


def _text(template: str) -> rich_progress.TextColumn:
    column = Column(no_wrap=True, overflow="ellipsis")
    return rich_progress.TextColumn(template, markup=False, table_column=column)


def _details(progress: Progress) -> str:
    """Return share, rows, speed and time left of an export; rows and size of another phase."""
    megabytes = progress.bytes / 1e6
    if not progress.seconds:
        return f"{progress.rows:,} rows, {megabytes:,.1f} MB" if progress.rows else ""
    text = f"{progress.rows:,} rows, {megabytes / progress.seconds:.0f} MB/s"
    if progress.share is None:
        return text
    if progress.share in (0, 1):  # the estimate of the rows was too low, or the copy has just begun
        return f"{progress.share:.0%}, {text}"
    left = timedelta(seconds=round(progress.seconds * (1 - progress.share) / progress.share))
    return f"{progress.share:.0%}, {text}, {left} left"
