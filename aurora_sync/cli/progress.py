"""Show the progress of a copy on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Self

from aurora_sync.model.foreign_text import printable

if TYPE_CHECKING:
    from aurora_sync.source.copy_out import Progress


class ProgressLine:
    """Progress of one table: on a terminal, one line that is rewritten; elsewhere, a new line for each call."""

    def __init__(self, table: str, *, quiet: bool) -> None:
        self._table = printable(table)
        self._quiet = quiet
        self._open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, progress: Progress) -> None:
        if self._quiet:
            return
        share = f", {progress.share:.0%}" if progress.share is not None else ""
        rate = progress.bytes / progress.seconds / 1e6
        text = f"{self._table}: {progress.rows:,} rows{share}, {rate:.0f} MB/s"
        self._open = sys.stderr.isatty()
        print(f"\r\x1b[K{text}" if self._open else text, end="" if self._open else "\n", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
