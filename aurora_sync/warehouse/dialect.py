"""The differences between a backend's engine and Snowflake, whose SQL the statements are written in.

Statements, types and names are the same for all warehouses, so a sync that works on a laptop works in production. A
dialect holds what other files must know about an engine. Details that only the backend needs, such as its file format,
stay in the backend's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """The dialect of one engine. ``translate`` converts one statement of Snowflake SQL, and raises an error when the
    engine has no equivalent. ``type_names`` maps type names of the engine's INFORMATION_SCHEMA to those that the
    statements declare, where they differ. ``temporary_tables``: a table of a schema may be temporary, so that it ends
    with its session. ``prunes``: constants in a statement let the engine skip parts of a table that was written in
    order. ``longest_value`` is the size limit of a column's value, in bytes of its text. ``case_sensitive``: names that
    differ only by case are different names. ``reads_files``: each statement that reads a staging table parses the
    staged files again, and a transaction can create tables. The rows of a first load are then checked while they are
    written."""

    translate: Callable[[str], str]
    type_names: Mapping[str, str]
    temporary_tables: bool
    prunes: bool
    longest_value: int
    case_sensitive: bool = True
    reads_files: bool = False

    def declared(self, reported: str, precision: int | None, scale: int | None) -> str:
        """Return the type that a statement declares for a column which INFORMATION_SCHEMA reports as ``reported``.

        >>> Dialect(str, {"DECIMAL": "NUMBER"}, True, True, 2**20).declared("DECIMAL(10,2)", 10, 2)
        'NUMBER(10,2)'
        """
        name = reported.partition("(")[0].upper()
        name = self.type_names.get(name, name)
        return f"NUMBER({precision},{scale})" if name == "NUMBER" else name
