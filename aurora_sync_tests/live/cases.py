"""What a case of the live suite is, and how it answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from aurora_sync.errors import WarehouseError
from aurora_sync_tests.live.ground import Ground, Live

_LACKING = re.compile("(?i)unsupported feature|insufficient privileges|does not exist or not authorized")


class Answer(Enum):
    YES = "yes"
    NO = "no"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Found:
    """The answer to a case, with one line of evidence."""

    answer: Answer
    evidence: str


def said(holds: bool, evidence: str) -> Found:
    return Found(Answer.YES if holds else Answer.NO, evidence)


def not_tried(reason: str) -> Found:
    return Found(Answer.NOT_TRIED, reason)


@dataclass(frozen=True)
class Case:
    """One rule, as a sentence that is true where Snowflake and aurora_sync do what the project relies on.

    ``rule`` is the number of the rule in docs/design/snowflake.md. ``fakes`` are the local grounds that can try it, and
    ``cannot`` is why they cannot. ``optional`` is what an account may lack: a refused statement is then no failure.
    """

    rule: int
    sentence: str
    run: Callable[[Live], Found]
    fakes: tuple[Ground, ...] = ()
    cannot: str = ""
    optional: str = ""

    @property
    def name(self) -> str:
        return self.run.__name__

    def answered(self, live: Live) -> Found:
        """Run the case. Every exception but that of a user who stops the suite is an answer."""
        try:
            return self.run(live)
        except WarehouseError as error:
            if self.optional and (lacking := _LACKING.search(error.what)):
                missing = "the edition lacks it" if "feature" in lacking[0].lower() else "the role lacks a privilege"
                return not_tried(f"needs {self.optional}; {missing}: {one_line(error.what)}")
            return Found(Answer.NO, f"failed: {one_line(str(error))}")
        except Exception as error:  # noqa: BLE001 -- the report says what failed, and the other cases go on
            return Found(Answer.NO, f"failed: {type(error).__name__}: {one_line(str(error))}")


CASES: list[Case] = []


def case(
    rule: int, sentence: str, *fakes: Ground, cannot: str = "", optional: str = ""
) -> Callable[[Callable[[Live], Found]], Case]:
    """Register a function as a case. A case without a fake says why."""
    assert bool(fakes) != bool(cannot), sentence

    def register(run: Callable[[Live], Found]) -> Case:
        CASES.append(Case(rule, sentence, run, fakes, cannot, optional))
        return CASES[-1]

    return register


def one_line(text: str, longest: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest]}…"
