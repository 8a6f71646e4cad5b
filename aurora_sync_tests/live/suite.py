"""Run the cases of the live suite, and make the report."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from importlib.metadata import version

from aurora_sync_tests.live import cost, files, objects, product, sessions  # noqa: F401 -- they register their cases
from aurora_sync_tests.live.cases import CASES as CASES
from aurora_sync_tests.live.cases import Answer, Case
from aurora_sync_tests.live.ground import Ground, Live
from aurora_sync_tests.live.redaction import Redaction
from aurora_sync_tests.live.report import Line, Report

Open = Callable[[], AbstractContextManager[Live]]
_LAST = "killed_merge"  # its process was killed at the begin; Snowflake needs some minutes to notice


def run(
    grounds: Mapping[Ground, Open], redaction: Redaction, *, only: Sequence[str] = (), quiet: bool = False
) -> Report:
    """Run each case on the first of its grounds that is given. ``only`` are names of cases. What a case leaves behind
    is removed at the end, also after a failure."""
    chosen = [case for case in CASES if not only or case.name in only]
    lines: list[Line] = []
    facts = {"aurora_sync": version("aurora-sync"), "connector": version("snowflake-connector-python")}
    with ExitStack() as stack:
        opened: dict[Ground, Live] = {}
        for case in sorted(chosen, key=lambda case: case.name == _LAST):
            ground = next((g for g in (Ground.SNOWFLAKE, *case.fakes) if g in grounds), None)
            if ground is not None and ground not in opened:
                opened[ground] = live = stack.enter_context(grounds[ground]())
                facts |= _facts(live)
                if live.on_snowflake and any(each.name == _LAST for each in chosen):
                    sessions.begin_to_kill(live)
            lines.append(_line(case, opened[ground] if ground else None))
            if not quiet:
                print(
                    f"{lines[-1].answer.value:<9} {lines[-1].seconds:6.1f} s  {case.name}", file=sys.stderr, flush=True
                )
    return Report(facts, lines, redaction)


def _line(case: Case, live: Live | None) -> Line:
    if live is None:
        return Line(case.rule, case.sentence, Answer.NOT_TRIED, f"the fake cannot: {case.cannot}", "")
    started = time.monotonic()
    found = case.answered(live)
    line = Line(case.rule, case.sentence, found.answer, found.evidence, live.ground.value, time.monotonic() - started)
    return replace(line, where="") if found.answer is Answer.NOT_TRIED else line


def _facts(live: Live) -> dict[str, str]:
    """Return versions, and the region."""
    source = re.sub(r" \(.*", "", str(live.at_source("SHOW server_version")[0][0]))
    facts = {"PostgreSQL": source}
    if live.on_snowflake:
        facts |= {
            "Snowflake": str(live.value("SELECT CURRENT_VERSION()")),
            "region": str(live.value("SELECT CURRENT_REGION()")),
        }
    elif live.ground is Ground.FAKE:
        facts["Snowflake"] = f"no account: fakesnow {version('fakesnow')} behind the real connector"
    return facts
