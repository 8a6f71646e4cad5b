"""docs/reference/metadata.md lists exactly the metadata entries that materializations have."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from aurora_sync.advisor import evidence
from aurora_sync.config.tables import TableConfig
from aurora_sync.model.certificate import Action, Finding
from aurora_sync.model.load import Load
from aurora_sync.model.receipt import Adjusted, Consumed, QueryRef, Receipt, Repair, Slot
from aurora_sync.orchestration import assessment, checks, metadata, verification
from aurora_sync_tests.orchestration.receipts import receipt

PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "metadata.md").read_text(encoding="utf-8")
FOUND = Finding("column added", Action.ADAPT, "column added", before="none", after="note")
# Every optional part of a receipt that becomes metadata.
OPTIONAL: dict[str, Any] = {
    "adjusted": (Adjusted("note", "null", 1),),
    "schema_changes": (FOUND,),
    "slot": Slot("aurora_sync", None, 1, "reserved", 1, 1, None),
    "consumed": Consumed("shop.public.orders", 1, 0),
    "waited_seconds": 1.0,
    "repair": Repair(1, 0, 0, 0, 0, 0),
    "because": "the server was restarted",
    "load": Load("5f0c9a1b2d3e", 1, "2026-11-30T00:00:00+00:00", (0, 100)),
    "seconds": dict.fromkeys(("plan", "export", "load", "reconcile", "merge", "total"), 1.0),
    "queries": (QueryRef("01b2", "MERGE", "merge", 1.0),),
    "warnings": ("the server was restarted",),
}
# The verification is shown by the asset of the group.
NOT_SHOWN = {"verification"}


def _documented(heading: str) -> set[str]:
    """Return the entries of the first table under a heading. ``seconds_*`` stands for the words of its meaning."""
    part = PAGE.partition(f"# {heading}\n")[2].partition("\n#")[0]
    names: set[str] = set()
    for entries, meaning in re.findall(r"^\| (`[^|]*) \| ([^|]*) \|", part, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", entries):
            prefix, star, _ = name.partition("*")
            names |= {prefix + word for word in re.findall(r"`([^`]+)`", meaning)} if star else {name}
    return names


def _keys(module: ModuleType, function: str) -> set[str]:
    """Return the constants that a function uses as keys: of dictionaries, and in assignments to items."""
    keys: set[str] = set()
    for found in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(found, ast.FunctionDef) and found.name == function:
            for node in ast.walk(found):
                if isinstance(node, ast.Dict):
                    keys |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
                if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                    assert isinstance(node.slice, ast.Constant)
                    keys.add(str(node.slice.value))
    assert keys, f"{module.__name__} has no function {function} with keys"
    return keys


def test_the_full_receipt_has_every_optional_part() -> None:
    optional = {
        field.name
        for field in dataclasses.fields(Receipt)
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }
    assert optional == OPTIONAL.keys() | NOT_SHOWN


def test_the_page_lists_the_metadata_of_a_table() -> None:
    certificate = dataclasses.replace(receipt().certificate, findings=(FOUND,))
    table = TableConfig.model_validate({"table_name": "customers", "watermark_type": "xmin"})
    shown = metadata.of_receipt(receipt(certificate=certificate, **OPTIONAL), table)
    assert _documented("Metadata and checks") == set(shown)


@pytest.mark.parametrize(
    ("heading", "emitted"),
    [
        ("Of a verification", _keys(verification, "_shown") | {checks.VERDICTS}),
        (
            "Of the assessment",
            _keys(assessment, "_shown") | {name.replace(" ", "_") for name in _keys(evidence, "facts")},
        ),
    ],
)
def test_the_page_lists_the_metadata_of_an_asset(heading: str, emitted: set[str]) -> None:
    assert _documented(heading) == emitted
