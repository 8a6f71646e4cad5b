"""Write the reference pages that are made from the code: python -m docs.generate.

``make docs`` runs it, and a test holds that the pages in the repository are up to date.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from aurora_sync.cli import main as cli
from aurora_sync.config.schema import json_schema
from aurora_sync.config.watermark_types import WatermarkType

FOLDER = Path(__file__).parent / "reference"
_MADE = "<!-- Written by docs/generate.py; do not edit. -->"
# Of an object: the headings under which its keys are listed. Its key in tables.yaml, where that is its name.
_OBJECTS = {
    "DeleteGuard": "delete_guard",
    "Reconcile": "reconcile",
    "Freshness": "freshness",
    "ColumnChoice": "columns",
    "Checks": "checks",
    "Check": "checks: each check",
    "RowCountCheck": "checks: row_count",
    "SlotCheck": "checks: slot",
    "Connector": "connector",
    "Advisor": "advisor",
}


def pages() -> dict[str, str]:
    """The text of each page, by file name."""
    return {"tables-yaml.md": tables_yaml(), "cli.md": command_line()}


def tables_yaml() -> str:
    schema = json_schema()
    objects = schema["$defs"]
    common, table = objects["Defaults"]["properties"], objects["TableConfig"]["properties"]
    lines = [
        _MADE,
        "# tables.yaml",
        "",
        "The file names the tables to sync. `aurora-sync schema` prints its JSON Schema. An editor completes the keys",
        "where the first line names that schema: `$schema: aurora_sync/config/tables.schema.json`. Unknown keys are",
        "errors.",
        "",
        "## The document",
        "",
        *_keys(schema["properties"]),
        "",
        "## Keys of a table",
        "",
        "These keys belong to an entry of `tables`:",
        "",
        *_keys({key: value for key, value in table.items() if key not in common}),
        "",
        "These may stand in an entry or under `defaults`:",
        "",
        *_keys({key: value for key, value in table.items() if key in common}),
        "",
        "## Keys of a watermark_type",
        "",
        "These keys are refused for all other types.",
        "",
        "| `watermark_type` | needs | allows |",
        "|---|---|---|",
        *(f"| `{kind}` | {_code(kind.keys.needs)} | {_code(kind.keys.allows)} |" for kind in WatermarkType),
    ]
    for name, heading in _OBJECTS.items():
        found = objects[name]
        lines += ["", f"## {heading}", ""]
        if text := _sentence(found.get("description", "")):
            lines += [text, ""]
        lines += _keys(found["properties"]) if "properties" in found else _forms(found)
    return "\n".join(lines) + "\n"


def _keys(properties: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    yield from ("| key | value | meaning |", "|---|---|---|")
    for key, value in properties.items():
        default = value.get("default")
        shown = "" if default is None else f" Default: `{json.dumps(default)}`."
        yield f"| `{key}` | {_kind(value)} | {_cell(value.get('description', ''))}{shown} |"


def _forms(found: Mapping[str, Any]) -> Iterator[str]:
    """An object that has several forms."""
    for form in found["anyOf"]:
        if "properties" in form:
            yield from _keys(form["properties"])
        else:
            yield f"{_kind(form).capitalize()}, or a mapping:"
            yield ""


def _kind(value: Mapping[str, Any]) -> str:
    """In words, what a key takes."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        if name == "WatermarkType":
            return "[type](#keys-of-a-watermark_type)"
        heading = _OBJECTS.get(name, "keys of a table")
        return f"[{heading}](#{heading.replace(':', '').replace(' ', '-')})"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(each) for each in value["anyOf"] if each.get("type") != "null"))
    if "enum" in value:
        return _code([each for each in value["enum"] if each is not None])
    if value.get("type") == "array":
        return f"list of {_kind(value.get('items', {}))}"
    if value.get("type") == "object":
        return "mapping"
    if value.get("type") in ("integer", "number"):
        least = value.get("minimum", value.get("exclusiveMinimum"))
        return f"{value['type']}{f' from {least}' if least is not None else ''}"
    return {"string": "text", "boolean": "`true` or `false`"}.get(value.get("type", ""), "any")


def command_line() -> str:
    parser = cli._parser()
    lines = [
        _MADE,
        "# Command line",
        "",
        "```",
        "aurora-sync COMMAND [options]",
        "```",
        "",
        str(parser.epilog),
        "",
        "Results go to standard output, everything else to standard error. Every command takes `--debug`, which logs",
        "statements and prints tracebacks of errors. All take `--json`, which prints one JSON document in place of",
        "text, but `cdc dms`, which always prints JSON, and `completion`.",
        "",
        "On a terminal, texts and tables fit its width, colour marks what needs attention, and bars show the progress",
        "of runs. In a pipe, lines are neither coloured nor wrapped. With `NO_COLOR` or `TERM=dumb` nothing is",
        "coloured, and progress is printed as lines.",
        "",
        "| exit status | meaning |",
        "|---|---|",
        "| 0 | success |",
        "| 1 | a table or a connection failed, or a check found something |",
        "| 2 | the command, the configuration or the settings are wrong |",
        "| 130 | interrupted |",
    ]
    for name, command in _commands(parser):
        lines += _command(f"aurora-sync {name}", command)
    return "\n".join(lines) + "\n"


def _command(name: str, parser: argparse.ArgumentParser, level: str = "##") -> Iterator[str]:
    yield from ("", f"{level} {name}", "", f"{_sentence(str(parser.description))}.")
    actions = list(_commands(parser))
    for action, below in actions:
        yield from _command(f"{name} {action}", below, "###")
    if not actions:
        places = [f"[{action.metavar} ...]" for action in parser._actions if not action.option_strings]
        yield from ("", "```", " ".join([name, *places, "[options]"]), "```")
        yield from _options(parser)


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    """A table of what a command takes, but for what all take."""
    taken = [action for action in parser._actions if not {"--help", "--json", "--debug"} & {*action.option_strings}]
    if taken:
        yield from ("", "| argument | meaning |", "|---|---|")
    for action in taken:
        value = "" if action.nargs == 0 else str(action.metavar or action.dest.upper())
        if action.choices:
            value = "{" + ",".join(map(str, action.choices)) + "}"
        yield f"| `{' '.join(filter(None, [*action.option_strings, value]))}` | {_cell(action.help or '')} |"


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _sentence(text: str) -> str:
    text = _cell(" ".join(text.replace("``", "`").split()))
    return text[:1].upper() + text[1:]


def _cell(text: str) -> str:
    """The text as Markdown, in which nothing but code in backticks is marked up."""
    parts = text.replace("|", "\\|").split("`")
    parts[::2] = [re.sub(r"([*_])", r"\\\1", part).replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)


def _code(words: Sequence[Any]) -> str:
    return ", ".join(f"`{word}`" for word in words)


if __name__ == "__main__":
    for page, text in pages().items():
        (FOLDER / page).write_text(text, encoding="utf-8")
