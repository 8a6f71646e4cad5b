"""Loading and validation of tables.yaml. All problems are reported at once, each with file, line, table, key, what was
found and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from aurora_sync.config.advisor import Advisor
from aurora_sync.config.conflicts import conflicts
from aurora_sync.config.document import Document, parse, read
from aurora_sync.config.entries import TableEntry
from aurora_sync.config.problems import Problem, refuse
from aurora_sync.config.tables import TableConfig
from aurora_sync.config.validation import Validation


@dataclass(frozen=True)
class SyncConfig:
    """The content of a valid tables.yaml. ``tables`` has the order of the file."""

    path: Path
    tables: tuple[TableEntry, ...]
    advisor: Advisor = field(default_factory=Advisor)

    @property
    def has_globs(self) -> bool:
        """True when an entry is a glob: :func:`expand` then needs the names of the existing tables."""
        return any(entry.glob for entry in self.tables)

    def line_of(self, table: TableConfig) -> int | None:
        """Return the line of the entry that configures ``table``; None when no entry does, or its line is unknown."""
        name = (table.schema_, table.table_name)
        entry = self.explicit.get(name) or next((e for e in self.tables if e.glob and e.matches(*name)), None)
        return entry.line if entry else None

    @cached_property
    def explicit(self) -> dict[tuple[str, str], TableEntry]:
        """The entries that name one table, by (schema, name)."""
        return {(e.table.schema_, e.table.table_name): e for e in self.tables if not e.glob}


def load(path: Path) -> SyncConfig:
    """Load the tables.yaml (or .json) at ``path``. Raises ConfigError with all problems found."""
    return _config(parse(read(path)), path)


def from_mapping(value: Mapping[str, Any], path: Path) -> SyncConfig:
    """Validate a mapping that the caller has already parsed. ``path`` names it in errors. Raises ConfigError."""
    return _config(Document(value=dict(value)), path)


def expand(config: SyncConfig, existing: Iterable[tuple[str, str]]) -> list[TableConfig]:
    """Return one TableConfig for each table: globs are matched against ``existing``, pairs of (schema, name).

    An explicit entry takes precedence over a glob; a table that no entry matches is ignored. Without globs
    ``existing`` is not used. Raises ConfigError with every glob that matches nothing, every table that two globs
    match, and all conflicts between tables, such as one target for two of them.
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
            but = f" without those that exclude matches: {', '.join(entry.table.exclude)}"
            text = f"{label} none of the {len(names)} tables that this role can see"
            problems.append((entry.line, text + (but if entry.table.exclude else "")))
        for schema, name in matched:
            if other := taken.get((schema, name)):
                text = (
                    f"{label} {schema}.{name}, and so does {other.table.qualified_name}{other.in_line}; "
                    "exclude the table from one of the globs, or give it an entry of its own"
                )
                problems.append((entry.line, text))
            elif (schema, name) not in config.explicit:
                taken[schema, name] = entry
                tables.append((entry, entry.of(schema, name)))
    refuse(config.path, [*problems, *conflicts(tables)])
    return [table for _, table in tables]


def _config(document: Document, path: Path) -> SyncConfig:
    validation = Validation(document)
    entries, advisor = validation.entries(), validation.advisor()
    refuse(path, validation.problems)
    return SyncConfig(path, tuple(entries), advisor)
