"""``aurora-sync metrics``: print metrics for Prometheus, or write them to a file for node_exporter."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command
from aurora_sync.cli.printing import print_json, print_note

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    text = "print metrics of the tables and replication slots in the text format of Prometheus"
    metrics = add_command(commands, "metrics", on_places(_metrics), text)
    metrics.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="write the text to this file, in one step, for the textfile collector of node_exporter",
    )


def _metrics(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.engine.metrics import collect
    from aurora_sync.model.prometheus import text_format

    samples = collect(settings, places, lambda error: print_note(f"warning: {error}"))
    text = text_format(samples)
    if arguments.file:
        _replace(arguments.file, text)
    if arguments.json:
        print_json([{"name": each.metric.name, "labels": each.labels, "value": each.value} for each in samples])
    elif not arguments.file:
        print(text, end="")
    return 0


def _replace(path: Path, text: str) -> None:
    """Write the file so that a reader sees the former content or all of the new one. Raises ConfigError."""
    from aurora_sync.errors import ConfigError

    # The collector reads every file of its folder whose name ends in .prom.
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}", where="--file") from error
