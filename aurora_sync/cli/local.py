"""``aurora-sync demo | ui | clean``: the local stack."""

from __future__ import annotations

import argparse

from aurora_sync.cli.environment import STACK
from aurora_sync.cli.options import Commands, add_command
from aurora_sync.config.extras import extra


def add_to(commands: Commands) -> None:
    text = "sync seven legacy tables of a local database, under concurrent writers"
    demo = add_command(commands, "demo", _demo, text)
    demo.add_argument("--seconds", type=float, default=10, help="how long the writers write (default: 10)")
    ui = add_command(commands, "ui", _ui, "start the Dagster UI, on the local stack where AURORA_DSN is not set")
    ui.add_argument("--port", type=int, default=3000, help="port of 127.0.0.1 (default: 3000)")
    add_command(commands, "clean", _clean, "stop the local stack and remove its data")


def _demo(arguments: argparse.Namespace) -> int:
    with extra("embedded"):
        from aurora_sync.embedded.demo import demo

    return demo(STACK, seconds=arguments.seconds, as_json=arguments.json)


def _ui(arguments: argparse.Namespace) -> int:
    with extra("embedded"):
        from aurora_sync.embedded.ui import serve

    return serve(STACK, port=arguments.port)


def _clean(arguments: argparse.Namespace) -> int:
    with extra("embedded"):
        from aurora_sync.embedded.stack import Stack

    Stack(STACK).remove()
    if not arguments.json:
        print(f"removed {STACK}")
    return 0
