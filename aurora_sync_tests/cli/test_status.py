"""Commands that only read: they create no warehouse, and show the state of the target that tables.yaml names."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from aurora_sync.cli.main import main
from aurora_sync_tests.cli.running import execute

Write = Callable[[str], None]
NAME = "aurora_sync_status"


def run_sequences(capsys: pytest.CaptureFixture[str]) -> list[int]:
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    return [state["run_sequence"] for state in json.loads(capsys.readouterr().out)]


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("status", 0, "never synced"),
        ("plan", 0, "whole table"),
        ("metrics", 0, 'table="public.t"} 0'),
        ("verify", 1, "the table was never synced"),
        ("upgrade --plan", 0, ""),
    ],
)
def test_a_command_that_only_reads_creates_no_warehouse(
    command: str,
    status: int,
    said: str,
    dsn: str,
    write: Write,
    warehouse_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    write("- {table_name: t, watermark_type: xmin}\n")
    assert main(command.split()) == status
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert not warehouse_path.exists()


def test_a_table_with_a_new_target_was_never_synced_to_it(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY)")
    for target in ("a_new", "z_old", "z_old"):  # the newest entry by name is that of z_old
        write(f"- {{table_name: t, watermark_type: full_snapshot, target_table: {target}}}\n")
        execute(dsn, "INSERT INTO t SELECT 1 + count(*) FROM t")
        assert main(["sync"]) == 0
    assert run_sequences(capsys) == [2]
    write("- {table_name: t, watermark_type: full_snapshot, target_table: a_new}\n")
    assert run_sequences(capsys) == [1]
    write("- {table_name: t, watermark_type: full_snapshot, target_table: another}\n")
    assert run_sequences(capsys) == [0]
