"""``aurora-sync triggers plan | apply | verify | remove``: options of the commands for triggers."""

from __future__ import annotations

import argparse
import re

from aurora_sync.cli.environment import in_environment
from aurora_sync.cli.options import Command, Commands, add_command, add_group, add_tables

# The values of TriggerKind. Its module is not imported, because it imports psycopg2.
KINDS = ("outbox", "audit_columns")


def add_to(commands: Commands) -> None:
    text = "install, test and remove triggers that record changes (watermark_type: outbox)"
    actions = add_group(commands, "triggers", text)

    def action(name: str, function: Command, text: str) -> argparse.ArgumentParser:
        return add_command(actions, name, in_environment(function), text)

    plan = action("plan", _plan, "show each missing statement, with its lock and the statement that undoes it")
    apply = action("apply", _apply, "run the missing statements step by step; no step waits long for a lock")
    verify = action("verify", _verify, "try every kind of write, in a transaction that is rolled back")
    remove = action("remove", _remove, "remove the triggers and everything that was created for them")
    for added in (plan, apply, verify):
        add_tables(added, "the tables of tables.yaml with watermark_type: outbox")
    add_tables(remove, default="")
    for added in (plan, apply):
        kinds = "outbox (default): keys of changed and deleted rows; audit_columns: created_at and updated_at"
        added.add_argument("--kind", choices=KINDS, default="outbox", help=kinds)
    apply.add_argument(
        "--batch",
        type=_at_least_one,
        default=5_000,
        metavar="ROWS",
        help="rows in one batch of the backfill (default: 5000)",
    )
    apply.add_argument(
        "--busy",
        type=_share,
        default=0.5,
        metavar="SHARE",
        help="share of the time in which the backfill works; it pauses in the rest (default: 0.5)",
    )
    verify.set_defaults(kind=None)
    remove.add_argument("--dry-run", action="store_true", help="show the statements, and run none")
    text = "how long a step waits for its lock (default: 2s)"
    for added in (apply, remove):
        added.add_argument("--lock-timeout", type=_time, default="2s", metavar="TIME", help=text)
        added.add_argument(
            "--attempts",
            type=_at_least_one,
            default=30,
            metavar="N",
            help="how often a step tries to get its lock (default: 30)",
        )


def _plan(arguments: argparse.Namespace) -> int:
    from aurora_sync.cli.triggers_actions import plan

    return plan(arguments)


def _apply(arguments: argparse.Namespace) -> int:
    from aurora_sync.cli.triggers_actions import apply

    return apply(arguments)


def _verify(arguments: argparse.Namespace) -> int:
    from aurora_sync.cli.triggers_actions import verify

    return verify(arguments)


def _remove(arguments: argparse.Namespace) -> int:
    from aurora_sync.cli.triggers_actions import remove

    return remove(arguments)


def _at_least_one(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1; found {text!r}")
    return int(text)


def _time(text: str) -> str:
    if not re.fullmatch("[1-9][0-9]{0,5}(ms|s|min)", text):
        raise argparse.ArgumentTypeError(f"expected a time such as 500ms, 2s or 1min; found {text!r}")
    return text


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"expected a share such as 0.5 or 1; found {text!r}")
    return share
