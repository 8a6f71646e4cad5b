"""Print results to standard output and errors to standard error."""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from enum import Enum
from typing import Any

from aurora_sync.errors import AuroraSyncError
from aurora_sync.model.foreign_text import printable


def print_lines(*lines: str, flush: bool = False) -> None:
    """Print lines that may contain foreign text, such as names of tables; control characters are escaped."""
    print("\n".join(map(printable, lines)), flush=flush)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=lambda other: other.value if isinstance(other, Enum) else str(other)))


def print_error(error: AuroraSyncError, arguments: argparse.Namespace, where: str = "") -> None:
    """Print the error. ``where`` is put in front, unless the text names it already."""
    if arguments.debug:
        traceback.print_exception(error)
    text, where = "\n".join([str(error), *map(printable, getattr(error, "__notes__", ()))]), printable(where)
    print(f"error: {text if where in text else f'{where}: {text}'}", file=sys.stderr)
