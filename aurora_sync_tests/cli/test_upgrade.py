"""`aurora-sync upgrade --plan` on the local warehouse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aurora_sync.cli.main import main
from aurora_sync_tests.cli.running import execute


def test_missing_comment_is_listed_and_nothing_is_changed(
    dsn: str, tables_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables_file.write_text(json.dumps({"tables": [{"table_name": "t", "watermark_type": "xmin"}]}))
    execute(dsn, "CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'v')")
    assert main(["sync"]) == 0
    capsys.readouterr()
    assert main(["upgrade", "--plan"]) == 0
    assert capsys.readouterr().out == "No existing target can be improved.\n"
    execute(dsn, "COMMENT ON COLUMN t.v IS 'a value'")
    statement = """COMMENT ON COLUMN "PUBLIC"."T"."V" IS 'a value'"""
    for _ in range(2):
        assert main(["upgrade", "--plan"]) == 0
        lines = ["-- PUBLIC.T, synced from public.t", "-- the comment of column V", f"{statement};"]
        assert capsys.readouterr().out.splitlines() == lines
    assert main(["upgrade", "--plan", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["improvements"] == [{"what": "the comment of column V", "statement": statement}]
