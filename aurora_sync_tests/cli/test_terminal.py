"""What commands print on a terminal, and what they print in a pipe."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from aurora_sync.cli.main import main
from aurora_sync.cli.printing import Verbatim, print_error_text, print_lines
from aurora_sync.cli.progress import RunProgress
from aurora_sync.cli.status_text import attention_lines
from aurora_sync.cli.table import print_table
from aurora_sync.source.copy_out import Progress
from aurora_sync_tests.cli.running import execute, terminal

NAMES = ("customers_of_the_old_shop", "orders")
TABLES = "tables:\n" + "".join(f"- {{table_name: {name}, watermark_type: xmin}}\n" for name in NAMES)
ESCAPE = "\x1b"


@pytest.fixture
def tables(dsn: str, tables_file: Path) -> None:
    """Create two tables, and a tables.yaml that names them."""
    tables_file.write_text(TABLES, encoding="utf-8")
    for name in NAMES:
        execute(dsn, f"CREATE TABLE {name} (id int PRIMARY KEY)", f"INSERT INTO {name} SELECT generate_series(1, 9)")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("columns", [80, 160])
def test_status_fits_the_terminal_and_names_the_command_for_a_table_never_synced(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["sync", "orders", "--json"]) == 0
    with terminal(monkeypatch, columns, "stdout") as screen:
        assert main(["status"]) == 0
    lines = re.sub(r"\x1b\[\d*m", "", screen.text).splitlines()
    assert lines[:3] == [
        "1 of 2 tables needs attention",
        "  public.customers_of_the_old_shop: never synced",
        "    run: aurora-sync sync public.customers_of_the_old_shop",
    ]
    assert all(len(line) <= columns for line in lines)
    (orders,) = (line.split() for line in lines if line.startswith("public.orders "))
    assert orders[1:4] == ["xmin", "1", "9"]
    assert "certified" in orders
    if columns == 160:
        assert any(re.match(r"public\.customers_of_the_old_shop +xmin +- +- +never synced ", line) for line in lines)


@pytest.mark.usefixtures("tables")
def test_sync_shows_bars_and_receipts_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch, 80, "stdout", "stderr") as screen:
        assert main(["sync"]) == 0
    assert "table 1 of 2: public.customers_of_the_old_shop" in screen.text
    assert "table 2 of 2: public.orders" in screen.text
    # The bars are erased before a receipt is printed.
    assert re.search(
        r"\x1b\[2Kpublic\.orders +run 1 +\+9 ~0 -0 +9 rows +\d+\.\d s\n  9 read by whole table\n", screen.text
    )
    assert screen.text.count("\x1b[?25l") == screen.text.count("\x1b[?25h") > 0  # the cursor is shown at the end


@pytest.mark.usefixtures("tables")
def test_results_in_a_pipe_are_plain_while_bars_are_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch, 160, "stderr") as screen:
        assert main(["sync"]) == 0
    printed = capsys.readouterr().out
    assert "table 2 of 2" in screen.text
    assert "read by" not in screen.text
    assert ESCAPE not in printed
    assert [line.split()[0] for line in printed.splitlines()] == [f"public.{name}" for name in NAMES]


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("setting", [{"no_color": True}, {"term": "dumb"}], ids=["NO_COLOR", "TERM=dumb"])
def test_terminal_that_wants_no_escape_sequences_gets_none(
    setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with terminal(monkeypatch, 80, "stdout", "stderr", **setting) as screen:
        assert main(["sync", "orders"]) == 0
        assert main(["status"]) == 0
        assert main(["plan", "no_such_table"]) == 2
    assert ESCAPE not in screen.text
    assert "1 of 2 tables needs attention" in screen.lines
    assert any(line.startswith("error:") for line in screen.lines)


@pytest.mark.usefixtures("tables")
def test_table_in_a_pipe_has_one_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "2 of 2 tables need attention\n"
        "  public.customers_of_the_old_shop, public.orders: never synced\n"
        "    run: aurora-sync sync\n"
        "\n"
        "table                             strategy  run  rows  changed       watermark  certificate\n"
        "public.customers_of_the_old_shop  xmin        -     -  never synced  -          -\n"
    )


@pytest.mark.usefixtures("tables")
def test_phases_of_a_run_and_of_a_verification_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[Progress] = []
    monkeypatch.setattr(RunProgress, "__call__", lambda self, progress: reports.append(progress))
    assert main(["sync", "orders", "--json"]) == 0
    assert [(each.phase, each.rows, each.seconds) for each in reports] == [
        ("export", 0, 0.0),
        ("load", 9, 0.0),
        ("merge", 9, 0.0),
    ]
    reports.clear()
    assert main(["verify", "orders", "--json"]) == 0
    assert [each.phase for each in reports] == ["export", "compare"]


def test_progress_in_a_pipe_is_a_line_every_five_seconds_of_an_export(capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(1, quiet=False) as progress:
        progress.begin(("public.orders",))
        progress(Progress(0, 0, 0.0, None))
        for seconds in (4.5, 5.0, 6.0, 10.0):
            progress(Progress(int(seconds * 1000), int(seconds * 2e6), seconds, seconds / 20))
        progress(Progress(10_000, 20, 0.0, None, "merge"))
    assert capsys.readouterr().err == (
        "public.orders: 5,000 rows, 25%, 2 MB/s\npublic.orders: 10,000 rows, 50%, 2 MB/s\n"
    )
    with RunProgress(1, quiet=True) as progress:
        progress.begin(("public.orders",))
        progress(Progress(5_000, 2, 5.0, None))
    assert capsys.readouterr().err == ""


def test_bars_show_share_rows_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")  # rich asks the terminal of the process
    with terminal(monkeypatch, 80, "stderr") as screen, RunProgress(3, quiet=False) as progress:
        progress.begin(("public.orders", "public.baskets"))
        progress(Progress(0, 0, 0.0, None))
        progress(Progress(1_000_000, 500_000_000, 10.0, 0.25))
        progress.clear()
        progress(Progress(4_000_000, 1_500_000, 0.0, None, "load"))
        print("a warning", file=sys.stderr)
    text = re.sub(r"\x1b\[[\d;]*m", "", screen.text)
    assert "tables 1 to 2 of 3: public.orders, public.baskets" in text
    assert "export 25%, 1,000,000 rows, 50 MB/s, 0:00:30 left" in text
    assert "load 4,000,000 rows, 1.5 MB" in text
    assert "a warning\n" in text


def test_long_lines_wrap_between_words_and_statements_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    statement = f"     CREATE INDEX {'x' * 40} ON t (id);"
    with terminal(monkeypatch, 40, "stdout", "stderr") as screen:
        print_lines("  warning  the server was restarted since the last run", Verbatim(statement))
        print_lines("  reconciled: 98 buckets compared, 0 differed")
        print_error_text("public.orders: only the owner of a table may do this")
    assert screen.lines == [
        "  warning  the server was restarted",
        "           since the last run",
        statement,
        "  reconciled: 98 buckets compared, 0",
        "    differed",
        "\x1b[31merror:\x1b[0m public.orders: only the owner of",
        "       a table may do this",
    ]


def test_table_on_a_narrow_terminal_wraps_texts_and_cuts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a publication and a replication slot: `aurora-sync cdc setup --apply`"
    with terminal(monkeypatch, 60, "stdout") as screen:
        print_table(["table", "rows", "needs"], [["[red]x\x1b[2J", "1,234,567", text]], right=(1,), attention=(0,))
    shown = [line for line in screen.lines if line.strip()]
    assert "[red]x\\x1b[2J" in shown[1]
    assert shown[1].startswith("\x1b[33m")
    plain = re.sub(r"\x1b\[\d*m", "", screen.text).splitlines()
    assert max(map(len, plain)) <= 60
    assert " ".join(" ".join(line[24:] for line in plain[1:]).split()) == text


def test_uncertified_table_needs_a_reconcile_and_a_bounded_one_nothing() -> None:
    def state(name: str, level: str) -> dict[str, Any]:
        return {"table": name, "run_sequence": 3, "certificate": {"level": level, "text": "no fence"}}

    states = [state("s.a b", "uncertified"), state("s.c", "bounded"), state("s.d", "certified")]
    assert list(attention_lines(states)) == [
        "1 of 3 tables needs attention",
        "  s.a b: uncertified: no fence",
        "    run: aurora-sync reconcile 's.a b'",
    ]
    assert list(attention_lines(states[1:])) == ["OK: 2 tables, none needs attention"]
