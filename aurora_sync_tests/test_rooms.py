"""Who may import whom (docs/decisions/0001), read off the import statements."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import aurora_sync

ROOT = Path(aurora_sync.__file__).parent
LEVELS = [
    {"buckets", "dms_columns", "foreign_text", "plpgsql"},
    {"increment", "errors", "stopwatch"},
    {"relation", "keys"},
    {"config"},
    {"strategies", "source", "stage", "warehouse"},
    {
        "places",
        "plan",
        "receipt",
        "sync",
        "stream",
        "streamed",
        "topic",
        "dms",
        "dms_files",
        "batch",
        "advisor",
        "preview",
        "project",
        "report",
        "validation",
        "gc",
        "hints",
        "retries",
    },
    {"orchestration", "embedded", "cli", "cli_assess", "cli_cdc", "cli_triggers", "lambda_handler", "definitions"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def test_every_room_imports_only_rooms_below_it() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {room}"
        for path, own, room in _imports()
        if room != own and LEVEL[room] >= LEVEL[own] and LEVEL[own] < 5
    ]
    assert wrong == []


def test_only_orchestration_imports_dagster() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for name in _names(path)
        if name.partition(".")[0].startswith("dagster")
    }
    outside = {path for path in importers if not path.startswith("orchestration/")}
    # definitions.py is what Dagster loads; snowflake.py takes dagster-snowflake's resource (decision 1).
    assert outside == {"definitions.py", "warehouse/snowflake.py"}


def test_the_page_to_read_first_stays_short() -> None:
    assert len((ROOT / "sync.py").read_text(encoding="utf-8").splitlines()) < 250


def _imports() -> Iterator[tuple[Path, str, str]]:
    for path in ROOT.rglob("*.py"):
        own = path.relative_to(ROOT).parts[0].removesuffix(".py")
        for name in _names(path):
            parts = name.split(".")
            if parts[0] == "aurora_sync" and len(parts) > 1 and own != "__init__":
                yield path, own, parts[1]


def _names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
