"""``aurora-sync schema``: the JSON Schema of tables.yaml."""

from __future__ import annotations

import argparse

from aurora_sync.cli.options import Commands, add_command
from aurora_sync.cli.printing import print_json


def add_to(commands: Commands) -> None:
    add_command(commands, "schema", _schema, "print the JSON Schema of tables.yaml")


def _schema(arguments: argparse.Namespace) -> int:
    from aurora_sync.config.schema import json_schema

    print_json(json_schema())
    return 0
