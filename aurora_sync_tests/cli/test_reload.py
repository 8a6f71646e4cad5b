"""`aurora-sync reload` on the local warehouse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aurora_sync.cli.main import main
from aurora_sync_tests.cli.running import Command, execute

RELOAD = Command("reload")


@pytest.fixture(autouse=True)
def synced(dsn: str, tables_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Sync a table whose row 30 is then deleted."""
    tables_file.write_text(json.dumps({"tables": [{"table_name": "t", "watermark_type": "xmin"}]}))
    rows = "INSERT INTO t SELECT i, now() FROM generate_series(1, 90) i"
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY, at date)", rows)
    assert main(["sync"]) == 0
    execute(dsn, "DELETE FROM t WHERE id = 30")
    capsys.readouterr()


def test_rows_are_counted_and_then_read_again(capsys: pytest.CaptureFixture[str]) -> None:
    counted = RELOAD.said(capsys, 0, "t", "--from", "21", "--to", "41", "--dry-run")
    assert counted == "public.t: 19 rows with id >= 21 and id < 41 would be read again\n"
    assert RELOAD.document(capsys, 0, "t", "--from", "21", "--to", "41", "--dry-run")[0]["rows"] == 19
    said = RELOAD.said(capsys, 0, "t", "--from", "21", "--to", "41")
    assert "run 2    19 read by horizon scan" in said
    assert "+0 ~0 -1" in said
    assert "  19 rows with id >= 21 and id < 41 are read again" in said
    (receipt,) = RELOAD.document(capsys, 0, "t", "--since", "2026-01-01", "--column", "at")["receipts"]
    assert receipt["rows_exported"] == 89


def test_dry_run_says_when_there_are_too_many_rows(capsys: pytest.CaptureFixture[str]) -> None:
    said = RELOAD.said(capsys, 0, "t", "--from", "21", "--max-rows", "5", "--dry-run")
    assert said == "public.t: 69 rows with id >= 21 would be read again; --max-rows 5 refuses that\n"
    assert main(["reload", "t", "--from", "21", "--max-rows", "5"]) == 1
    assert "found 69 rows with id >= 21; expected at most 5 (--max-rows)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["tt", "--from", "1"], "no table is named 'tt'; did you mean t?"),
        (["t"], "expected either --since, or a range of keys (--from, --to or both)"),
        (["t", "--from", "1", "--column", "at"], "found --column without --since"),
        (["t", "--from", "a"], "public.t: --from: found 'a'; expected an integer, such as 1000"),
        (["t", "--to", "a"], "public.t: --to: found 'a'"),
        (["t", "--from", "2", "--to", "1"], "expected --from to be less than --to"),
        (["t", "--since", "a", "--column", "at"], "public.t: --since: found 'a'; expected a date"),
        (["t", "--since", "2026-01-01", "--column", "a"], "--column: the table has no column a"),
        (
            ["t", "--since", "2026-01-01", "--column", "id"],
            "--since: column id is integer; expected a timestamp or a date; set --column to another column, or give a"
            " range of keys",
        ),
        (
            ["t", "--since", "2026-01-01"],
            "--since: found no column; watermark_type xmin has none of its own; set --column to the name of a column",
        ),
    ],
)
def test_wrong_request_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    assert main(["reload", *arguments]) == 2
    assert expected in capsys.readouterr().err
