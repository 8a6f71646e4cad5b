"""tables.yaml read and checked: every problem at once, each with file, line, table, key, what was found and
what is allowed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from aurora_sync.config.advisor import Advisor
from aurora_sync.config.defaults import Defaults, with_defaults
from aurora_sync.config.document import Document, KeyPath, parse, quote, read
from aurora_sync.config.globs import literal, split_name
from aurora_sync.config.tables import STRATEGY_KEYS, TableConfig
from aurora_sync.config.tables_file import TablesFile
from aurora_sync.config.watermark_types import SLOTS
from aurora_sync.errors import ConfigError
from aurora_sync.model.foreign_text import printable

M = TypeVar("M", bound=BaseModel)
Problem = tuple[int | None, str]  # the line, and the rest of the sentence
# Twice as long as the longest sentence with all the known keys in it; a list in a file may hold 200,000 names.
LONGEST_PROBLEM = 1_500


@dataclass(frozen=True)
class TableEntry:
    """One entry of ``tables:``. Of a glob, ``table`` holds the patterns instead of the names."""

    table: TableConfig
    line: int | None  # None when the configuration did not come from a file
    glob: bool

    def matches(self, schema: str, name: str) -> bool:
        """Whether this entry configures that table."""
        if not self.glob:
            return (schema, name) == (self.table.schema_, self.table.table_name)
        return (
            fnmatchcase(schema, self.table.schema_)
            and fnmatchcase(name, self.table.table_name)
            and not any(
                fnmatchcase(text, pattern) for pattern in self.table.exclude for text in (name, f"{schema}.{name}")
            )
        )


@dataclass(frozen=True)
class SyncConfig:
    """A valid tables.yaml, in the order of the file."""

    path: Path
    tables: tuple[TableEntry, ...]
    advisor: Advisor = field(default_factory=Advisor)

    @property
    def has_globs(self) -> bool:
        """Whether :func:`expand` needs to know which tables exist."""
        return any(entry.glob for entry in self.tables)

    def line_of(self, table: TableConfig) -> int | None:
        """The line of the entry that a table comes from; None when there is none."""
        name = (table.schema_, table.table_name)
        entry = self.explicit.get(name) or next((e for e in self.tables if e.glob and e.matches(*name)), None)
        return entry.line if entry else None

    @cached_property
    def explicit(self) -> dict[tuple[str, str], TableEntry]:
        """The entries that name one table, by (schema, name)."""
        return {(e.table.schema_, e.table.table_name): e for e in self.tables if not e.glob}


def load(path: Path) -> SyncConfig:
    """The tables.yaml (or .json) at ``path``. Raises ConfigError with all problems found."""
    return _config(parse(read(path)), path)


def from_mapping(value: Mapping[str, Any], path: Path) -> SyncConfig:
    """The same from a mapping that something else has read; ``path`` only names it in errors."""
    return _config(Document(value=dict(value)), path)


def expand(config: SyncConfig, existing: Iterable[tuple[str, str]]) -> list[TableConfig]:
    """One TableConfig for each table: globs are resolved against the (schema, name) pairs that exist.

    An explicit entry wins over a glob; a table that no entry matches is left alone. Without globs
    ``existing`` is not looked at. Raises ConfigError with every glob that matches nothing, every table that
    two globs match and all tables that would meet in one target.
    """
    names = sorted(set(existing)) if config.has_globs else []
    tables: list[tuple[TableEntry, TableConfig]] = []
    problems: list[Problem] = []
    taken: dict[tuple[str, str], TableEntry] = {}
    for entry in config.tables:
        if not entry.glob:
            tables.append((entry, entry.table))
            continue
        label = f"table {entry.table.qualified_name}: table_name: the glob matches"
        matched = [name for name in names if entry.matches(*name)]
        if not matched:
            but = f" except what exclude leaves out: {', '.join(entry.table.exclude)}"
            text = f"{label} none of the {len(names)} tables that this role can see"
            problems.append((entry.line, text + (but if entry.table.exclude else "")))
        for schema, name in matched:
            if other := taken.get((schema, name)):
                text = (
                    f"{label} {schema}.{name}, and so does {other.table.qualified_name}{_in_line(other)}; "
                    "exclude it from one of them, or give it an entry of its own"
                )
                problems.append((entry.line, text))
            elif (schema, name) not in config.explicit:
                taken[schema, name] = entry
                named = {"schema_": schema, "table_name": name, "exclude": []}
                tables.append((entry, entry.table.model_copy(update=named)))
    _refuse(config.path, [*problems, *_conflicts(tables)])
    return [table for _, table in tables]


def _config(document: Document, path: Path) -> SyncConfig:
    reading = _Reading(document)
    entries, advisor = reading.entries(), reading.advisor()
    _refuse(path, reading.problems)
    return SyncConfig(path, tuple(entries), advisor)


def _refuse(path: Path, problems: list[Problem]) -> None:
    if problems:
        ordered = sorted(problems, key=lambda problem: problem[0] or 0)
        raise ConfigError([_legible(f"{path}:{line}: {text}" if line else f"{path}: {text}") for line, text in ordered])


def _conflicts(tables: Iterable[tuple[TableEntry, TableConfig]]) -> Iterator[Problem]:
    first: dict[tuple[str, str], tuple[TableEntry, TableConfig]] = {}
    names: dict[str, TableConfig] = {}
    slots: dict[str, tuple[TableEntry, TableConfig]] = {}
    for entry, table in tables:
        for target in table.targets:
            other_entry, other = first.setdefault(target, (entry, table))
            if other is not table:
                yield (
                    entry.line,
                    f"table {table.qualified_name}: target_table: its target {'.'.join(target)} is also the "
                    f"target of {other.qualified_name}{_in_line(other_entry)}; give one of them another "
                    "target_schema or target_table",
                )
        twin = names.setdefault(table.qualified_name, table)
        if twin.schema_ != table.schema_:
            yield (
                entry.line,
                f"table {table.qualified_name}: schema {table.schema_!r} and schema {twin.schema_!r} with their tables "
                "make the same name because of the dots in them; sync only one of them",
            )
        if table.watermark_type not in SLOTS:
            continue
        other_entry, other = slots.setdefault(table.slot_name, (entry, table))
        for key in ("watermark_type", "topic_prefix", "connector"):
            if getattr(other, key) != getattr(table, key):
                yield (
                    entry.line,
                    f"table {table.qualified_name}: slot: {table.slot_name} is also the slot of {other.qualified_name}"
                    f"{_in_line(other_entry)}, which has another {key}; a slot has one reader, give it another",
                )


def _in_line(entry: TableEntry) -> str:
    return f" in line {entry.line}" if entry.line else ""


class _Reading:
    """Collects the entries and all problems of one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.labels: dict[int, str] = {}  # what messages call the n-th entry
        self.named: dict[tuple[str, str], int] = {}
        self.wrong_defaults: frozenset[str | int] = frozenset()

    def problem(self, path: KeyPath, text: str, line: int | None = None) -> None:
        match path:
            case ("tables", int(index), *key):
                where = [self.labels.get(index, f"table {index + 1} of the list"), _dotted(key)]
            case ("defaults", *key):
                where = ["defaults", _dotted(key)]
            case _:
                where = [_dotted(path)]
        text = ": ".join(part for part in [*where, text] if part)
        self.problems.append((line or self.document.line(path), text))

    def entries(self) -> list[TableEntry]:
        value = self.document.value
        entries: list[TableEntry | None] = []
        if isinstance(value, dict):
            for key in sorted(value.keys() - _keys(TablesFile)):
                self.problem((key,), _unknown(key, _keys(TablesFile)))
            if not isinstance(reference := value.get("$schema"), str | None):
                self.problem(("$schema",), f"found {_found(reference)}; allowed: a text")
            defaults = self.defaults(value.get("defaults"))
            tables = value.get("tables")
            if isinstance(tables, list) and tables:
                entries = [self.entry(index, own, defaults) for index, own in enumerate(tables)]
            else:
                found = f"found {_found(tables)}" if "tables" in value else "missing"
                self.problem(("tables",), f"{found}; allowed: a list of one entry or more")
        elif value is not None:
            self.problem((), f"found {_found(value)}; allowed: a mapping with the key tables")
        elif not self.document.problems:
            self.problem((), "the file is empty; allowed: tables: and a list of one entry or more")
        for line, path, text in self.document.problems:
            self.problem(path, text, line)
        valid = [entry for entry in entries if entry]
        self.problems += _conflicts((entry, entry.table) for entry in valid if not entry.glob)
        return valid

    def defaults(self, own: Any) -> dict[str, Any]:
        """The defaults without the keys that are wrong, which are reported here and nowhere else."""
        if own is None:
            return {}
        _, self.wrong_defaults = self.validate(Defaults, own, ("defaults",))
        if not isinstance(own, dict):
            return {}
        return {key: value for key, value in own.items() if key not in self.wrong_defaults}

    def advisor(self) -> Advisor:
        own = self.document.value.get("advisor") if isinstance(self.document.value, dict) else None
        found, _ = self.validate(Advisor, {} if own is None else own, ("advisor",))
        return found or Advisor()

    def entry(self, index: int, own: Any, defaults: dict[str, Any]) -> TableEntry | None:
        path = ("tables", index)
        if not isinstance(own, dict):
            self.problem(path, f"found {_found(own)}; allowed: a mapping, such as - table_name: orders")
            return None
        before = len(self.problems)
        merged = with_defaults(defaults, own)
        glob = self.name(index, own, merged)
        if glob and own.get("target_table") is not None:
            self.problem(
                (*path, "target_table"),
                f"found {own['target_table']!r}; all tables of a glob would have the same target: leave it out, "
                "or give the table an entry of its own",
            )
        if not glob and own.get("exclude"):
            self.problem((*path, "exclude"), f"found {own['exclude']!r}; it belongs to a glob, and table_name is none")
        # What a wrong default leaves open is no problem of the table's.
        unknown = self.wrong_defaults - own.keys()
        excused = frozenset(STRATEGY_KEYS) if "watermark_type" in unknown else unknown
        table, _ = self.validate(TableConfig, merged, path, excused)
        return TableEntry(table, self.document.line(path), glob) if table and len(self.problems) == before else None

    def name(self, index: int, own: dict[str, Any], merged: dict[str, Any]) -> bool:
        """Put schema and table_name apart and unescaped into ``merged``; whether they are a glob."""
        path = ("tables", index)
        written, schema = own.get("table_name"), merged.get("schema", "public")
        if not isinstance(written, str) or not isinstance(schema, str):
            return False
        *schemas, name = split_name(written)
        schema = ".".join(schemas) or schema
        plain_schema, plain_name = literal(schema), literal(name)
        glob = plain_schema is None or plain_name is None
        merged["schema"], merged["table_name"] = (schema, name) if glob else (plain_schema, plain_name)
        self.labels[index] = f"table {merged['schema']}.{merged['table_name']}"
        if len(schemas) > 1:
            self.problem(
                (*path, "table_name"),
                f"found {written!r}; allowed: name or schema.name, a '.' that is part of a name is written [.]",
            )
        if schemas and own.get("schema", schema) != schema:
            self.problem(
                (*path, "schema"),
                f"found {own['schema']!r}, and table_name names the schema {schema!r}; write one of the two, and "
                "a '.' that is part of a name as [.]",
            )
        first = self.named.setdefault((merged["schema"], merged["table_name"]), index)
        if first != index:
            line = self.document.line(("tables", first))
            self.problem(path, f"has an entry already{f' in line {line}' if line else ''}")
        return glob

    def validate(
        self, model: type[M], value: Any, path: KeyPath, excused: frozenset[str | int] = frozenset()
    ) -> tuple[M | None, frozenset[str | int]]:
        """The model, or None and the keys that are wrong, after reporting everything wrong with them; but that
        ``excused`` keys are missing, or do not go with others.

        Whether keys fit together is judged only where every key is right by itself, so the right ones are
        looked at once more without the others.
        """
        try:
            return model.model_validate(value, by_alias=True, by_name=False), frozenset()
        except ValidationError as error:
            details = error.errors(include_url=False)
        wrong = frozenset(detail["loc"][0] for detail in details if detail["loc"])
        if isinstance(value, dict) and wrong and not wrong & {"table_name", "watermark_type"}:
            right = {key: item for key, item in value.items() if key not in wrong}
            try:
                model.model_validate(right, by_alias=True, by_name=False)
            except ValidationError as error:
                details += error.errors(include_url=False)
        for detail in details:
            if detail["type"] == "contradiction":
                for key, text in detail["ctx"]["by_key"]:
                    if key not in wrong | excused:
                        self.problem((*path, key), text)
            else:
                where = tuple(part for part in detail["loc"] if part != "[key]")
                text = self.explain(model, detail, where, self.document.texts.get((*path, *where)))
                self.problem((*path, *where), text)
        return None, wrong

    def explain(self, model: type[BaseModel], detail: ErrorDetails, where: KeyPath, written: str | None) -> str:
        value, context = detail["input"], detail.get("ctx", {})
        found = f"found {_found(value)}"
        match detail["type"]:
            case "extra_forbidden":
                if model is Defaults and where[0] in _keys(TableConfig):
                    return "belongs to the entry of a table, it cannot be a default"
                return _unknown(str(where[-1]), _keys(_inner(model, where[:-1])))
            case "missing":
                return "missing"
            case "enum" | "literal_error":
                choices = re.findall(r"'([^']*)'", str(context["expected"]))
                return f"{found}; allowed: {', '.join(choices)}{_did_you_mean(str(value), choices)}"
            case "value_error":
                text = str(context["error"])
                return text if isinstance(value, dict) and not text.startswith("allowed") else f"{found}; {text}"
            case "string_type" if isinstance(value, bool | int | float) and written is not None:
                kind = "boolean" if isinstance(value, bool) else "number"
                return f"found {written}, which YAML reads as a {kind}; {quote(written)}"
            case kind if kind in _ALLOWED:
                return f"{found}; allowed: {_ALLOWED[kind].format_map(context)}"
        return f"{found}; {detail['msg']}"


_ALLOWED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_too_short": "a text that is not empty",
    "too_short": "{min_length} or more",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
}


def _found(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case list():
            return f"a list of {len(value)}"
        case dict():
            return "a mapping"
        case int() if abs(value) >= 2**63:  # Python refuses to print the largest ones
            return "a number of more than 64 bits"
    return repr(value)


def _legible(text: str) -> str:
    """On one line without what a terminal would obey, and without its middle where it is too long."""
    if len(text) > LONGEST_PROBLEM:
        text = f"{text[: LONGEST_PROBLEM // 2]} ... {text[-LONGEST_PROBLEM // 2 :]}"
    return printable(text)


def _dotted(path: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _keys(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


def _inner(model: type[BaseModel], path: KeyPath) -> type[BaseModel]:
    """The model at ``path`` inside ``model``."""
    for part in path:
        annotation = next(f.annotation for name, f in model.model_fields.items() if part == (f.alias or name))
        model = next(t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and t is not NoneType)
    return model


def _did_you_mean(text: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(text, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _unknown(key: str, known: set[str]) -> str:
    return f"unknown key{_did_you_mean(key, known) or '; known keys: ' + ', '.join(sorted(known))}"
