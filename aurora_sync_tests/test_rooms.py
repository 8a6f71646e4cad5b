"""The rules of imports between files (docs/decisions/0013), checked on the import statements."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import aurora_sync
from aurora_sync.config.backends import BACKENDS

ROOT = Path(aurora_sync.__file__).parent
# Lowest first. A room imports from rooms of lower levels and from itself, and from no other room of its own level.
LEVELS = [
    {"model", "errors"},
    {"config"},
    {"objects"},
    {"strategies", "source", "stage", "warehouse"},
    {"engine"},
    {"advisor", "provisioning"},
    {"embedded"},
    {"orchestration", "lambda_handler"},
    {"definitions", "cli"},
]
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# The package itself exports only the component, which Dagster finds by its name.
PACKAGE = "__init__"


def test_every_file_imports_only_its_own_room_and_lower_ones() -> None:
    # Errors use texts of model, and model raises errors: the two are one room with two names.
    rooms = {"errors": "model"}
    wrong = [
        f"{file} imports {imported}"
        for file, imported in _imports()
        if (own := _room(file)) != PACKAGE
        if rooms.get(own, own) != rooms.get(_room(imported), _room(imported)) and LEVEL[_room(imported)] >= LEVEL[own]
    ]
    assert wrong == []


def test_no_files_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for file, imported in _imports():
        graph.setdefault(file, set()).add(imported)
    TopologicalSorter(graph).prepare()


def test_only_orchestration_imports_dagster() -> None:
    importers = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        for name in _names(path)
        if name.partition(".")[0].startswith("dagster")
    }
    # Dagster loads definitions.py.
    assert {path for path in importers if not path.startswith("orchestration/")} == {"definitions.py"}


def test_only_a_backend_and_the_local_stack_import_a_warehouse_client() -> None:
    clients = {"duckdb", "sqlglot", "snowflake"}
    importers = {
        (path.relative_to(ROOT).as_posix(), client)
        for path in ROOT.rglob("*.py")
        if not path.is_relative_to(ROOT / "embedded")
        for client in {name.partition(".")[0] for name in _names(path)} & clients
    }
    kinds = tuple(backend.kind for backend in BACKENDS)
    assert all(path.startswith(tuple(f"warehouse/{kind}" for kind in kinds)) for path, _ in importers)
    assert {path for path, client in importers if client == "duckdb"} == {
        "warehouse/duckdb.py",
        "warehouse/duckdb_errors.py",
    }
    of_snowflake = {(path, client) for path, client in importers if "snowflake" in path or client == "snowflake"}
    assert {client for _, client in of_snowflake} == {"snowflake"}
    assert all(path.startswith("warehouse/snowflake") for path, _ in of_snowflake)


def test_a_run_needs_neither_advisor_nor_provisioning() -> None:
    aside = {"advisor", "provisioning"}
    importers = {file for file, imported in _imports() if _room(imported) in aside and _room(file) not in aside}
    assert {file for file in importers if _room(file) not in {"cli", "embedded"}} == {"orchestration/assessment.py"}


def test_the_page_to_read_first_stays_short() -> None:
    assert len((ROOT / "engine/sync.py").read_text(encoding="utf-8").splitlines()) < 250


def _room(file: str) -> str:
    return file.partition("/")[0].removesuffix(".py")


def _imports() -> Iterator[tuple[str, str]]:
    """Yield (file, imported file), both relative to the package."""
    for path in ROOT.rglob("*.py"):
        for name in _names(path):
            found = ROOT.parent / f"{name.replace('.', '/')}.py"
            if name.startswith("aurora_sync.") and found.exists():
                yield path.relative_to(ROOT).as_posix(), found.relative_to(ROOT).as_posix()


def _names(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports; for ``from a import b`` also ``a.b``, which may be a module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
