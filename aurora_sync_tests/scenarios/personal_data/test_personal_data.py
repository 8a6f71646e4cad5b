"""Keys and values of rows are not printed, logged or returned, unless show_values is set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from aurora_sync.cli.main import main
from aurora_sync_tests.scenarios.world import World

SECRET = "SECRET-7f3a"
TABLE = "CREATE TABLE t (id text PRIMARY KEY, n timestamp, v text)"
ROW = f"INSERT INTO t VALUES ('{SECRET}', '2001-01-01', '{SECRET}')"
UNLIMITED = f"UPDATE t SET n = 'infinity' WHERE id = '{SECRET}'"


@dataclass(frozen=True)
class Case:
    """A fault, and words that its messages must still contain."""

    statements: tuple[str, ...]
    entry: dict[str, Any]
    words: tuple[str, ...]
    command: str = "sync"
    status: int = 1
    tampered: tuple[str, ...] = field(default=())  # statements on the target, between a sync and the command


CASES = {
    "adjusted": Case(
        (TABLE, ROW, UNLIMITED),
        {"column_types": {"n": "null"}},
        ("1 values of column n became NULL", 'SELECT ctid, * FROM "public"."t" WHERE xmin::text IN ('),
        status=0,
    ),
    "refused": Case(
        (TABLE, ROW, UNLIMITED),
        {"column_types": {"n": "fail"}},
        ("1 values of column n", "cannot hold them", 'SELECT ctid, * FROM "public"."t" WHERE xmin::text IN ('),
    ),
    "doubled": Case(
        (TABLE, ROW, f"INSERT INTO t VALUES ('b', '2001-01-01', '{SECRET}')", "CREATE VIEW w AS TABLE t"),
        {"table_name": "w", "watermark_type": "full_snapshot", "primary_key": "v"},
        ("(v) is not unique", 'SELECT "v", count(*) FROM "public"."w" GROUP BY "v" HAVING count(*) > 1'),
    ),
    "of_another_type": Case(
        (TABLE, ROW, "CREATE VIEW w AS SELECT id, v::int FROM t"),
        {"table_name": "w", "watermark_type": "full_snapshot"},
        ("public.w", 'invalid input syntax for type integer: "..."', "22P02", "show_values"),
    ),
    "raised": Case(
        (
            TABLE,
            ROW,
            "CREATE FUNCTION f(v text) RETURNS text LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'bad: %', v USING ERRCODE = '40001', DETAIL = v, HINT = v; END $$",
            "CREATE VIEW w AS SELECT id, public.f(v) FROM t",
        ),
        {"table_name": "w", "watermark_type": "full_snapshot"},
        ("public.w", "a function of the source raised an error", "40001"),
    ),
    "different": Case(
        (TABLE, ROW),
        {},
        ("1 different", "differs in the columns: N", 'SELECT ctid, * FROM "public"."t" WHERE xmin::text IN ('),
        command="verify",
        tampered=("UPDATE PUBLIC.T SET N = '2002-02-02'",),
    ),
    "missing": Case(
        (TABLE, ROW),
        {},
        ("1 rows missing", "only in the source", 'SELECT ctid, * FROM "public"."t" WHERE xmin::text IN ('),
        command="verify",
        tampered=("UPDATE PUBLIC.T SET ID = 'y'",),
    ),
    "surplus": Case(
        (TABLE, ROW.replace(SECRET, "a")),
        {},
        ("only in the target", 'SELECT * FROM "PUBLIC"."T" WHERE "_SRC_XMIN" = '),
        command="verify",
        tampered=(f"UPDATE PUBLIC.T SET ID = '{SECRET}'",),
    ),
}


@pytest.mark.parametrize("shown", [False, True], ids=["hidden", "shown"])
@pytest.mark.parametrize("name", CASES)
def test_values_are_printed_and_logged_only_where_they_may_be(
    world: World,
    name: str,
    shown: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    case = CASES[name]
    world.execute(*case.statements)
    entry = {"table_name": "t", "watermark_type": "xmin"} | case.entry
    document = {"defaults": {"show_values": shown}, "tables": [entry]}
    (tmp_path / "tables.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tmp_path / "tables.yaml"))
    monkeypatch.setattr("aurora_sync.engine.retries.ATTEMPTS", 1)
    monkeypatch.setattr("aurora_sync.engine.retries.FIRST_PAUSE", 0)
    said = []
    for options in ([], ["--json"], ["--debug"]):
        if case.tampered:
            assert main(["sync", "--full"]) == 0
            capsys.readouterr()
            for statement in case.tampered:
                world.query(statement)
        more = ["--full"] if case.command == "sync" else []
        assert main([case.command, *more, *options]) == case.status
        printed = capsys.readouterr()
        said.append("\n".join([printed.out, printed.err, *caplog.messages]))
        caplog.clear()
    assert (SECRET in "".join(said)) is shown
    if not shown:
        assert [word for word in case.words if word not in said[0] + said[1].replace('\\"', '"')] == []
