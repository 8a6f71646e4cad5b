"""The pages about Snowflake name tests and cases that exist, and list what the fakesnow server fakes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from aurora_sync_tests.fixtures import fakesnow_server
from aurora_sync_tests.live import suite
from aurora_sync_tests.live.cases import CASES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "design" / "snowflake.md"
TESTING = ROOT / "docs" / "testing.md"


def _entries(kind: str) -> list[str]:
    """Return the names that the page gives after ``- test:`` or ``- live:``."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(rf"^- {kind}: (.*?)(?=\n-|\n\n|\n#|\Z)", text, re.MULTILINE | re.DOTALL)
    return [name for names in found for name in re.findall(r"`(\w+)`", names)]


def test_tests_that_the_page_names_exist() -> None:
    files = (ROOT / "aurora_sync_tests").rglob("test_*.py")
    existing = {name for file in files for name in re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))}
    named = set(_entries("test"))
    assert len(named) > 20
    assert named - existing == set()


def test_page_names_exactly_the_cases_of_the_suite() -> None:
    assert set(_entries("live")) == {case.name for case in CASES}
    assert suite.CASES is CASES  # the modules of all cases are imported


def test_page_has_a_section_for_each_rule() -> None:
    headings = re.findall(r"^### Rule (\d+): ", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [str(rule) for rule in range(1, 20)]


def test_page_lists_what_the_fakesnow_server_fakes() -> None:
    """In a process of its own, because a mend changes fakesnow for the whole process."""
    command = [sys.executable, "-W", "ignore", "-m", fakesnow_server.__name__, "--list"]
    faked = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _, begin, rest = TESTING.read_text(encoding="utf-8").partition("<!-- faked -->\n")
    assert begin
    assert rest.partition("<!-- /faked -->")[0] == faked, f"put the output of {' '.join(command[1:])} into {TESTING}"
