"""Whether a stream is a terminal, how wide it is, and whether it shows colour."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO


def columns(stream: TextIO) -> int | None:
    """Return the width of the terminal that the stream writes to; None for a pipe or a file."""
    if not stream.isatty():
        return None
    return os.get_terminal_size(stream.fileno()).columns or 80  # a serial line does not know its width


def shows_colour(stream: TextIO) -> bool:
    """Return whether the stream is a terminal that may get escape sequences (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def wrapped(line: str, width: int, indent: int) -> str:
    """Wrap a line between words. The further lines are indented by ``indent``. Words are never cut.

    >>> print(wrapped("  warning  the server was restarted", 24, 11))
      warning  the server
               was restarted
    """
    if len(line) <= width:
        return line
    hanging = " " * (indent if indent <= width // 2 else 4)
    return textwrap.fill(
        line,
        width,
        subsequent_indent=hanging,
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
        drop_whitespace=True,
    )
