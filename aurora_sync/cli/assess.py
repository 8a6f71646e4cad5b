"""``aurora-sync assess``: options of the command that proposes strategies."""

from __future__ import annotations

import argparse
from pathlib import Path

from aurora_sync.cli.environment import in_environment
from aurora_sync.cli.options import Commands, add_command, add_tables


def add_to(commands: Commands) -> None:
    text = "propose a strategy for each table of the source, with the reasons; needs only AURORA_DSN"
    parser = add_command(commands, "assess", in_environment(_assess), text)
    add_tables(parser, "all of the database")
    parser.add_argument(
        "--no-replication", dest="replication", action="store_false", default=None, help="propose no replication slots"
    )
    parser.add_argument(
        "--no-ddl", dest="ddl", action="store_false", default=None, help="propose no triggers on tables"
    )
    parser.add_argument(
        "--deletes-at-once",
        action="store_true",
        default=None,
        help="propose only strategies that find deletes in the next run",
    )
    parser.add_argument("--freshness", metavar="TIME", help="how often a table is synced: 15m, 1h (default), 1d")
    parser.add_argument(
        "--max-read-per-day", metavar="SIZE", help="the most to read from one table in a day: 500MB, 50GB"
    )
    parser.add_argument(
        "--prove",
        action="store_true",
        help="scan the tables for rows that were written later than their timestamp says",
    )
    parser.add_argument("--why", action="store_true", help="explain every strategy for every table")
    parser.add_argument(
        "--write",
        metavar="FILE",
        type=Path,
        help="write a tables.yaml; if the file exists, print the differences and leave it unchanged",
    )
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the assessment as one HTML page")


def _assess(arguments: argparse.Namespace) -> int:
    from aurora_sync.cli.assess_actions import assess

    return assess(arguments)
