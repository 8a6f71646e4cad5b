"""Documents name files, sections and settings that exist, and pages that are made from the code are up to date."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from aurora_sync.config import settings
from aurora_sync.warehouse import types
from aurora_sync_tests.scenarios.type_matrix import cases
from docs import generate

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
CODE = sorted(file for room in ("aurora_sync", "aurora_sync_tests", "benchmarks") for file in (ROOT / room).rglob("*"))

_FENCED = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
# A file or a folder of the repository: `stage/writer.py`, `aurora_sync/source/debezium/`.
_PATH = re.compile(r"`([\w-][\w./-]*(?:\.(?:py|md|toml|lock|json|jsonl|svg)|\w/))`")
# What the text names is on the machine of the reader.
_OF_OTHERS = {"target/", "global-bundle.pem"}


def _names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize(
    ("page", "part", "current"),
    [
        ("docs/reference/settings.md", "settings", settings.markdown_table()),
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


@pytest.mark.parametrize(("page", "current"), generate.pages().items())
def test_the_reference_is_up_to_date(page: str, current: str) -> None:
    text = (generate.FOLDER / page).read_text(encoding="utf-8")
    assert text == current, "write the reference again: .venv/bin/python -m docs.generate"


@pytest.mark.parametrize("page", PAGES, ids=_names)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    assert [path for path in _PATH.findall(text) if not _exists(path, page)] == []


def _exists(path: str, page: Path) -> bool:
    """Whether a path leads somewhere from the root or the page, or is the end of the path of a file of the code."""
    if path in _OF_OTHERS or (ROOT / path).exists() or (page.parent / path).exists():
        return True
    return any(f"{file}/".endswith(f"/{path.rstrip('/')}/") for file in CODE)


@pytest.mark.parametrize("page", PAGES, ids=_names)
def test_links_of_a_page_lead_to_files_and_headings(page: Path) -> None:
    assert list(_broken(page)) == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=_names)
def test_links_of_the_site_stay_in_the_site(page: Path) -> None:
    links = [target.partition("#")[0] for target in _targets(page)]
    assert [link for link in links if not (page.parent / link).resolve().is_relative_to(DOCS)] == []


def _broken(page: Path) -> Iterator[str]:
    for target in _targets(page):
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (heading and heading not in _anchors(file)):
            yield target


def _targets(page: Path) -> list[str]:
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(text) if "://" not in target]


def _anchors(page: Path) -> set[str]:
    """The anchors that the forges, and the site, make of headings."""
    headings = re.findall(r"^#+ +(.*)$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\s-]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_sections_that_the_code_cites_exist() -> None:
    page = (DOCS / "design" / "correctness.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^#+ (\d+(?:\.\d+)?)\.? ", page, re.MULTILINE))
    cited = set()
    for file in CODE:
        if file.suffix == ".py" and file != Path(__file__):
            text = re.sub(r"\s+(# )?", " ", file.read_text(encoding="utf-8"))
            for numbers in re.findall(r"correctness\.md, (?:sections? )?(\d[\d., and]*)", text):
                cited |= {number.strip(".") for number in re.findall(r"\d+(?:\.\d+)?", numbers)}
    assert len(cited) >= 8
    assert cited - sections == set()
