"""``aurora-sync completion``: print the script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from aurora_sync.cli.options import Commands

_SHELLS = ("bash", "zsh", "tcsh")


def add_to(commands: Commands, parser: argparse.ArgumentParser) -> None:
    """Add the command. ``parser`` is the parser of all commands."""
    text = 'print a script that completes commands and options; in ~/.bashrc: eval "$(aurora-sync completion bash)"'
    added = commands.add_parser("completion", help=text, description=text)
    added.add_argument("shell", metavar="SHELL", choices=_SHELLS, help=f"{', '.join(_SHELLS[:-1])} or {_SHELLS[-1]}")
    added.add_argument("--debug", action="store_true", help="print tracebacks of errors")
    added.set_defaults(command=partial(_completion, parser))


def _completion(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    import shtab

    _complete_files(parser)
    print(shtab.complete(parser, arguments.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser) -> None:
    """Set the completion of options whose value is a path, in the parser and in the parsers of its commands."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_files(command)
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
