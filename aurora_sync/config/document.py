"""A YAML parser that returns plain values and the line of every key, so that an error can name its place.

It reads JSON too, which is a subset of YAML. It does not know the meaning of the keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from aurora_sync.errors import ConfigError

KeyPath = tuple[str | int, ...]

# tables.yaml has five levels. libyaml's composer recurses on the C stack and ends with a segmentation fault at about
# 10^5 levels, so the depth is limited before the document is composed.
MAX_DEPTH = 20
# 1,000 tables with every key have about 30,000 values; aliases of aliases reach billions in ten lines.
MAX_VALUES = 200_000
# Names, cron expressions and numbers are much shorter. Python takes minutes to convert a base-60 number of a million
# digits, and nobody reads an error message that quotes a megabyte.
MAX_TEXT = 1_000

_CONSTRUCT = {
    "tag:yaml.org,2002:bool": SafeConstructor.construct_yaml_bool,
    "tag:yaml.org,2002:int": SafeConstructor.construct_yaml_int,
    "tag:yaml.org,2002:float": SafeConstructor.construct_yaml_float,
    "tag:yaml.org,2002:null": SafeConstructor.construct_yaml_null,
    "tag:yaml.org,2002:str": SafeConstructor.construct_yaml_str,
}
_READ_AS = {"bool": "a boolean", "int": "a number", "float": "a number", "null": "nothing", "timestamp": "a date"}
_MERGE = "tag:yaml.org,2002:merge"


@dataclass
class Document:
    """A parsed document: its value, the lines of its parts, and its YAML errors.

    The keys of ``lines`` and ``texts`` are paths, such as ``("tables", 3, "schema")``. ``lines`` has the line (from 1)
    of the key or list item, ``texts`` the scalar as written in the file. ``problems`` are (line or None, path, text).
    """

    value: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    texts: dict[KeyPath, str] = field(default_factory=dict)
    problems: list[tuple[int | None, KeyPath, str]] = field(default_factory=list)

    def line(self, path: KeyPath) -> int | None:
        """Return the line of ``path``, or of the nearest enclosing value that has one; None when none has."""
        return next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)


def read(path: Path) -> str:
    """Return the text of a file. Raises ConfigError when the file does not exist, cannot be read or is not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        hint = "set AURORA_SYNC_TABLES to the path of the file"
        raise ConfigError(f"{path}: the file does not exist", hint=hint) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        what = f"{path}:{line}: not UTF-8: found the byte 0x{error.object[error.start]:02x}"
        raise ConfigError(what, hint="save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def parse(text: str) -> Document:
    """Parse ``text``. The ``problems`` of the document describe what could not be read; nothing is raised."""
    document = Document()
    try:
        if problem := _too_large(text):
            document.problems.append(problem)
            return document
        node = yaml.compose(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        document.problems.append(_syntax(error, text))
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1  # libyaml counts bytes
        document.problems.append((line, (), f"the character {chr(error.character)!r} is not allowed in YAML"))
    else:
        if node is not None:
            _Values(document).build(node)
    return document


def _too_large(text: str) -> tuple[int | None, KeyPath, str] | None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else None
        if depth > MAX_DEPTH:
            return line, (), f"the document is nested deeper than {MAX_DEPTH} levels"
        length = max(len(getattr(event, part, None) or "") for part in ("value", "tag"))
        if length > MAX_TEXT:
            return line, (), f"found a string of {length:,} characters; expected at most {MAX_TEXT:,}"
    return None


def _syntax(error: yaml.MarkedYAMLError, text: str) -> tuple[int | None, KeyPath, str]:
    mark = error.problem_mark
    if mark is None:
        return None, (), str(error.problem)
    if any("\t" in line[: mark.column + 1] for line in text.splitlines()[mark.line : mark.line + 1]):
        return mark.line + 1, (), "found a tab; indent YAML with spaces"
    return mark.line + 1, (), ", ".join(part for part in (error.context, error.problem) if part)


class _Values:
    """The converter from YAML nodes to plain values. It records lines, texts and problems in the document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.constructor = SafeConstructor()
        self.left = MAX_VALUES
        self.depth = 0
        self.seen: set[tuple[int, KeyPath, str]] = set()

    def build(self, node: yaml.Node) -> None:
        self.document.lines[()] = node.start_mark.line + 1
        try:
            self.document.value = self.value(node, ())
        except _TooLargeError as error:
            self.problem(error.node, (), str(error))

    def problem(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        found = (node.start_mark.line + 1, path, text)
        if found not in self.seen:
            self.seen.add(found)
            self.document.problems.append(found)

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self.left -= 1
        if self.left < 0:
            raise _TooLargeError(node, f"with its aliases, the document has more than {MAX_VALUES:,} values")
        if self.depth > MAX_DEPTH:  # an alias inside its own anchor
            raise _TooLargeError(node, f"the document is nested deeper than {MAX_DEPTH} levels")
        self.depth += 1
        value: Any
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            value = self.mapping(node, path)
        elif isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            value = []
            for index, item in enumerate(node.value):
                self.document.lines[*path, index] = item.start_mark.line + 1
                value.append(self.value(item, (*path, index)))
        else:
            value = self.scalar(node, path)
        self.depth -= 1
        return value

    def scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            self.problem(node, path, f"found the tag {_tag(node)}; expected a value without a tag")
            return None
        self.document.texts[path] = node.value
        if node.tag == "tag:yaml.org,2002:timestamp":
            self.problem(node, path, f"found {node.value}, which YAML reads as a date; {quote(node.value)}")
            return node.value
        if node.tag not in _CONSTRUCT:
            self.problem(node, path, f"found the tag {_tag(node)}; expected a value without a tag")
            return node.value
        try:
            return _CONSTRUCT[node.tag](self.constructor, node)
        except (ValueError, KeyError, IndexError, OverflowError):  # such as !!int '' and 1:0:0:...:0.5
            self.problem(node, path, f"found {node.value!r}, which is not {_READ_AS[node.tag.rpartition(':')[2]]}")
            return node.value

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                values.update(self.merged(value_node, path))
        own: set[str] = set()
        for key_node, value_node in node.value:
            key = None if key_node.tag == _MERGE else self.key(key_node, path)
            if key in own:
                first = self.document.lines[*path, key]
                self.problem(key_node, path, f"the key {key} is repeated; it is set in line {first} already")
            elif key is not None:
                own.add(key)
                self.document.lines[*path, key] = key_node.start_mark.line + 1
                values[key] = self.value(value_node, (*path, key))
        return values

    def merged(self, node: yaml.Node, path: KeyPath) -> dict[str, Any]:
        """Return the values that ``<<`` merges in, from one mapping or from a list of them. The first mapping that has
        a key takes precedence."""
        values: dict[str, Any] = {}
        for part in reversed(node.value) if isinstance(node, yaml.SequenceNode) else [node]:
            if isinstance(part, yaml.MappingNode):
                values.update(self.value(part, path) or {})  # None where its tag is not allowed
            else:
                self.problem(
                    part, path, "found << with a value that is not a mapping; expected a mapping or a list of mappings"
                )
        return values

    def key(self, node: yaml.Node, path: KeyPath) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            return str(node.value)
        if isinstance(node, yaml.ScalarNode) and (kind := _READ_AS.get(node.tag.rpartition(":")[2])):
            self.problem(node, path, f"YAML reads the key {node.value or '(empty)'} as {kind}; {quote(node.value)}")
        else:
            self.problem(node, path, "found a key that is not a string; expected a name")
        return None


class _TooLargeError(Exception):
    def __init__(self, node: yaml.Node, text: str) -> None:
        self.node = node
        super().__init__(text)


def quote(text: str) -> str:
    return f'put it in quotes: "{text}"'


def _tag(node: yaml.Node) -> str:
    return str(node.tag).replace("tag:yaml.org,2002:", "!!")
