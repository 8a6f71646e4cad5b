"""The command line: parse the arguments, run a command, return its exit status.

Each file in this folder declares the options of its commands. It imports the code of a command only when the command
runs, so that the help is quick. No command needs a Dagster instance; only ``ui`` starts Dagster.

Results go to standard output (one JSON document with ``--json``), everything else to standard error. Exit status: 0
success, 1 a table or connection failed, 2 the command, the configuration or the settings are wrong, 130 interrupted,
141 the reader of the output ended.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from aurora_sync.cli import (
    assess,
    cdc,
    check,
    completion,
    cost,
    gc,
    load,
    local,
    metrics,
    plan,
    reload,
    report,
    schema,
    setup,
    status,
    sync,
    triggers,
    upgrade,
)
from aurora_sync.cli.printing import LogHandler, print_error, print_note
from aurora_sync.errors import AuroraSyncError, ConfigError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status. ``argv`` defaults to the arguments of the process."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if arguments.debug else logging.WARNING,
        format="%(levelname)s %(message)s",
        handlers=[LogHandler()],
    )
    for chatty in ("botocore", "boto3", "urllib3", "s3transfer", "snowflake"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        code = int(arguments.command(arguments))
        sys.stdout.flush()  # a closed pipe shows here, and not when the interpreter ends
        return code
    except AuroraSyncError as error:
        print_error(error, arguments)
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        print_note("interrupted; targets and watermarks are as the last finished run left them")
        return 130
    except BrokenPipeError:  # the reader of the output ended, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # what a shell shows for SIGPIPE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="aurora-sync",
        description="Incremental sync of PostgreSQL tables through S3 into Snowflake.",
        epilog="Settings come from the environment; without AURORA_DSN the local stack in .aurora_sync is used.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    # In the order of the help.
    for group in (
        sync,
        reload,
        load,
        plan,
        status,
        report,
        metrics,
        check,
        cost,
        upgrade,
        gc,
        cdc,
        assess,
        triggers,
        setup,
        schema,
        local,
    ):
        group.add_to(commands)
    completion.add_to(commands, parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
