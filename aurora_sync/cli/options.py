"""Options of several commands."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeAlias

Command = Callable[[argparse.Namespace], int]
# The parser group to which commands, or the actions of a command, are added.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_group(commands: Commands, name: str, text: str) -> Commands:
    """Add a command that has actions. Return the group to add the actions to."""
    return commands.add_parser(name, help=text, description=text).add_subparsers(metavar="ACTION", required=True)


def add_command(commands: Commands, name: str, function: Command, text: str) -> argparse.ArgumentParser:
    """Add a command that prints text or, with ``--json``, one document."""
    added = commands.add_parser(name, help=text, description=text)
    added.set_defaults(command=function)
    added.add_argument("--json", action="store_true", help="print one JSON document")
    added.add_argument("--debug", action="store_true", help="log statements, and print tracebacks of errors")
    return added


def add_tables(parser: argparse.ArgumentParser, default: str = "all of tables.yaml") -> None:
    """Add the argument TABLE. If ``default`` is empty, at least one table must be named."""
    parser.add_argument(
        "tables",
        nargs="*" if default else "+",
        metavar="TABLE",
        help="name or glob of a table" + (default and f"; default: {default}"),
    )
