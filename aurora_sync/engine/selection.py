"""The tables of this project, from tables.yaml and the source, and the selection that a user names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from aurora_sync.config.loader import expand, load
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.batch import Batch, batches
from aurora_sync.errors import ConfigError
from aurora_sync.source.database import Source


def all_tables(settings: Settings, source: Source) -> list[TableConfig]:
    """Return every table of tables.yaml with globs resolved. Queries the source only when there are globs.

    Raises ConfigError with every problem of the file.
    """
    config = load(settings.tables)
    return expand(config, source.existing() if config.has_globs else ())


def select_tables(settings: Settings, source: Source, wanted: Iterable[str]) -> list[TableConfig]:
    """Return the tables that ``wanted`` names (``name``, ``schema.name`` or a glob of either), in the order of the
    file; all tables when ``wanted`` is empty. Raises ConfigError for each name that matches no table."""
    return _selected(all_tables(settings, source), settings, wanted)


def select_batches(settings: Settings, source: Source, wanted: Iterable[str]) -> list[Batch]:
    """Return the batches of the tables that ``wanted`` names, each with the other tables of its replication slot."""
    tables = all_tables(settings, source)
    return batches(_selected(tables, settings, wanted), tables)


def _selected(tables: list[TableConfig], settings: Settings, wanted: Iterable[str]) -> list[TableConfig]:
    patterns = list(wanted)
    if not patterns:
        return tables

    def matches(table: TableConfig, pattern: str) -> bool:
        names = (table.table_name, table.qualified_name)
        return pattern in names or any(fnmatchcase(name, pattern) for name in names)

    unmatched = [p for p in patterns if not any(matches(table, p) for table in tables)]
    if unmatched:
        raise ConfigError(
            [_unknown(pattern, tables) for pattern in unmatched],
            where=str(settings.tables),
        )
    return [table for table in tables if any(matches(table, pattern) for pattern in patterns)]


def _unknown(pattern: str, tables: list[TableConfig]) -> str:
    names = [name for table in tables for name in (table.qualified_name, table.table_name)]
    near = difflib.get_close_matches(pattern, names, n=1)
    known = ", ".join(table.qualified_name for table in tables[:10]) + (", ..." if len(tables) > 10 else "")
    return f"no table is named {pattern!r}" + (f"; did you mean {near[0]}?" if near else f"; there are {known}")
