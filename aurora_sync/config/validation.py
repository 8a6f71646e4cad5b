"""Validation of a document as tables.yaml: entries completed with defaults, and every problem with line and key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aurora_sync.config.advisor import Advisor
from aurora_sync.config.conflicts import conflicts
from aurora_sync.config.defaults import Defaults, with_defaults
from aurora_sync.config.document import Document, KeyPath
from aurora_sync.config.entries import TableEntry
from aurora_sync.config.explain import explain, in_words, keys, unknown_key
from aurora_sync.config.globs import literal, split_name
from aurora_sync.config.problems import Problem
from aurora_sync.config.tables import STRATEGY_KEYS, TableConfig
from aurora_sync.config.tables_file import TablesFile

M = TypeVar("M", bound=BaseModel)


class Validation:
    """The validation of one document. ``problems`` collects all problems found."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.labels: dict[int, str] = {}  # the name of the n-th entry in messages
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
            for key in sorted(value.keys() - keys(TablesFile)):
                self.problem((key,), unknown_key(key, keys(TablesFile)))
            if not isinstance(reference := value.get("$schema"), str | None):
                self.problem(("$schema",), f"found {in_words(reference)}; expected a string")
            defaults = self.defaults(value.get("defaults"))
            tables = value.get("tables")
            if isinstance(tables, list) and tables:
                entries = [self.entry(index, own, defaults) for index, own in enumerate(tables)]
            else:
                found = f"found {in_words(tables)}" if "tables" in value else "missing"
                self.problem(("tables",), f"{found}; expected a list of one or more entries")
        elif value is not None:
            self.problem((), f"found {in_words(value)}; expected a mapping with the key tables")
        elif not self.document.problems:
            self.problem((), "the file is empty; expected the key tables with a list of one or more entries")
        for line, path, text in self.document.problems:
            self.problem(path, text, line)
        valid = [entry for entry in entries if entry]
        self.problems += conflicts((entry, entry.table) for entry in valid if not entry.glob)
        return valid

    def defaults(self, own: Any) -> dict[str, Any]:
        """Return the defaults without the wrong keys. The wrong keys are reported here, once for all tables."""
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
            self.problem(path, f"found {in_words(own)}; expected a mapping, such as - table_name: orders")
            return None
        before = len(self.problems)
        merged = with_defaults(defaults, own)
        glob = self.name(index, own, merged)
        if glob and own.get("target_table") is not None and "{table}" not in str(own["target_table"]):
            self.problem(
                (*path, "target_table"),
                f"found {own['target_table']!r}; all tables of a glob would have the same target: remove the key, "
                "or give the table an entry of its own",
            )
        if not glob and own.get("exclude"):
            self.problem(
                (*path, "exclude"), f"found {own['exclude']!r}; the key belongs to a glob, and table_name is not a glob"
            )
        # A key that is missing because its default was wrong is not a problem of this table.
        unknown = self.wrong_defaults - own.keys()
        excused = frozenset(STRATEGY_KEYS) if "watermark_type" in unknown else unknown
        table, _ = self.validate(TableConfig, merged, path, excused)
        return TableEntry(table, self.document.line(path), glob) if table and len(self.problems) == before else None

    def name(self, index: int, own: dict[str, Any], merged: dict[str, Any]) -> bool:
        """Write schema and table_name, split and unescaped, to ``merged``. Return whether they are a glob."""
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
                f"found {written!r}; expected name or schema.name; write a '.' that is part of a name as [.]",
            )
        if schemas and own.get("schema", schema) != schema:
            self.problem(
                (*path, "schema"),
                f"found {own['schema']!r}, but table_name contains the schema {schema!r}; write one of the two, and "
                "write a '.' that is part of a name as [.]",
            )
        first = self.named.setdefault((merged["schema"], merged["table_name"]), index)
        if first != index:
            line = self.document.line(("tables", first))
            self.problem(path, f"already has an entry{f' in line {line}' if line else ''}")
        return glob

    def validate(
        self, model: type[M], value: Any, path: KeyPath, excused: frozenset[str | int] = frozenset()
    ) -> tuple[M | None, frozenset[str | int]]:
        """Return the model and no keys, or None and the wrong keys. Every problem is reported, except that a key of
        ``excused`` is missing or contradicts another key.

        pydantic checks contradictions between keys only when every key is valid by itself. So the valid keys are
        validated once more without the others.
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
                text = explain(model, detail, where, self.document.texts.get((*path, *where)))
                self.problem((*path, *where), text)
        return None, wrong


def _dotted(path: Iterable[str | int]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
