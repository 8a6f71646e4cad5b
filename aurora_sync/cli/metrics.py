"""``aurora-sync metrics``: print metrics for Prometheus, or write them to a file for node_exporter."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.files import replace_file
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
        replace_file(arguments.file, text, "--file")
    if arguments.json:
        print_json([{"name": each.metric.name, "labels": each.labels, "value": each.value} for each in samples])
    elif not arguments.file:
        print(text, end="")
    return 0
