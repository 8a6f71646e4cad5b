"""Print tables: on a terminal they fit its width, elsewhere each row is one line."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence

from aurora_sync.cli.terminal import columns, shows_colour
from aurora_sync.model.foreign_text import printable

_SHORT = 20  # characters of a cell that is never wrapped, so that long texts are
_WIDE = 100  # columns of a terminal on which two spaces separate the columns of a table


def print_table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Collection[int] = (),
    attention: Collection[int] = (),
) -> None:
    """Print a table to standard output.

    The columns in ``right`` (numbers from 0) hold numbers. The rows in ``attention`` are coloured on a terminal.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if (width := columns(sys.stdout)) is None:
        print("\n".join(_aligned([list(head), *cells], right)))
        return
    from rich.console import Console  # not at the top, because the help must start quickly
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2 if width >= _WIDE else 1, 0, 0))
    for number, name in enumerate(head):
        longest = max(len(row[number]) for row in [head, *cells])
        numeric = number in right
        short = numeric or longest <= _SHORT
        table.add_column(name, justify="right" if numeric else "left", no_wrap=short, overflow="fold")
    for number, row in enumerate(cells):
        table.add_row(*map(Text, row), style="yellow" if number in attention else None)
    colours = "auto" if shows_colour(sys.stdout) else None
    console = Console(file=sys.stdout, width=width, color_system=colours, highlight=False)  # type: ignore[arg-type]
    console.print(table)


def _aligned(rows: Sequence[Sequence[str]], right: Collection[int]) -> list[str]:
    """Return one line for each row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if number in right else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
