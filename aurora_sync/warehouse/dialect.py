"""How a backend's engine differs from Snowflake, in whose SQL the statements are written.

Statements, types and names are the same for all warehouses: what a trial on a laptop took runs in production as well. A
dialect has what other files must know of an engine. What only the backend needs, such as its file format, stays in the
backend's file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """``translate`` turns one statement of Snowflake SQL into the engine's, and raises an error where the engine has no
    equivalent. ``type_names`` leads from names of types in the engine's INFORMATION_SCHEMA to those that the statements
    declare, where they differ. ``longest_value`` is how many bytes of a value, as text, a column takes."""

    translate: Callable[[str], str]
    type_names: Mapping[str, str]
    longest_value: int

    def declared(self, reported: str, precision: int | None, scale: int | None) -> str:
        """Return the type that a statement declares for a column which INFORMATION_SCHEMA reports so.

        >>> Dialect(str, {"DECIMAL": "NUMBER"}, 2**20).declared("DECIMAL(10,2)", 10, 2)
        'NUMBER(10,2)'
        """
        name = reported.partition("(")[0].upper()
        name = self.type_names.get(name, name)
        return f"NUMBER({precision},{scale})" if name == "NUMBER" else name
