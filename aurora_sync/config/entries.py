"""An entry of ``tables:``, which configures one table or all tables that match a glob."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from aurora_sync.config.tables import TableConfig


@dataclass(frozen=True)
class TableEntry:
    """One entry of ``tables:``. If it is a glob, ``table`` has patterns in place of names."""

    table: TableConfig
    line: int | None  # None when the configuration did not come from a file
    glob: bool

    def matches(self, schema: str, name: str) -> bool:
        """Return whether this entry configures the table ``schema``.``name``."""
        if not self.glob:
            return (schema, name) == (self.table.schema_, self.table.table_name)
        return (
            fnmatchcase(schema, self.table.schema_)
            and fnmatchcase(name, self.table.table_name)
            and not any(
                fnmatchcase(text, pattern) for pattern in self.table.exclude for text in (name, f"{schema}.{name}")
            )
        )

    def of(self, schema: str, name: str) -> TableConfig:
        """Return the configuration of one table that this glob matches."""
        return self.table.model_copy(update={"schema_": schema, "table_name": name, "exclude": []})

    @property
    def in_line(self) -> str:
        """The line of the entry as a part of a message, such as " in line 7"; empty when it has no line."""
        return f" in line {self.line}" if self.line else ""
