"""Tests of foreign_text: escaped text, as a terminal and a renderer of Markdown interpret it."""

from __future__ import annotations

import logging
import re

import pytest
from markdown_it import MarkdownIt

from aurora_sync.errors import ConfigError, SourceError
from aurora_sync.model.foreign_text import (
    logger,
    markdown,
    markdown_block,
    markdown_code,
    markdown_list,
    markdown_table,
    printable,
)

HOSTILE = [
    "![x](http://evil.example/pixel.png)",
    "[click](javascript:alert(1)) <img src=x onerror=alert(1)>",
    "a | b\n| --- | --- |\n| c",
    "http://evil.example www.evil.example HTTPS://EVIL.example me@evil.example mailto:me@evil.example",
    "<https://evil.example> <b>bold</b> &lt;b&gt; &#60;",
    "`code` ``` ~~~ **bold** __bold__ _it_ ~~gone~~ $x$",
    "a\\|b \\` \\[ c\\",
    "# heading",
    "- item",
    "+ item",
    "= item",
    "1. item",
    "23) item",
    "    code",
    "> quote\r\n\r\n***\u2028***",
    "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07\x9b31m",
    "\u202eevil\u2066\u200b\ufeff\ud800",
    "[x]: http://evil.example",
    "",
]


def shown(text: str) -> str:
    """Return the visible characters of a text."""
    return text.replace("\N{WORD JOINER}", "")


def leaves(source: str, kinds: set[str]) -> list[str]:
    """Return the texts of a Markdown document. Asserts that it has only blocks of these kinds, with plain text."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source):
        assert token.type in kinds, token
        for child in token.children or ():
            assert child.type in ("text", "text_special"), child
        if token.type == "inline":
            found.append(shown("".join(child.content for child in token.children or ())))
    return found


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_shown_as_it_is_and_is_no_markdown(text: str) -> None:
    expected = [printable(text).strip()] if text else []
    assert leaves(markdown(text), {"paragraph_open", "inline", "paragraph_close"}) == expected
    items = {"bullet_list_open", "list_item_open", "paragraph_open", "inline", "paragraph_close"}
    items |= {"list_item_close", "bullet_list_close"}
    assert leaves(markdown_list([f"x{text}"]), items) == [printable(f"x{text}").strip()]
    assert not re.search(r"(?i)[a-z]://|www\.|mailto:|[^\u2060]@", markdown(text))  # renderers make links of these


@pytest.mark.parametrize("text", HOSTILE)
def test_text_stays_in_its_cell(text: str) -> None:
    parts = {f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")}
    cells = leaves(markdown_table(["one", "two"], [[text, "x"], ["y", text]]), parts | {"inline"})
    assert cells == ["one", "two", printable(text).strip(), "x", "y", printable(text).strip()]


@pytest.mark.parametrize("text", HOSTILE)
def test_code_and_blocks_of_code_end_where_they_should(text: str) -> None:
    (block,) = MarkdownIt("commonmark").parse(markdown_block([text, "```", "last"]))
    assert (block.type, block.content) == ("fence", f"{printable(text)}\n```\nlast\n")
    if text.strip():
        paragraph = MarkdownIt("commonmark").parse(f"Table {markdown_code(text)} is there.")[1]
        assert [child.type for child in paragraph.children or ()] == ["text", "code_inline", "text"]


def test_ordinary_names_and_sentences_stay_as_they_are() -> None:
    text = "order_items_2024 of legacy: 3 rows (+1 ~0), 5% more; see the log - it's there"
    assert markdown(text).replace("\\~", "~") == text


def test_errors_and_logs_have_no_line_and_no_escape_of_others(caplog: pytest.LogCaptureFixture) -> None:
    error = SourceError("table a\nb", where="public.\x1b[2J", hint="ask \u202ebob")
    assert str(error) == "public.\\x1b[2J: table a\\nb (ask \\u202ebob)"
    assert str(ConfigError(["one\rline", "another"])) == "one\\rline\nanother"
    with caplog.at_level(logging.DEBUG):
        logger("aurora_sync.test").warning("%s: read", "public.a\nERROR b\x1b[31m")
        logger("aurora_sync.test").debug("SELECT 1\n  FROM \x1b[31m")
    assert caplog.messages == ["public.a\\nERROR b\\x1b[31m: read", "SELECT 1\n  FROM \\x1b[31m"]
