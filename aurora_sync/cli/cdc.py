"""``aurora-sync cdc setup | status | teardown | connector | dms``: options of the commands for change streams."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from aurora_sync.cli.environment import on_places
from aurora_sync.cli.options import Commands, add_command, add_group

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings
    from aurora_sync.engine.places import Places


def add_to(commands: Commands) -> None:
    text = "set up, monitor and remove logical replication (watermark_type: logical or debezium)"
    actions = add_group(commands, "cdc", text)
    text = "show what is missing at the source: replica identities, publication, slot"
    setup = add_command(actions, "setup", on_places(_setup), text)
    text = "show how much WAL each slot retains, how far behind it is, and what is missing"
    status = add_command(actions, "status", on_places(_status), text)
    text = "drop a slot and its publication; then set another watermark_type for its tables"
    teardown = add_command(actions, "teardown", on_places(_teardown), text)
    text = "print the configuration of Debezium's connectors, for POST /connectors of Kafka Connect"
    connector = add_command(actions, "connector", on_places(_connector), text)
    for added in (setup, status, teardown, connector):
        added.add_argument("--slot", metavar="NAME", help="one replication slot; default: all of tables.yaml")
    for added in (setup, teardown):
        added.add_argument(
            "--apply", action="store_true", help="run the statements; without this option they are only shown"
        )
    setup.add_argument(
        "--timeout", default="10min", help="how long to wait for locks and open transactions (default: 10min)"
    )
    text = "print the settings of AWS DMS tasks for the API of DMS: endpoints, task, table mappings"
    files = actions.add_parser("dms", help=text, description=text)
    files.add_argument("--debug", action="store_true", help="print tracebacks of errors")
    files.set_defaults(command=on_places(_dms), json=True)


def _setup(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.cdc_actions import setup

    return setup(arguments, settings, places)


def _status(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.cdc_actions import status

    return status(arguments, settings, places)


def _teardown(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.cdc_actions import teardown

    return teardown(arguments, settings, places)


def _connector(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.cdc_actions import connector

    return connector(arguments, settings, places)


def _dms(arguments: argparse.Namespace, settings: Settings, places: Places) -> int:
    from aurora_sync.cli.cdc_actions import dms_settings

    return dms_settings(arguments, settings, places)
