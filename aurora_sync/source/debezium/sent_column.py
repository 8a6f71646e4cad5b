"""A column as the connector sends it, with the facts that a reader of its values needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from aurora_sync.errors import ConfigError
from aurora_sync.model.column import Column
from aurora_sync.source.debezium.modes import Modes

Field = Mapping[str, Any]  # a field of a Connect schema; empty if messages have none


class SentColumn:
    """A column of a table, and the modes of its connector."""

    def __init__(self, table: str, column: Column, modes: Modes) -> None:
        self.where = f"{table}.{column.name}"
        self.column = column
        self.modes = modes
        self.element = column.base_type[1:] if column.is_array else ""
        self.precision = column.base_modifier if 0 <= column.base_modifier <= 6 else 6

    def refuse(self, what: str, hint: str, values: str = "") -> NoReturn:
        """Raise ConfigError: the text of a value is not certain. ``values`` is shown only if values may be shown."""
        hint = hint or "compare the modes in tables.yaml with the configuration of the connector"
        raise ConfigError(what, where=self.where, hint=hint, values=values) from None
