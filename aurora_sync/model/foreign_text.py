"""Escaping of text from outside (names, values, messages of servers) for a terminal, a log and Markdown.

Users of the source choose the names of tables, columns, logins and applications. No such name may move the cursor of a
terminal, begin a new line in a log, or become a link, an image or a table row in Dagster.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

# ASCII punctuation that begins something in Markdown or GitHub's tables. An underscore inside of a word does not.
_MARKS = re.compile(r"[\\`*\[\]{}<>#|~&!$]|(?<![^\W_])_|_(?![^\W_])")
# At the beginning of a text: a list, a heading, a rule.
_LEADING = re.compile(r"^([-+=]|\d+(?=[.)]))")
# Renderers turn these into links without any mark around them; a backslash does not stop all renderers.
_AUTOLINKS = re.compile(r"(?i)(?<=[a-z])(?=://)|(?<=www)(?=\.)|(?=@)|(?<=mailto)(?=:)|(?<=xmpp)(?=:)")
# Quotation marks of the languages that servers speak.
_QUOTE = "[\"'\u00ab\u00bb\u2018-\u201f\u2039\u203a]"
_QUOTATION = re.compile(f"{_QUOTE}.*{_QUOTE}", re.DOTALL)
_WORD_JOINER = "\N{WORD JOINER}"  # has no width


def printable(text: str) -> str:
    r"""Return the text on one line, with escapes in place of the characters that a terminal interprets: control
    characters, escape sequences, and characters that change the direction of the text.

    >>> print(printable("a\x1b[31mb\n"))
    a\x1b[31mb\n
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, such as a statement, with each line made printable."""
    return "\n".join(map(printable, text.split("\n")))


def without_quotations(message: str) -> str:
    """Return a server's message without its quotations. Everything between the first and the last quotation mark is
    removed, because a quoted value may contain quotation marks itself.

    >>> without_quotations('invalid input syntax for type integer: "x"')
    'invalid input syntax for type integer: "..."'
    """
    return _QUOTATION.sub('"..."', message)


def markdown(text: str) -> str:
    r"""Return Markdown that shows this text and nothing else, in a paragraph, a list item or a cell of a table.

    Names and sentences without punctuation of Markdown stay as they are.

    >>> print(markdown("order_items"), markdown("a|b [x](y)\n"))
    order_items a\|b \[x\](y)\\n
    """
    text = _MARKS.sub(lambda mark: f"\\{mark[0]}", printable(text).strip())
    text = _LEADING.sub(lambda mark: f"{mark[0]}{_WORD_JOINER}" if mark[0].isdigit() else f"\\{mark[0]}", text)
    return _AUTOLINKS.sub(_WORD_JOINER, text)


def markdown_code(text: str) -> str:
    """Return Markdown that shows this text as code within a sentence; not for a cell of a table."""
    text = printable(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence} {text} {fence}" if "`" in text or not text.strip() else f"{fence}{text}{fence}"


def markdown_table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table of Markdown. Cells are plain text."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([markdown(str(cell)) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_list(items: Iterable[str]) -> str:
    """Return a list of Markdown. Items are plain text."""
    return "\n".join(f"- {markdown(item)}" for item in items)


def markdown_block(lines: Iterable[str]) -> str:
    """Return lines of plain text as a block of Markdown that keeps their columns."""
    lines = [printable(line) for line in lines]
    longest = max((len(run) for line in lines for run in re.findall("`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return "\n".join([fence, *lines, fence])


def logger(name: str) -> logging.Logger:
    """Return the logger ``name``, with a filter that makes its messages printable."""
    found = logging.getLogger(name)
    found.addFilter(_make_printable)
    return found


def _make_printable(record: logging.LogRecord) -> bool:
    """Make the message of a record printable. DEBUG messages are SQL statements and keep their lines."""
    safe = printable if record.levelno > logging.DEBUG else printable_lines
    record.msg, record.args = safe(record.getMessage()), ()
    return True
