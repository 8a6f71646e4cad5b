"""``aurora-sync report`` on real tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.cli.main import main
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.cli.running import execute
from aurora_sync_tests.engine.test_overview import Page

Write = Callable[[str], None]
NAME = "aurora_sync_report"


def test_the_page_has_every_table_and_reads_the_sync_log_at_once(
    dsn: str, write: Write, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    execute(
        dsn,
        'CREATE TABLE "<b>t</b>" (id int PRIMARY KEY)',
        "CREATE TABLE other (id int PRIMARY KEY)",
        "CREATE TABLE new (id int PRIMARY KEY)",
    )
    write(
        "- {table_name: '<b>t</b>', watermark_type: xmin}\n- {table_name: other, watermark_type: xmin}\n"
        "- {table_name: new, watermark_type: xmin}\n"
    )
    for first in (1, 11):
        execute(dsn, f'INSERT INTO "<b>t</b>" SELECT generate_series({first}, {first + 9})')
        assert main(["sync", "other", "<b>t</b>"]) == 0
    capsys.readouterr()
    statements = []
    query = DuckDBSession.query

    def counted(self: DuckDBSession, statement: str, parameters: Any = ()) -> Any:
        statements.append(statement)
        return query(self, statement, parameters)

    with monkeypatch.context() as patch:
        patch.setattr(DuckDBSession, "query", counted)
        assert main(["report"]) == 0
    assert len([each for each in statements if "SYNC_LOG" in each]) == 2
    html = capsys.readouterr().out
    shown = Page(html).text
    assert "1 of 3 tables needs attention" in shown
    for said in ("public.<b>t</b> xmin", "public.other", "public.new", "+10 ~0 −0", "runs 1 to 2, at most 10"):
        assert said in shown, said

    path = tmp_path / "report.html"
    assert main(["report", "--output", str(path)]) == 0
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out == f"{path} was written\n"
    assert main(["report", "other", "new", "--output", str(path), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["certified"], counts["never synced"]) == (1, 1)


def test_without_any_run_the_page_says_so_and_creates_no_warehouse(
    dsn: str, write: Write, warehouse_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write("- {table_name: t, watermark_type: xmin}\n")
    assert main(["report"]) == 0
    assert "Nothing was synced to this target yet" in Page(capsys.readouterr().out).text
    assert not warehouse_path.exists()


@pytest.mark.closes_warehouse
def test_a_warehouse_that_cannot_be_read_is_an_error_and_the_file_stays(
    write: Write, warehouse_path: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write("- {table_name: t, watermark_type: xmin}\n")
    warehouse_path.write_bytes(b"no database" * 1000)
    path = tmp_path / "report.html"
    path.write_text("former", encoding="utf-8")
    assert main(["report", "--output", str(path)]) == 1
    assert "the file cannot be opened" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "former"
    assert main(["report", "--output", str(tmp_path / "nothing" / "x.html")]) != 0
