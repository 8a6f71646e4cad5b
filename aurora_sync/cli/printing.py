"""Results on standard output, errors on standard error."""

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
    """Print lines that may hold texts of others, such as names of tables."""
    print("\n".join(map(printable, lines)), flush=flush)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=lambda other: other.value if isinstance(other, Enum) else str(other)))


def print_error(error: AuroraSyncError, arguments: argparse.Namespace, where: str = "") -> None:
    """Print the error, with its place where its text does not name it."""
    if arguments.debug:
        traceback.print_exception(error)
    text, where = "\n".join([str(error), *map(printable, getattr(error, "__notes__", ()))]), printable(where)
    print(f"error: {text if where in text else f'{where}: {text}'}", file=sys.stderr)
