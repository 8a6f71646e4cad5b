"""The page of ``aurora-sync report``, on states that no server is needed for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.overview import Failed, Noted, Overview, Standing, TableState, Verdict
from aurora_sync.engine.overview_page import as_html
from aurora_sync.warehouse.recent_runs import Run
from aurora_sync.warehouse.sync_log import LogEntry

NOW = datetime(2026, 11, 30, 6, 0, tzinfo=UTC)
NOTHING = Noted()
HOSTILE = "<script>alert('x')</script>\x1b[31m\u202e&"
TRENDS = re.compile(r"rows changed in runs [\d,]+ to [\d,]+, at most [\d,]+")


class Page(HTMLParser):
    """Tags with attributes, the text of the page, and the tags that were not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.open += [tag] if tag not in ("meta", "path") else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag if tag != "path" else True

    def handle_data(self, data: str) -> None:
        self.words += data.split() if self.open[-1:] != ["style"] else []


def state(name: str = "t", level: str | None = "certified", noted: Noted = NOTHING, **watermark: Any) -> TableState:
    table = TableConfig.model_validate({"table_name": name, "watermark_type": "xmin"})
    if level is None:
        return TableState(table, None, (), noted)
    taken = (NOW - timedelta(minutes=7)).isoformat()
    certificate = {"level": level, "changes": ["inserts", "updates"], "text": f"why {name}", "reconciled": None}
    entry = LogEntry(
        source_table=table.qualified_name,
        target='"PUBLIC"."T"',
        run_sequence=4,
        load_id="0123456789ab",
        applied_at=NOW - timedelta(minutes=7) + timedelta(seconds=1.5),
        strategy="xmin",
        disposition="upsert",
        watermark=json.dumps({"snapshot": {"taken_at": taken}, **watermark}),
        staged_rows=6,
        inserted=3,
        updated=2,
        deleted=1,
        target_rows=1234,
        source_rows=None,
        manifest_prefix="",
        snapshot_xmin=1,
        snapshot_xmax=1,
        certificate=json.dumps(certificate),
    )
    return TableState(table, entry, [Run(n, NOW, n * 10) for n in (2, 3, 4)], noted)


def page(*states: TableState, noted: bool = True) -> Page:
    found = Page(as_html(Overview("crm", "duckdb:w", NOW, states, noted=noted)))
    assert found.open == []
    return found


def test_names_and_errors_are_text_and_nothing_is_loaded() -> None:
    failed = Noted(Failed(NOW - timedelta(minutes=3), f"first line {HOSTILE}\nsecond line", HOSTILE))
    found = page(state(HOSTILE, noted=failed), state(HOSTILE, noted=Noted(verdict=Verdict(NOW, HOSTILE))))
    assert found.text.count(r"<script>alert('x')</script>\x1b[31m\u202e&") == 5
    tags = "html head meta title style body h1 p div i ul li b details summary small table thead tbody tr th td pre"
    assert {tag for tag, _ in found.tags} == {*tags.split(), "span", "svg", "path", "footer"}
    names = {name for _, attributes in found.tags for name in attributes}
    assert names <= {
        *("lang", "charset", "name", "content", "class", "style", "open", "data-of"),
        *("viewbox", "role", "d", "aria-hidden"),
    }
    html = as_html(Overview(HOSTILE, HOSTILE, NOW, []))
    assert not re.search(r"https?:|url\(|@import|<script", html)


@pytest.mark.parametrize(
    ("shown", "standing"),
    [
        (state(level="certified"), Standing.CERTIFIED),
        (state(level="bounded"), Standing.BOUNDED),
        (state(level="uncertified"), Standing.UNCERTIFIED),
        (state(level=None), Standing.NEVER_SYNCED),
        (state(noted=Noted(verdict=Verdict(NOW, "1 missing"))), Standing.DIFFERENT),
        (state(noted=Noted(verdict=Verdict(NOW))), Standing.CERTIFIED),
        (state(level=None, noted=Noted(Failed(NOW, "no"), Verdict(NOW, "1 missing"))), Standing.FAILING),
    ],
)
def test_a_table_has_the_standing_that_matters_most(shown: TableState, standing: Standing) -> None:
    assert shown.standing is standing


def test_tables_that_need_attention_come_first_with_the_reason() -> None:
    found = page(
        state("good"),
        state("late", "bounded"),
        state("new", None),
        state("bad", noted=Noted(Failed(NOW - timedelta(minutes=3), "no connection", "run 1a2b"))),
        state("edited", noted=Noted(verdict=Verdict(NOW - timedelta(hours=9), "1 missing"))),
        state("doubtful", "uncertified"),
    )
    places = [found.text.index(f"public.{name}") for name in ("bad", "edited", "doubtful", "new", "late", "good")]
    assert places == sorted(places)
    assert "4 of 6 tables need attention" in found.text
    for said in (
        "Failed 3 min ago, run 1a2b no connection",
        "Different as of 2026-11-29 21:00 UTC 1 missing",
        "different 9 h ago",
        "Uncertified: why doubtful",
        "Nothing was synced to this target yet",
        "Certified until 2026-11-30 05:53:00 UTC (inserts, updates)",
        "run 4, 6 min ago +3 ~2 −1 in 1.5 s",
        "7 min ago 2026-11-30 05:53",
        "rows changed in runs 2 to 4, at most 40",
    ):
        assert said in found.text, said


def test_a_later_look_that_found_no_change_is_how_far_the_table_is_up_to_date() -> None:
    checked = NOW - timedelta(minutes=3)
    assert "3 min ago 2026-11-30 05:57" in page(state(noted=Noted(checked_at=checked))).text
    assert "7 min ago 2026-11-30 05:53" in page(state(noted=Noted(checked_at=NOW - timedelta(hours=1)))).text
    assert "3 min ago 2026-11-30 05:57" in page(state(noted=Noted(verdict=Verdict(checked)))).text
    assert "7 min ago 2026-11-30 05:53" in page(state(noted=Noted(verdict=Verdict(checked, "1 missing")))).text


def test_a_load_shows_its_progress() -> None:
    load = {
        "id": "x",
        "first_run": 1,
        "began": NOW.isoformat(),
        "bounds": [0, 8, 16, 24],
        "done": [[0, 1]],
        "rows": 500,
        "bytes": 2_000_000,
        "seconds": 4.0,
        "adjusted": [],
    }
    found = page(state(level="uncertified", load=load))
    assert "OK: 1 table, none needs attention" in found.text
    assert "Loading: 2 of 4 chunks loaded: 500 rows, 2.0 MB in S3; about 0:00:04 left" in found.text


def test_many_good_tables_are_folded_and_the_page_stays_small() -> None:
    runs = [Run(n, NOW, n * 1000) for n in range(3970, 4000)]
    many = [replace(state(f"table_{n:04}"), runs=runs) for n in range(1000)]
    html = as_html(Overview("crm", "duckdb:w", NOW, [*many, state("bad", "uncertified")], noted=True))
    folded = [("open" in attributes) for tag, attributes in Page(html).tags if tag == "details"]
    assert folded == [True, False]
    assert len(html) < 1_000_000
    assert len(TRENDS.findall(html)) == 1001


def test_without_tables_and_without_an_orchestrator_the_page_says_so() -> None:
    assert "No tables are configured" in page().text
    assert "0 failing" in page(state()).text
    alone = page(state(), noted=False)
    assert "failing" not in alone.text.replace("not recorded", "")
    assert "failed runs and verifications are not recorded" in alone.text
