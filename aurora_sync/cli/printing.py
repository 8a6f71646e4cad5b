"""Print results to standard output and errors to standard error.

On a terminal, long lines are wrapped between words, and what needs attention is coloured. Elsewhere lines are printed
as they are.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import traceback
from enum import Enum
from typing import Any, TextIO

from aurora_sync.cli.terminal import columns, shows_colour, wrapped
from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import printable

# What stands before the text of a line: indentation, and a label with two spaces or a number behind it.
_LABEL = re.compile(r" *(?:\S+ {2,}|\d+\. |note: |warning: |error: )?")
_YELLOW, _RED, _RESET = "\x1b[33m", "\x1b[31m", "\x1b[0m"


class Verbatim(str):
    """A line to be copied, such as a statement or a command: it is never wrapped."""


class Alert(str):
    """A line that needs attention: it is coloured on a terminal."""


def print_lines(*lines: str, flush: bool = False) -> None:
    """Print lines that may contain foreign text, such as names of tables; control characters are escaped."""
    for line in lines:
        print(_shown(line, sys.stdout))
    if flush:
        sys.stdout.flush()


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=lambda other: other.value if isinstance(other, Enum) else str(other)))


def print_error(error: AuroraSyncError, arguments: argparse.Namespace, where: str = "") -> None:
    """Print the error. ``where`` is put in front, unless the text names it already."""
    if arguments.debug:
        traceback.print_exception(error)
    text, where = "\n".join([str(error), *map(printable, getattr(error, "__notes__", ()))]), printable(where)
    print_error_text(text if where in text else f"{where}: {text}")


def print_error_text(text: str) -> None:
    """Print the text of an error, whose foreign text is already escaped, to standard error."""
    first, *more = f"error: {text}".split("\n")
    lines = [_fitted(line, sys.stderr) for line in (first, *more)]
    if shows_colour(sys.stderr):
        lines[0] = lines[0].replace("error:", f"{_RED}error:{_RESET}", 1)
    print("\n".join(lines), file=sys.stderr, flush=True)


def print_note(text: str) -> None:
    """Print a line about the course of the work to standard error."""
    print(_fitted(printable(text), sys.stderr), file=sys.stderr, flush=True)


class LogHandler(logging.Handler):
    """Prints records to the standard error of the moment, so that they appear above the bars of a run."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = self.format(record).split("\n")
        if record.levelno > logging.DEBUG:  # DEBUG records are statements
            lines = [_fitted(line, sys.stderr) for line in lines]
        print("\n".join(lines), file=sys.stderr, flush=True)


def _shown(line: str, stream: TextIO) -> str:
    text = printable(line)
    if not isinstance(line, Verbatim):
        text = _fitted(text, stream)
    return f"{_YELLOW}{text}{_RESET}" if isinstance(line, Alert) and shows_colour(stream) else text


def _fitted(line: str, stream: TextIO) -> str:
    width = columns(stream)
    if width is None:
        return line
    label = _LABEL.match(line)
    text = label.group() if label else ""
    return wrapped(line, width, len(text) if text.strip() else len(text) + 2)
