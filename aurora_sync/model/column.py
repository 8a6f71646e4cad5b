"""A column of a source table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column as the source's catalogue describes it.

    ``type_name`` is ``format_type()`` (``numeric(10,2)``, ``character varying(20)[]``); ``base_type`` is
    the ``pg_type.typname`` after unwrapping domains (``numeric``, ``_varchar``), ``base_modifier`` its
    typmod (-1 when none), ``type_category`` ``pg_type.typcategory`` (``A`` array, ``E`` enum, ...). ``policy`` comes
    from ``types`` of tables.yaml: how to treat a value that the warehouse's natural type cannot hold.
    """

    name: str
    attnum: int
    type_name: str
    base_type: str
    base_modifier: int = -1
    type_category: str = "S"
    not_null: bool = False
    default: str | None = None
    identity: str = ""  # '' none, 'a' generated always, 'd' by default
    generated: bool = False
    comment: str | None = None
    missing: str | None = None  # the value in rows that are older than the column, as text; None: NULL
    policy: str = "exact"

    @property
    def is_integer(self) -> bool:
        """True when a key of this column alone is its own key number (model/buckets.py)."""
        return self.base_type in ("int2", "int4", "int8")

    @property
    def is_array(self) -> bool:
        """True for a type ``element[]``, but not for box[], whose text uses another separator, nor for int2vector."""
        return self.type_category == "A" and self.base_type.startswith("_") and self.base_type != "_box"
