"""A source relation as the catalogue describes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from aurora_sync.model import plpgsql
from aurora_sync.model.column import Column


@dataclass(frozen=True)
class Index:
    columns: tuple[str, ...]  # an expression has an empty name
    unique: bool
    primary: bool
    immediate: bool  # not deferrable
    partial: bool
    valid: bool = True


@dataclass(frozen=True)
class ColumnSequence:
    name: str
    cache: int
    increment: int
    cycle: bool
    version: str = ""  # changes when the sequence is restarted or recreated


@dataclass(frozen=True)
class Trigger:
    name: str
    before: bool
    row: bool
    on_insert: bool
    on_update: bool
    enabled: bool
    source: str  # body of the trigger function
    language: str = "plpgsql"  # of the trigger function
    always: bool = False  # ENABLE ALWAYS: fires also under session_replication_role = replica
    clock_shadowed: bool = False  # an unqualified now() in the function may mean a function outside of pg_catalog

    def assigned(self, column: str) -> tuple[str, ...] | None:
        """Return the expressions that the trigger assigns to ``column`` before the row is written, in order and
        normalized (plpgsql.normalized()). Return None when the text of the function does not prove which."""
        if not (self.enabled and self.before and self.row):
            return ()
        found = plpgsql.assignments(self.source) if self.language == "plpgsql" else None
        return None if found is None else tuple(each.value for each in found if each.column == column)

    def may_write(self, column: str) -> bool:
        """Return whether the trigger may change ``column`` before the row is written; False only when the text of the
        function proves that it does not."""
        return self.assigned(column) != ()


# The schema of the objects that triggers need at the source.
SCHEMA = "aurora_sync"


@dataclass(frozen=True)
class Outbox:
    """A table to which triggers write the key of every changed row of a synced table (source/outbox.py)."""

    name: str
    key: tuple[str, ...]
    complete: bool  # triggers write the key of every changed row of every partition, in every session
    usable: bool  # this role may read the outbox, and remove applied entries
    version: str  # changes when one of the triggers, their function or the outbox itself is recreated or altered
    watched: bool = True  # triggers of the outbox record which entries anybody but a sync removes

    @property
    def relation(self) -> tuple[str, str]:
        return SCHEMA, self.name


@dataclass(frozen=True)
class SourceTable:
    """The complete description of a relation from the catalogue, for the decisions of strategies and configuration."""

    schema: str
    name: str
    oid: int
    kind: str  # pg_class.relkind: r table, p partitioned, v view, m materialized view, f foreign table
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    member_kinds: tuple[str, ...]  # relkind of every leaf, foreign partitions included
    comment: str | None = None
    row_estimate: int = 0  # reltuples summed over the leaves, 0 when never analysed
    size_bytes: int = 0
    row_security: bool = False  # row-level security applies to this role
    inherits: bool = False  # has children by INHERITS: a key of the parent does not cover them
    subscribed: bool = False  # filled by logical replication
    unlogged: bool = False  # one of its leaves is UNLOGGED
    readable: bool = True  # SELECT on every column
    select_on_table: bool = True  # SELECT on the table itself (xmin needs it)
    sequences: dict[str, ColumnSequence] = field(default_factory=dict)  # by column: the default's or identity's
    triggers: tuple[Trigger, ...] = ()
    trigger_version: str = ""  # changes when a trigger of any leaf, or its function, is altered
    outbox: Outbox | None = None
    notes: bool = True  # comments and trigger bodies of the table could be decoded
    undecodable: str = ""  # why the table's name or columns are not known
    unpopulated: tuple[str, ...] = ()  # materialized views that a SELECT of the relation reads, and without data

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def is_heap(self) -> bool:
        """True when this database stores the rows, each with an xmin."""
        return self.kind in "rp" and all(kind in "rp" for kind in self.member_kinds)

    @property
    def primary_key(self) -> tuple[str, ...]:
        return next((index.columns for index in self.indexes if index.primary), ())
