"""The help of the command line imports no other package, so that it is quick and works in every installation."""

from __future__ import annotations

import subprocess
import sys

import pytest

from aurora_sync.cli.triggers import KINDS
from aurora_sync.provisioning.triggers.installed import TriggerKind

# Python itself imports some packages at its start, because of .pth files in site-packages.
PROGRAM = """
import contextlib, io, sys
there = set(sys.modules)
from aurora_sync.cli.main import main
for command in sys.argv[1:]:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - there} - sys.stdlib_module_names))
"""
COMMANDS = (
    *("", "sync", "reconcile", "verify", "plan", "status", "check", "gc", "assess", "schema", "demo", "ui", "clean"),
    *("completion", "metrics"),
    *("cdc", "cdc setup", "cdc status", "cdc teardown", "cdc connector", "cdc dms"),
    *("triggers", "triggers plan", "triggers apply", "triggers verify", "triggers remove"),
)


@pytest.mark.parametrize("commands", [COMMANDS[:1], COMMANDS[1:]], ids=["aurora-sync", "its commands"])
def test_help_imports_no_package_but_our_own(commands: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *commands], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["aurora_sync"]


def test_kinds_of_triggers_are_those_that_can_be_installed() -> None:
    assert list(KINDS) == [kind.value for kind in TriggerKind]
