"""A source relation as the catalogue describes it."""

from __future__ import annotations

from dataclasses import dataclass, field

from aurora_sync.model import plpgsql
from aurora_sync.model.column import Column


@dataclass(frozen=True)
class Index:
    columns: tuple[str, ...]  # empty name for an expression
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
    version: str = ""  # changes when it is restarted or made anew


@dataclass(frozen=True)
class Trigger:
    name: str
    before: bool
    row: bool
    on_insert: bool
    on_update: bool
    enabled: bool
    source: str  # body of its function
    language: str = "plpgsql"  # of its function
    always: bool = False  # fires in sessions with session_replication_role = replica as well
    clock_shadowed: bool = False  # an unqualified now() in its function may be another than pg_catalog's

    def assigned(self, column: str) -> tuple[str, ...] | None:
        """What it assigns to that column of a row before it is written, in order, each as plpgsql.normalized()
        returns it. None where its text does not prove that."""
        if not (self.enabled and self.before and self.row):
            return ()
        found = plpgsql.assignments(self.source) if self.language == "plpgsql" else None
        return None if found is None else tuple(each.value for each in found if each.column == column)

    def may_write(self, column: str) -> bool:
        """Whether it could change that column of a row before it is written: unless its text proves that it cannot."""
        return self.assigned(column) != ()


# What triggers need lies in a schema of its own.
SCHEMA = "aurora_sync"


@dataclass(frozen=True)
class Outbox:
    """A table of its own, to which triggers write the key of every row that changes (source/outbox.py)."""

    name: str
    key: tuple[str, ...]
    complete: bool  # a trigger writes the key of every row of every partition, whoever writes that
    usable: bool  # this role may read it, and take out what was applied
    version: str  # changes when one of its triggers, their function or the outbox itself was made anew or touched
    watched: bool = True  # triggers of the outbox note what others than a sync take out of it

    @property
    def relation(self) -> tuple[str, str]:
        return SCHEMA, self.name


@dataclass(frozen=True)
class SourceTable:
    """A relation as the catalogue describes it, whole: strategies and the configuration judge it by this."""

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
    unlogged: bool = False  # one of its leaves is
    readable: bool = True  # SELECT on every column
    select_on_table: bool = True  # SELECT on the table itself (xmin needs it)
    sequences: dict[str, ColumnSequence] = field(default_factory=dict)  # by column: the default's or identity's
    triggers: tuple[Trigger, ...] = ()
    trigger_version: str = ""  # changes when a trigger of any leaf, or its function, was touched
    outbox: Outbox | None = None
    notes: bool = True  # its comments and the texts of its triggers could be decoded
    undecodable: str = ""  # why its name or its columns are not known
    unpopulated: tuple[str, ...] = ()  # materialized views that reading it reads, and that were never filled

    @property
    def qualified_name(self) -> str:
        return f"{self.schema}.{self.name}"

    def column(self, name: str) -> Column | None:
        return next((column for column in self.columns if column.name == name), None)

    @property
    def is_heap(self) -> bool:
        """Rows lie in this database with an xmin of its own."""
        return self.kind in "rp" and all(kind in "rp" for kind in self.member_kinds)

    @property
    def primary_key(self) -> tuple[str, ...]:
        return next((index.columns for index in self.indexes if index.primary), ())
