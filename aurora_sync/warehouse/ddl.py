"""Names and tables: how a source table, its columns and its merge key are represented in the warehouse.

Identifiers are always quoted. ``names`` of tables.yaml decides how they are written (model/names.py); by default in
upper case, so that Snowflake users write plain unquoted names. All DDL runs before the transaction of the merge,
because in Snowflake it commits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, TargetChangedError
from aurora_sync.model.column import Column
from aurora_sync.model.keys import ONE_ZERO
from aurora_sync.model.manifest import Disposition, Evolution, Manifest
from aurora_sync.model.names import TargetNames, differing_by_case, fold, written
from aurora_sync.warehouse.base import ReportedColumn, Session
from aurora_sync.warehouse.types import TEXT, TIMESTAMPTZ_OPTIONS, TypeRule, sized, type_rule, widened

SRC_XMIN, RUN_SEQ, SYNCED_AT = "_SRC_XMIN", "_RUN_SEQ", "_SYNCED_AT"
DELETED, ROW_MD5, ROW_NO, KEY_NO = "_DELETED", "_ROW_MD5", "_ROW_NO", "_KEY_NO"
# Further columns of a staging table for changes (changes.py).
OP, KNOWN, PART, FROM = "_OP", "_KNOWN", "_PART", "_FROM_"
ADDED_TYPES = {
    SRC_XMIN: "NUMBER(10,0)",
    RUN_SEQ: "NUMBER(19,0)",
    SYNCED_AT: "TIMESTAMP_NTZ(6)",  # UTC
    DELETED: "BOOLEAN",
    ROW_MD5: "VARCHAR",
    ROW_NO: "NUMBER(19,0)",
    KEY_NO: "NUMBER(15,0)",  # the number by which reconcile finds the bucket of a key that is not one integer
}

# The fields of a staged row of the history (history.py), after its columns.
HISTORY_TYPES = {
    OP: "VARCHAR",
    SRC_XMIN: "NUMBER(10,0)",
    "_LSN": "NUMBER(20,0)",
    "_COMMITTED_AT": "TIMESTAMP_NTZ(6)",
    "_NO": "NUMBER(19,0)",
    "_UNCHANGED": "VARCHAR",
    "_FORMER": "VARCHAR",
}

# Texts are compared byte by byte, whatever the account, database or schema has set as the default.
NO_COLLATION = " DEFAULT_DDL_COLLATION = ''"

NO_LENGTHS: Mapping[str, int | None] = {}

# DuckDB has one type for both, and reports it as the first.
JSON_TYPES = ("VARIANT", "ARRAY")
_ZONED_TYPES = ("TIMESTAMP_TZ", "TIMESTAMP_LTZ")


def alike(one: str | None, other: str | None) -> bool:
    """Return whether two types, as :func:`existing_columns` spells them, are one type in some warehouse.

    >>> alike("TIMESTAMP_TZ", "TIMESTAMP_LTZ"), alike("TIMESTAMP_TZ", "TIMESTAMP_NTZ"), alike("DATE", None)
    (True, False, False)
    """
    return one == other or any(one in types and other in types for types in (JSON_TYPES, _ZONED_TYPES))


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a string constant. For DDL only, which takes no parameters."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


@dataclass(frozen=True)
class TableName:
    """A table in the warehouse. The database is that of the session."""

    schema: str
    name: str

    @property
    def sql(self) -> str:
        return f"{identifier(self.schema)}.{identifier(self.name)}"

    @property
    def key(self) -> str:
        """The name by which the sync log identifies a target. It is upper case, so it stays when ``names`` changes."""
        return TableName(fold(self.schema), fold(self.name)).sql

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    def companion(self, schema: str, kind: str) -> TableName:
        """Return the name of a table of aurora_sync that belongs to this one: readable, limited in length,
        unambiguous."""
        digest = hashlib.md5(self.key.encode(), usedforsecurity=False).hexdigest()[:16]
        return TableName(schema, f"{kind}_{fold(self.name)[:40]}_{digest}")


def target_name(config: TableConfig) -> TableName:
    """Return the name of a new target. One that exists may have kept another (located.py)."""
    return TableName(*config.written_target)


@dataclass(frozen=True)
class TargetColumn:
    """One source column in the target and, under the same name, in the staging table."""

    source: Column
    rule: TypeRule
    name: str  # in the target
    length: int | None = None  # of the existing text column; None when there is none, or it is not known

    @property
    def is_integer(self) -> bool:
        return self.source.is_integer

    @property
    def sql(self) -> str:
        return identifier(self.name)

    @property
    def staged(self) -> str:
        return f"s.{self.sql}"

    @property
    def value(self) -> str:
        """The typed value from the staging table ``s``."""
        return self.rule.cast.format(self.staged)

    def key_text(self, text: str) -> str:
        """Return SQL that maps all texts which the target's column holds equal to one text (model/keys.py)."""
        return ONE_ZERO.format(text) if self.rule.target == "FLOAT" else text

    @property
    def misfit(self) -> str:
        """The condition that a staged value does not fit the type; empty when every value fits."""
        return self.rule.misfit.format(self.staged)


@dataclass(frozen=True)
class Layout:
    """The columns and names of one manifest's rows in the staging table and in the target."""

    target: TableName
    staging: TableName
    columns: tuple[TargetColumn, ...]
    key: tuple[TargetColumn, ...]  # empty: rows are matched by content
    soft: bool  # deletes mark rows instead of removing them
    marks: bool  # the target has, or will have, the column _DELETED
    names: TargetNames
    history: TableName
    recorded: tuple[str, ...]  # the names of the columns in the history
    changes: bool = False  # the staged rows are changes

    @property
    def added(self) -> tuple[str, ...]:
        """The columns that aurora_sync adds to the target, after the source's."""
        own: tuple[str, ...] = (SRC_XMIN, RUN_SEQ, SYNCED_AT)
        own += (DELETED,) if self.marks else ()
        if not self.key:
            return (*own, ROW_MD5, ROW_NO)
        return own if self.key_is_number else (*own, KEY_NO)

    @property
    def staged_names(self) -> tuple[str, ...]:
        """The fields of a staged row, in order."""
        names = (*(column.name for column in self.columns), SRC_XMIN)
        return (*names, *change_fields(len(self.key))) if self.changes else names

    @property
    def key_is_number(self) -> bool:
        """Return whether the key is one integer, which then serves as the key number (model/buckets.py)."""
        return len(self.key) == 1 and self.key[0].is_integer

    @property
    def match(self) -> tuple[str, ...]:
        """The columns that match a staged row to a target row."""
        return tuple(column.name for column in self.key) or (ROW_MD5, ROW_NO)

    def widened(self, names: Collection[str]) -> Layout:
        """Return the layout with these columns as text, which also holds values that their natural type cannot."""

        def wide(column: TargetColumn) -> TargetColumn:
            return replace(column, rule=widened(column.source)) if column.name in names else column

        return replace(self, columns=tuple(map(wide, self.columns)), key=tuple(map(wide, self.key)))

    def comment(self, name: str) -> str:
        """Return SQL for the source's comment on a column, as a part of its definition; empty when it has none."""
        found = next((column.source.comment for column in self.columns if column.name == name), None)
        return f" COMMENT {literal(found)}" if found else ""

    @property
    def types(self) -> dict[str, str]:
        return {c.name: c.rule.target for c in self.columns} | {n: ADDED_TYPES[n] for n in self.added}


def change_fields(key_columns: int) -> tuple[str, ...]:
    return (OP, KNOWN, PART, *(f"{FROM}{place}" for place in range(key_columns)))


def layout(
    config: TableConfig,
    manifest: Manifest,
    log_schema: str,
    existing: dict[str, str],
    lengths: Mapping[str, int | None] = NO_LENGTHS,
    *,
    target: TableName | None = None,
) -> Layout:
    """Return the layout of a manifest. ``existing`` are the columns of the target, empty when there is no target, and
    ``lengths`` the lengths of its text columns, as far as they are known. ``target`` is its name if it exists.
    Raises ConfigError when two columns get the same name, or one gets the name of an added column."""
    names = target_names(config, manifest, existing)
    columns = {
        column.name: _target_column(config, column, names.of(column.name), manifest.evolution, (existing, lengths))
        for column in manifest.columns
    }
    natural = {name: type_rule(column.source) for name, column in columns.items()}
    refuse_json((c.source for n, c in columns.items() if c.rule.is_text and not natural[n].is_text), manifest.table)
    changes = manifest.disposition is Disposition.CHANGES
    ours = (*ADDED_TYPES, *(change_fields(len(manifest.key)) if changes else ()))
    ours += tuple(HISTORY_TYPES) if config.history else ()
    _refuse_same_names(columns, ours, manifest.table)
    target = target or target_name(config)
    soft = config.deletes == "soft"
    staging = target.companion(log_schema, "STAGING")
    return Layout(
        target=target,
        staging=TableName(log_schema, f"{staging.name}_{manifest.load_id}"),
        columns=tuple(columns.values()),
        key=tuple(columns[name] for name in manifest.key),
        soft=soft,
        marks=soft or DELETED in existing,
        names=names,
        history=history_name(config, target),
        recorded=tuple(column.name for column in columns.values()),
        changes=changes,
    )


def target_names(config: TableConfig, manifest: Manifest, existing: Collection[str]) -> TargetNames:
    """Return the names of the source's columns in the target, whose columns are ``existing``.

    Raises TargetChangedError when columns that differ only by case are not both in the target: the one that is there
    may hold the values of the other one. A full read writes all of them.
    """
    exact = differing_by_case(column.name for column in manifest.columns)
    names = TargetNames(config.names, tuple(existing), exact)
    lacking = [c.name for c in manifest.columns if fold(c.name) in exact and names.present(c.name) is None]
    if existing and lacking and config.names == "preserve" and manifest.disposition is not Disposition.REPLACE:
        raise TargetChangedError(
            f"the target has no column {', '.join(lacking)}, but one whose name differs only by case",
            where=manifest.table,
        )
    return names


def history_name(config: TableConfig, target: TableName) -> TableName:
    """Return the name of a new history of the target."""
    return TableName(target.schema, written(f"{target.name}_HISTORY", config.names))


def _refuse_same_names(columns: Mapping[str, TargetColumn], ours: Iterable[str], table: str) -> None:
    # Added columns are found without regard to case, as all columns of an existing target are.
    added, seen, problems = set(ours), dict[str, str](), []
    for name, column in columns.items():
        other = "a column that aurora_sync adds" if fold(column.name) in added else seen.get(column.name)
        if other:
            problems.append(f"column {name!r} becomes {column.name!r} in the target, the name of {other}")
        seen[column.name] = f"column {name!r}"
    if problems:
        raise ConfigError(problems, where=table, hint="exclude one of the columns under columns: in tables.yaml")


def _target_column(
    config: TableConfig,
    column: Column,
    name: str,
    evolution: Evolution,
    found: tuple[dict[str, str], Mapping[str, int | None]],
) -> TargetColumn:
    """Return a column under its name in the target. ``found`` are the types and lengths of the target's columns."""
    existing, lengths = found
    length = lengths.get(name)
    rule = _rule(config, column, existing.get(name, ""), evolution)
    return TargetColumn(column, sized(rule, column, has=length, longest=config.text_length == "max"), name, length)


def _rule(config: TableConfig, column: Column, has: str, evolution: Evolution) -> TypeRule:
    """Return the rule of a column. A column that became text because of a value stays text until its type changes at
    the source, so that its type does not depend on which values are present. A column of timestamptz keeps its type
    when the option changes."""
    retyped = column.name in evolution.retyped
    option = TIMESTAMPTZ_OPTIONS.get(has, config.timestamptz)
    if option == "ntz" and retyped:  # it may have been timestamp at the source
        option = config.timestamptz
    rule = type_rule(column, option)
    if retyped:
        return rule
    was_widened = has == "VARCHAR" and not rule.is_text and rule.policy == "exact"
    return widened(column) if was_widened else rule


def refuse_json(columns: Iterable[Column], table: str) -> None:
    """Raise TargetChangedError when an array was read as JSON but its target column becomes text: only the source has
    the text that PostgreSQL prints."""
    if names := [column.name for column in columns if column.is_array and column.policy != "text"]:
        error = TargetChangedError(
            f"these columns become text, because an ARRAY cannot hold some of their values: {', '.join(names)}",
            where=table,
        )
        error.as_text = frozenset(names)
        raise error


def create_table(table: TableName, columns: Mapping[str, str]) -> str:
    return f"CREATE TABLE IF NOT EXISTS {table.sql} {_columns(columns)}{NO_COLLATION}"


def create_staging_table(table: TableName, names: Iterable[str]) -> str:
    """Return the statement that creates a table of texts for one session."""
    return f"CREATE OR REPLACE TEMPORARY TABLE {table.sql} {_columns(dict.fromkeys(names, TEXT))}{NO_COLLATION}"


def _columns(types: Mapping[str, str]) -> str:
    return f"({', '.join(f'{identifier(name)} {type_}' for name, type_ in types.items())})"


def make_schema(session: Session, name: str) -> None:
    """Create the schema if it does not exist. In Snowflake, CREATE SCHEMA IF NOT EXISTS needs a privilege that a role
    may lack although the schema exists."""
    if not session.has_schema(name):
        session.query(create_schema(name))


def create_schema(name: str) -> str:
    return f"CREATE SCHEMA IF NOT EXISTS {identifier(name)}"


def add_column(layout: Layout, name: str) -> str:
    return add(layout.target, name, layout.types[name]) + layout.comment(name)


def add(table: TableName, name: str, type_: str) -> str:
    """Return the statement that adds a column, compared byte by byte if it is text."""
    collation = " COLLATE ''" if type_.startswith("VARCHAR") else ""
    return f"ALTER TABLE {table.sql} ADD COLUMN {identifier(name)} {type_}{collation}"


def set_type(table: TableName, name: str, type_: str) -> str:
    return f"ALTER TABLE {table.sql} ALTER COLUMN {identifier(name)} SET DATA TYPE {type_}"


def drop_primary_key(table: TableName) -> str:
    return f"ALTER TABLE {table.sql} DROP PRIMARY KEY"


def comment_on_table(table: TableName, text: str) -> str:
    return f"COMMENT ON TABLE {table.sql} IS {literal(text)}"


def comment_on_column(table: TableName, name: str, text: str) -> str:
    return f"COMMENT ON COLUMN {table.sql}.{identifier(name)} IS {literal(text)}"


def create_staging(layout: Layout) -> str:
    return create_staging_table(layout.staging, layout.staged_names)


def staging_tables(session: Session, layout: Layout) -> list[TableName]:
    """Return the existing staging tables of all attempts on this target; none where they end with their session."""
    if session.dialect.temporary_tables:
        return []
    schema = layout.staging.schema
    names = session.tables(schema, layout.target.companion(schema, "STAGING").name)
    return [TableName(schema, name) for name in names]


def rename_table(table: TableName, new: TableName) -> str:
    return f"ALTER TABLE {table.sql} RENAME TO {new.sql}"


def drop_table(table: TableName) -> str:
    return f"DROP TABLE IF EXISTS {table.sql}"


def existing_columns(session: Session, table: TableName) -> dict[str, str]:
    """Return the type of each column by name, spelled as in :data:`ADDED_TYPES`; empty when there is no such table."""
    return {name: column.type for name, column in described(session, table).items()}


def described(session: Session, table: TableName) -> dict[str, ReportedColumn]:
    return session.describe(table.schema, table.name)
