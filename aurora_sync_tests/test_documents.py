"""Pages that are generated from the code are up to date."""

from __future__ import annotations

from pathlib import Path

import pytest

from aurora_sync.config import settings
from aurora_sync.warehouse import types
from aurora_sync_tests.scenarios.type_matrix import cases

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("page", "part", "current"),
    [
        ("README.md", "settings", settings.markdown_table()),
        ("docs/types.md", "types", types.markdown_table()),
        ("docs/types.md", "matrix", cases.markdown_table()),
    ],
)
def test_the_page_holds_the_current_table(page: str, part: str, current: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    _, begin, rest = text.partition(f"<!-- {part} -->\n")
    table, end, _ = rest.partition(f"<!-- /{part} -->")
    assert begin, f"{page} has no part {part}"
    assert end, f"{page} has no end of its part {part}"
    assert table.strip() == current.strip(), f"put the current table into {page}"
