"""Detection of tables in tables.yaml that conflict with each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aurora_sync.config.entries import TableEntry
from aurora_sync.config.problems import Problem
from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import SLOTS


def conflicts(tables: Iterable[tuple[TableEntry, TableConfig]]) -> Iterator[Problem]:
    """Yield a problem for each table that shares a target or a name with an earlier one, or that reads the slot of an
    earlier one in another way."""
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
                    f"target of {other.qualified_name}{other_entry.in_line}; give one of them another "
                    "target_schema or target_table",
                )
        twin = names.setdefault(table.qualified_name, table)
        if twin.schema_ != table.schema_:
            yield (
                entry.line,
                f"table {table.qualified_name}: schema {table.schema_!r} and schema {twin.schema_!r} have tables with "
                "the same full name, because the names contain dots; sync only one of the two tables",
            )
        if table.watermark_type not in SLOTS:
            continue
        other_entry, other = slots.setdefault(table.slot_name, (entry, table))
        for key in ("watermark_type", "topic_prefix", "connector"):
            if getattr(other, key) != getattr(table, key):
                yield (
                    entry.line,
                    f"table {table.qualified_name}: slot: {table.slot_name} is also the slot of {other.qualified_name}"
                    f"{other_entry.in_line}, which has another {key}; a slot has one reader: set another slot for one "
                    "of the two tables",
                )
