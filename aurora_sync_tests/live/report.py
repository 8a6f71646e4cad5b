"""The report of the live suite, as text and as one HTML file. It holds no name of an account, host, user or bucket."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from aurora_sync_tests.live.cases import Answer
from aurora_sync_tests.live.redaction import Redaction

# The rules of docs/design/snowflake.md, and 0 for whole runs.
SUBJECTS = {
    0: "Whole runs",
    1: "Targets are not replaced",
    2: "Policies",
    3: "Collation",
    4: "Rights",
    5: "Options of targets",
    6: "Login",
    7: "Limits and locks",
    8: "Texts of values",
    9: "What needs no warehouse",
    10: "Numbers of statements",
    11: "Pruning",
    12: "MERGE",
    13: "Size of the log",
    14: "Staging",
    15: "Credits",
    16: "First loads",
    17: "COPY",
    18: "Parquet",
    19: "Size of files",
}


@dataclass(frozen=True)
class Line:
    """One line of the report: a rule, what was found, and where."""

    rule: int
    sentence: str
    answer: Answer
    evidence: str
    where: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """``facts`` are versions. Texts are redacted when the report is made."""

    facts: Mapping[str, str]
    lines: Sequence[Line]
    redaction: Redaction = field(default_factory=Redaction)

    def __post_init__(self) -> None:
        clean = self.redaction.clean
        lines = [Line(**{**vars(line), "evidence": clean(line.evidence)}) for line in self.lines]
        object.__setattr__(self, "lines", sorted(lines, key=lambda line: line.rule))
        object.__setattr__(self, "facts", {name: clean(fact) for name, fact in self.facts.items()})

    def count(self, answer: Answer) -> int:
        return sum(line.answer is answer for line in self.lines)

    @property
    def summary(self) -> str:
        return ", ".join(f"{self.count(answer)} {answer.value}" for answer in Answer)

    def text(self) -> str:
        """Return the report for a terminal or an issue, at most 100 characters wide."""
        parts = ["aurora_sync live report", *(f"{name}: {fact}" for name, fact in self.facts.items()), self.summary]
        for rule, lines in self._by_rule():
            parts += ["", _heading(rule)]
            for line in lines:
                parts += _wrapped(f"{line.answer.value:<9}  ", line.sentence)
                parts += _wrapped(" " * 11, f"{line.evidence} [{line.where}]" if line.where else line.evidence)
        return "\n".join(parts) + "\n"

    def html(self) -> str:
        """Return one HTML file that loads nothing."""
        facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in self.facts.items())
        sections = "".join(
            f"<section><h2>{escape(_heading(rule))}</h2><ul>{''.join(map(_item, lines))}</ul></section>"
            for rule, lines in self._by_rule()
        )
        counts = "".join(
            f'<span class="answer {_class(answer)}">{self.count(answer)} {answer.value}</span>' for answer in Answer
        )
        return _PAGE.replace("{facts}", facts).replace("{counts}", counts).replace("{sections}", sections)

    def _by_rule(self) -> Iterable[tuple[int, list[Line]]]:
        for rule in dict.fromkeys(line.rule for line in self.lines):
            yield rule, [line for line in self.lines if line.rule == rule]


def _heading(rule: int) -> str:
    return f"Rule {rule}: {SUBJECTS[rule]}" if rule else SUBJECTS[rule]


def _wrapped(first: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, 100, initial_indent=first, subsequent_indent=" " * 11, break_long_words=False, break_on_hyphens=False
    )


def _item(line: Line) -> str:
    where = f'<span class="where">{escape(line.where)}</span>' if line.where else ""
    return (
        f'<li><span class="answer {_class(line.answer)}">{line.answer.value}</span>'
        f"<div><p>{escape(line.sentence)}</p><p class=evidence>{escape(line.evidence)} {where}</p></div></li>"
    )


def _class(answer: Answer) -> str:
    return answer.name.lower().replace("_", "-")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>aurora_sync live report</title>
<style>
:root { color-scheme: light dark; --line: #d8dce3; --soft: #5b6472; --yes: #17693a; --no: #b3261e; --idle: #5b6472; }
@media (prefers-color-scheme: dark) {
  :root { --line: #3a404b; --soft: #a3acba; --yes: #6fd39a; --no: #ff8a80; --idle: #a3acba; }
}
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; }
h2 { font-size: 1.05rem; margin: 2rem 0 .25rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 0 0 1rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
ul { list-style: none; margin: 0; padding: 0; }
li { display: grid; grid-template-columns: 6.5rem 1fr; gap: .75rem; padding: .6rem 0; }
li { border-top: 1px solid var(--line); }
p { margin: 0; overflow-wrap: anywhere; }
.evidence { color: var(--soft); font-size: .9rem; }
.where { white-space: nowrap; font-style: italic; }
.answer { font-weight: 600; margin-right: 1rem; }
.yes { color: var(--yes); } .no { color: var(--no); } .not-tried { color: var(--idle); font-weight: 400; }
@media (max-width: 36rem) { li { grid-template-columns: 1fr; gap: 0; } }
</style></head><body>
<h1>aurora_sync live report</h1>
<dl>{facts}</dl>
<p>{counts}</p>
{sections}
</body></html>
"""
