"""The model of one table in tables.yaml. The JSON Schema and the help of editors are generated from these models: the
meaning of a key for a user is its description here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from aurora_sync.config.checks import Checks
from aurora_sync.config.connector import Connector
from aurora_sync.config.field_types import (
    BIGINT,
    Cron,
    Folder,
    Group,
    Name,
    Names,
    Owner,
    Path,
    Policy,
    Slot,
    StrictModel,
    TagKey,
    TagValue,
    Topic,
)
from aurora_sync.config.freshness import Freshness
from aurora_sync.config.watermark_types import CONNECTOR_SLOT, MEANING, SLOT, WatermarkType
from aurora_sync.model.names import fold

# 2**31 - 1 milliseconds, the longest statement_timeout of PostgreSQL, in minutes.
LONGEST_SNAPSHOT = 35_791


class ColumnChoice(StrictModel):
    """Which columns of the source are synced; by default all."""

    include: Names | None = Field(None, description="Only these columns: names or globs.")
    exclude: Names = Field(
        default_factory=list,
        description="All but these columns: names or globs. The merge key and the watermark columns cannot "
        "be left out.",
    )


class DeleteGuard(StrictModel):
    """A full read never removes more than this from the target; zero rows never empty it."""

    max_rows: int = Field(1000, ge=0, le=BIGINT, description="Deletes up to this number are always allowed.")
    max_share: float = Field(
        0.05, ge=0, le=1, description="Above max_rows: the share of the target's rows that may be deleted."
    )

    def allowed(self, present: int) -> int:
        """Return how many of the ``present`` rows of a target one run may delete."""
        return max(self.max_rows, int(self.max_share * present))


class Reconcile(StrictModel):
    """When the target is compared with its source, bucket by bucket, and what differs is repaired: deletes, lost
    rows, stale rows. After a restart of the server, a TRUNCATE or a detached partition it happens by itself."""

    every: int | None = Field(None, ge=1, le=BIGINT, description="At every k-th run; runs that find nothing new count.")
    schedule: Cron | None = Field(None, description="At these times (cron, UTC), whatever the other runs do.")

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.every is None and self.schedule is None:
            raise ValueError("allowed: every, schedule, or both; found neither")
        return self


class TableOptions(StrictModel):
    """The keys that a table and ``defaults:`` share; Defaults adds those keys of strategies that can be defaults."""

    schema_: Name = Field(
        "public", alias="schema", description="Schema of the source table; default: public. Globs allowed."
    )
    target_schema: Name | None = Field(None, description="Schema in the warehouse; default: the source's.")
    deletes: Literal["hard", "soft"] = Field(
        "hard",
        description="What becomes of rows that the source deleted: hard removes them from the target, soft "
        "keeps them and marks them in _DELETED.",
    )
    delete_guard: DeleteGuard = Field(
        default_factory=DeleteGuard, description="How many rows one run may delete from the target."
    )
    reconcile: Reconcile | None = Field(
        None,
        description="When to compare the target with its source and repair it; full_snapshot does so at every run.",
    )
    verify: Cron | None = Field(
        None, description="When to prove by content that target and source are equal (cron, UTC); moves no data."
    )
    schedule: Cron | None = Field(None, description="Cron expression of five fields, in UTC, such as '*/15 * * * *'.")
    freshness: Freshness | None = Field(
        None, description="How old the last success may be: '2h', or fail_after and warn_after."
    )
    group: Group | None = Field(None, description="Dagster asset group; default: the schema.")
    owners: list[Owner] = Field(default_factory=list, description="E-mail addresses or team:name.")
    tags: dict[TagKey, TagValue] = Field(
        default_factory=dict,
        description="Tags of the Dagster asset.",
        json_schema_extra={"additionalProperties": False},  # only keys that match TagKey are allowed
    )
    checks: Checks = Field(default_factory=Checks, description="What is checked after every applied run.")
    types: dict[Name, Policy] = Field(
        default_factory=dict,
        description="By PostgreSQL type, or 'array': what becomes of values that the warehouse's natural type cannot "
        "hold. exact (default): the column becomes text, which can; fail: the run fails; null: they become NULL; "
        "clamp: the nearest value that it can hold; text: the column is text from the start. null and clamp are "
        "counted and reported.",
    )
    schema_changes: Literal["apply", "freeze", "ignore"] = Field(
        "apply",
        description="What happens when columns of the source change. apply: the target follows; a dropped column stays "
        "there, marked. freeze: the run fails with the difference. ignore: new columns are left out, and a run "
        "fails where the target cannot be written without a change.",
    )
    show_values: bool = Field(
        False,
        description="Whether messages, receipts and metadata may hold keys and values of rows that do not fit their "
        "type, repeat a key, or differ. Without it they say columns, numbers, and how to find the rows.",
    )
    max_snapshot_minutes: int = Field(
        120,
        ge=1,
        le=LONGEST_SNAPSHOT,
        description="A read that holds its snapshot on the source longer than this is stopped.",
    )


class TableConfig(TableOptions):
    """One table of the source, after defaults are merged in and globs are expanded.

    In the file an entry may stand for many tables: ``table_name`` is then a glob.
    """

    table_name: Name = Field(
        description="Name or glob (audit_*), optionally schema.name. Exactly as PostgreSQL stores it, upper "
        "and lower case included; a '*', '?', '[' or '.' that is part of a name is written [*], [?], [[], [.]."
    )
    exclude: Names = Field(default_factory=list, description="For a glob: names or globs of tables to leave out.")
    watermark_type: WatermarkType = Field(
        WatermarkType.timestamp,
        strict=False,
        description=MEANING,
    )
    watermark_col: Name | None = Field(None, description="timestamp and integer: the column that says what is new.")
    watermark_cols: Annotated[list[Name] | None, Field(min_length=2, json_schema_extra={"uniqueItems": True})] = Field(
        None, description="composite: two or more columns, the timestamp first."
    )
    watermark_set_by: Literal["database", "application"] | None = Field(
        None,
        description="timestamp, integer and composite: who writes the watermark column; default: judged from "
        "the catalogue. Values that an application makes are read by a slower method that loses none.",
    )
    lookback: int | None = Field(
        None,
        ge=1,
        le=BIGINT,
        description="integer: re-read this many ids below the watermark, for rows that came late.",
    )
    primary_key: Names | None = Field(
        None, description="Merge key, one column or several; default: the source's primary key."
    )
    append_only: bool = Field(
        False, description="xmin: rows are only ever inserted, never changed; allows a table without a key."
    )
    slot: Slot | None = Field(
        None,
        description=f"logical: replication slot and publication; default: {SLOT}. The tables of one slot are synced "
        f"together, in one transaction. debezium: those of the connector; default: {CONNECTOR_SLOT}.",
    )
    history: bool = Field(
        False,
        description="logical: record every change as well, in <target>_HISTORY: one row for each, with operation, "
        "commit time and LSN.",
    )
    topic_prefix: Topic | None = Field(
        None, description="debezium: topic.prefix of the connector; the topic is prefix.schema.table."
    )
    connector: Connector | None = Field(
        None, description="debezium: options of the connector, where they are not those that `cdc connector` prints."
    )
    files: Folder | None = Field(
        None, description="dms: the folder that the task writes to, s3://bucket/folder; in it are schema/table/."
    )
    cdc_path: Path | None = Field(
        None,
        description="dms: the task's CdcPath, under files, where it preserves transactions: the changes of all tables "
        "lie there together.",
    )
    target_table: Name | None = Field(None, description="Table in the warehouse; default: the source's name.")
    columns: ColumnChoice = Field(default_factory=ColumnChoice, description="Which columns are synced; default: all.")
    column_types: dict[Name, Policy] = Field(
        default_factory=dict, description="By column, before types: what types says of a type."
    )

    @property
    def qualified_name(self) -> str:
        """``schema.table`` of the source, without quotes: the name of the table in messages, keys and logs."""
        return f"{self.schema_}.{self.table_name}"

    @property
    def sql(self) -> str:
        """The name of the source table in SQL, quoted."""
        return ".".join('"' + name.replace('"', '""') + '"' for name in (self.schema_, self.table_name))

    @property
    def target(self) -> tuple[str, str]:
        """Schema and table in the warehouse, in upper case (``fold``)."""
        return fold(self.target_schema or self.schema_), fold(self.target_table or self.table_name)

    @property
    def targets(self) -> tuple[tuple[str, str], ...]:
        """Schema and name of all tables of the warehouse that a sync writes."""
        schema, table = self.target
        return ((schema, table), (schema, f"{table}_HISTORY")) if self.history else ((schema, table),)

    @property
    def slot_name(self) -> str:
        return self.slot or self.watermark_type.keys.slot

    @property
    def watermark_columns(self) -> tuple[str, ...]:
        """The columns of ``watermark_col`` or ``watermark_cols``; empty when neither is set."""
        return tuple(self.watermark_cols or ()) or ((self.watermark_col,) if self.watermark_col else ())

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> Self:
        if problems := list(self._contradictions()):
            raise PydanticCustomError(
                "contradiction", "{text}", {"text": "; ".join(f"{k}: {t}" for k, t in problems), "by_key": problems}
            )
        return self

    def _contradictions(self) -> Iterable[tuple[str, str]]:
        """Yield the keys that contradict the watermark_type or each other, each with the reason."""
        kind = self.watermark_type
        named = kind.value if "watermark_type" in self.model_fields_set else f"{kind.value} (the default)"
        for key in STRATEGY_KEYS:
            value = getattr(self, key)
            if key in kind.keys.needs and value is None:
                yield key, f"missing; watermark_type {named} needs it"
            if value not in (None, False) and key not in kind.keys.all:
                types = [other.value for other in WatermarkType if key in other.keys.all]
                yield key, f"found {value!r}; it belongs to watermark_type {' or '.join(types)}, this is {named}"
        if self.watermark_cols and len(set(self.watermark_cols)) < len(self.watermark_cols):
            yield "watermark_cols", f"found {self.watermark_cols!r}; allowed: every column once"


# The keys that belong to some watermark_types and not to others.
STRATEGY_KEYS = tuple(key for key in TableConfig.model_fields if any(key in kind.keys.all for kind in WatermarkType))
