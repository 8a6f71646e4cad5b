"""Choose where a command runs: on the settings of the environment, or on the local stack."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aurora_sync.cli.options import Command
from aurora_sync.embedded.environment import local_settings

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places

STACK = Path(".aurora_sync")


def in_environment(command: Command) -> Command:
    """Wrap a command: without AURORA_DSN, it runs with the settings of the local stack, if there is one."""

    def run_command(arguments: argparse.Namespace) -> int:
        with local_settings(STACK):
            return command(arguments)

    return run_command


def on_places(command: Callable[[argparse.Namespace, Settings, Places], int]) -> Command:
    """Wrap a command: pass it the settings of the environment, and the source, stage and warehouse that they name."""

    def run_command(arguments: argparse.Namespace) -> int:
        from aurora_sync.config.settings import Settings
        from aurora_sync.engine.places import Places

        settings = Settings.from_environment(os.environ)
        return command(arguments, settings, Places.from_settings(settings))

    return in_environment(run_command)
