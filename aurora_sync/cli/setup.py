"""``aurora-sync setup``: print the statements that prepare a Snowflake account, or the export by Aurora."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING

from aurora_sync.cli.options import Commands, add_command, add_group
from aurora_sync.cli.printing import Verbatim, print_json, print_lines

if TYPE_CHECKING:
    from aurora_sync.config.settings import Settings


def add_to(commands: Commands) -> None:
    actions = add_group(commands, "setup", "print statements that prepare a warehouse, or the export by Aurora")
    text = "print the SQL for role, user, warehouse, database, stage and grants; connects to nothing in Snowflake"
    add_command(actions, "snowflake", _snowflake, text)
    text = "print the IAM role, the extension and the grants for `export: aurora`; connects to nothing"
    add_command(actions, "aurora", _aurora, text)


def _snowflake(arguments: argparse.Namespace) -> int:
    from aurora_sync.config.backends.snowflake import SnowflakeSettings
    from aurora_sync.config.settings import Settings
    from aurora_sync.errors import ConfigError
    from aurora_sync.provisioning.snowflake import setup_script, setup_statements
    from aurora_sync.warehouse.snowflake_login import public_key

    settings = Settings.from_environment(os.environ)
    if not isinstance(settings.warehouse, SnowflakeSettings):
        raise ConfigError(
            f"AURORA_SYNC_WAREHOUSE is {settings.warehouse.kind}, expected snowflake",
            hint="export AURORA_SYNC_WAREHOUSE=snowflake, and the SNOWFLAKE_* variables",
        )
    parts = setup_statements(
        settings.warehouse,
        f"{settings.stage}/",
        settings.log_schema,
        _schemas(settings),
        public_key(settings.warehouse),
    )
    if arguments.json:
        print_json({"statements": [statement for part in parts for statement in part.statements]})
    else:
        print_lines(*map(Verbatim, setup_script(parts).split("\n")))
    return 0


def _aurora(arguments: argparse.Namespace) -> int:
    from dataclasses import asdict

    from aurora_sync.config.settings import Settings
    from aurora_sync.provisioning.aurora import aurora_setup

    settings = Settings.from_environment(os.environ)
    setup = aurora_setup(settings.dsn, settings.stage, settings.export_kms_key)
    if arguments.json:
        print_json(asdict(setup))
    else:
        print_lines(*map(Verbatim, setup.script().split("\n")))
    return 0


def _schemas(settings: Settings) -> set[str]:
    """Return the schemas of the targets; that of the default, when there is no tables.yaml yet. Queries the source
    only when tables.yaml has globs."""
    from aurora_sync.engine.selection import all_tables
    from aurora_sync.source.database import Source

    if not settings.tables.exists():
        return {"PUBLIC"}
    return {table.written_target[0] for table in all_tables(settings, Source(settings.dsn))}
