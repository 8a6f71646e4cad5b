"""Problems of tables.yaml, raised together in one ConfigError."""

from __future__ import annotations

from pathlib import Path

from aurora_sync.errors import ConfigError
from aurora_sync.model.foreign_text import printable

Problem = tuple[int | None, str]  # the line, and the rest of the sentence
# Twice the length of the longest sentence that lists all known keys; a list in a file may have 200,000 names.
LONGEST_PROBLEM = 1_500


def refuse(path: Path, problems: list[Problem]) -> None:
    """Raise ConfigError with all ``problems``, in the order of their lines; return when there is none."""
    if problems:
        ordered = sorted(problems, key=lambda problem: problem[0] or 0)
        raise ConfigError([_legible(f"{path}:{line}: {text}" if line else f"{path}: {text}") for line, text in ordered])


def _legible(text: str) -> str:
    """Return the text on one line and without control characters. A text that is too long loses its middle."""
    if len(text) > LONGEST_PROBLEM:
        text = f"{text[: LONGEST_PROBLEM // 2]} ... {text[-LONGEST_PROBLEM // 2 :]}"
    return printable(text)
