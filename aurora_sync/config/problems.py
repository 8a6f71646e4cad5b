"""Problems of tables.yaml, gathered and raised together."""

from __future__ import annotations

from pathlib import Path

from aurora_sync.errors import ConfigError
from aurora_sync.model.foreign_text import printable

Problem = tuple[int | None, str]  # the line, and the rest of the sentence
# Twice as long as the longest sentence with all the known keys in it; a list in a file may hold 200,000 names.
LONGEST_PROBLEM = 1_500


def refuse(path: Path, problems: list[Problem]) -> None:
    """Raise ConfigError with all ``problems``, in the order of their lines; nothing where there is none."""
    if problems:
        ordered = sorted(problems, key=lambda problem: problem[0] or 0)
        raise ConfigError([_legible(f"{path}:{line}: {text}" if line else f"{path}: {text}") for line, text in ordered])


def _legible(text: str) -> str:
    """On one line without what a terminal would obey, and without its middle where it is too long."""
    if len(text) > LONGEST_PROBLEM:
        text = f"{text[: LONGEST_PROBLEM // 2]} ... {text[-LONGEST_PROBLEM // 2 :]}"
    return printable(text)
