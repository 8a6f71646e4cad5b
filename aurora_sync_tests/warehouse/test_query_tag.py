"""The query tag is one JSON object within Snowflake's limit, and every session has one."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import aurora_sync
from aurora_sync.config.tables import TableConfig
from aurora_sync.warehouse.query_tag import LONGEST, PREFIX, QueryTag

ROOT = Path(aurora_sync.__file__).parent


def test_tag_is_an_object_with_table_target_and_load_id(orders: TableConfig) -> None:
    assert json.loads(str(QueryTag.of(orders, "merge", "5f0c"))) == {
        "app": "aurora_sync",
        "phase": "merge",
        "table": "public.orders",
        "target": "PUBLIC.ORDERS",
        "load_id": "5f0c",
    }


@pytest.mark.parametrize("table", ["", 'a"b\\c', "größe.表", "x" * 128, '"' * 128, "\x01" * 128])
@pytest.mark.parametrize("target", ["", 'A"B', "\x01" * 500])
def test_tag_of_any_name_is_valid_and_short_enough(table: str, target: str) -> None:
    text = str(QueryTag("load", table, target, "5f0c9a1b2d3e"))
    assert len(text) <= LONGEST
    assert text.startswith(PREFIX)
    assert json.loads(text).get("table", "") == table


def test_every_session_of_the_package_has_a_tag() -> None:
    untagged = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in ROOT.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "session"
        if [keyword.arg for keyword in call.keywords] != ["query_tag"]
    ]
    assert untagged == []
