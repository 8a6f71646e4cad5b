"""A verification by the command line takes the task's files, finds what they lack, and repairs nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from aurora_sync.cli.main import main
from aurora_sync.errors import NotComparedError
from aurora_sync_tests.scenarios.dms_files.conftest import run, table_of
from aurora_sync_tests.scenarios.dms_files.task import Task
from aurora_sync_tests.scenarios.world import World

CREATE = (
    "CREATE TABLE t (id int PRIMARY KEY, v text, doc text)",
    "INSERT INTO t SELECT g, 'v' || g, 'd' FROM generate_series(1, 30) g",
)


def test_task_that_drops_updates_is_found_each_time(
    world: World,
    task_of: Callable[..., Task],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    run(table, world)
    tables = tmp_path / "tables.yaml"
    tables.write_text(f"tables:\n- {{table_name: t, watermark_type: dms, files: '{task.folder}'}}\n", encoding="utf-8")
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    monkeypatch.setenv("AURORA_SYNC_WAREHOUSE", f"duckdb:{world.warehouse_path}")
    monkeypatch.setenv("AURORA_SYNC_TABLES", str(tables))
    with monkeypatch.context() as misconfigured:
        misconfigured.setattr(task, "update", lambda _: None)
        world.execute("UPDATE t SET v = 'dropped' WHERE id < 4", "INSERT INTO t VALUES (31, 'new', 'd')")
        task.write()
    for number in (1, 2):
        capsys.readouterr()
        assert main(["verify", "t"]) == 1
        printed = capsys.readouterr().out
        assert "DIFFERENT: 0 rows missing in the target, 3 different, 0 that only the target has" in printed
        assert "the target has every change that the DMS task had written" in printed
        assert "to repair: aurora-sync reconcile public.t" in printed
        assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T" WHERE "V" = \'dropped\'') == [(0,)]
        assert world.query('SELECT COUNT(*) FROM "PUBLIC"."T"') == [(30 + number,)]
        world.execute(
            f"DELETE FROM t WHERE id = {31 - number}", f"INSERT INTO t VALUES ({50 + number}), ({60 + number})"
        )
        task.write()
    assert main(["verify", "--repair", "t"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("DIFFERENT") < printed.index("  equal: 33 rows")


def test_what_the_files_do_not_say_is_not_compared(world: World, task_of: Callable[..., Task]) -> None:
    world.execute(*CREATE)
    task = task_of()
    table = table_of(task)
    task.load()
    run(table, world)
    world.execute("VACUUM FULL t")
    with pytest.raises(NotComparedError, match="cannot be compared: the table's files were replaced"):
        world.verify(table)
    assert run(table, world).because.startswith("scanned, not streamed: the table's files were replaced")
    world.assert_verified(table)
