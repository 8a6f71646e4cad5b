"""The model of one table in tables.yaml. The JSON Schema and the help of editors are generated from these models: the
meaning of a key for a user is its description here."""

from __future__ import annotations

import re
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
    NameTemplate,
    ObjectTag,
    ObjectTagValue,
    Owner,
    Path,
    Policy,
    Pool,
    Predicate,
    Slot,
    StrictModel,
    Tag,
    TagKey,
    TagValue,
    Topic,
)
from aurora_sync.config.freshness import Freshness
from aurora_sync.config.load import LONGEST_SNAPSHOT, LoadOptions
from aurora_sync.config.watermark_types import CONNECTOR_SLOT, MEANING, SLOT, WatermarkType
from aurora_sync.model.names import NameStyle, fold, written


class ColumnChoice(StrictModel):
    """Which columns of the source are synced; by default all."""

    include: Names | None = Field(None, description="Only these columns: names or globs.")
    exclude: Names = Field(
        default_factory=list,
        description="All but these columns: names or globs. The merge key and the watermark columns cannot "
        "be left out.",
    )


class DeleteGuard(StrictModel):
    """Limit for the deletes of one run in the target. A full read that returns no rows never empties the target."""

    max_rows: int = Field(1000, ge=0, le=BIGINT, description="Deletes up to this number are always allowed.")
    max_share: float = Field(
        0.05, ge=0, le=1, description="Above max_rows: the share of the target's rows that may be deleted."
    )

    def allowed(self, present: int) -> int:
        """Return how many of the ``present`` rows of a target one run may delete."""
        return max(self.max_rows, int(self.max_share * present))


class Reconcile(StrictModel):
    """When a run compares the target with its source, bucket by bucket, and repairs the differences: deleted, lost and
    stale rows. A run also does so, without a setting, after a restart of the server, a TRUNCATE or a detached
    partition."""

    every: int | None = Field(None, ge=1, le=BIGINT, description="At every k-th run. Runs that find no changes count.")
    schedule: Cron | None = Field(None, description="At these times (cron, UTC), independently of other runs.")

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.every is None and self.schedule is None:
            raise ValueError("found neither every nor schedule; expected one of them, or both")
        return self


class TableOptions(StrictModel):
    """The keys that a table and ``defaults:`` share; Defaults adds those keys of strategies that can be defaults."""

    schema_: Name = Field(
        "public", alias="schema", description="Schema of the source table; default: public. Globs allowed."
    )
    target_schema: NameTemplate | None = Field(
        None,
        description="Schema in the warehouse, such as RAW_{schema}: {schema} and {table} stand for the names of the "
        "source. Default: {schema}.",
    )
    deletes: Literal["hard", "soft"] = Field(
        "hard",
        description="What a run does in the target with rows that were deleted at the source: hard deletes them, soft "
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
        None, description="When to compare every row of the target with the source (cron, UTC), without a repair."
    )
    schedule: Cron | None = Field(None, description="Cron expression of five fields, in UTC, such as '*/15 * * * *'.")
    freshness: Freshness | None = Field(
        None, description="Maximum age of the last successful sync: '2h', or fail_after and warn_after."
    )
    group: Group | None = Field(None, description="Dagster asset group; default: the schema.")
    owners: list[Owner] = Field(
        default_factory=list, description="Owners of the Dagster asset: e-mail addresses or team:name."
    )
    tags: dict[TagKey, TagValue] = Field(
        default_factory=dict,
        description="Tags of the Dagster asset.",
        json_schema_extra={"additionalProperties": False},  # only keys that match TagKey are allowed
    )
    op_tags: dict[Name, Tag] = Field(
        default_factory=dict,
        description="Tags of the step in Dagster, such as dagster-k8s/config. The values are strings or mappings.",
    )
    run_tags: dict[Name, Tag] = Field(
        default_factory=dict,
        description="Tags of the runs that schedules and the change sensor request: for concurrency limits, or for a "
        "run launcher. Tables with different tags have different runs. The values are strings or mappings.",
    )
    priority: int = Field(
        0,
        ge=-1000,
        le=1000,
        description="Priority in Dagster, of the runs in the queue and of the steps in a run: higher ones start first.",
    )
    pool: Pool | None = Field(
        None, description="Dagster pool of the step, for a concurrency limit; default: aurora_sync/<source>."
    )
    checks: Checks = Field(default_factory=Checks, description="What is checked after every applied run.")
    types: dict[Name, Policy] = Field(
        default_factory=dict,
        description="By PostgreSQL type, or 'array': what happens to values that the warehouse's natural type cannot "
        "hold. exact (default): the column becomes text, which holds every value; fail: the run fails; null: the "
        "values become NULL; clamp: the values become the nearest one that the type can hold; text: the column is text "
        "from the start. Values that null and clamp changed are counted and reported.",
    )
    schema_changes: Literal["apply", "freeze", "ignore"] = Field(
        "apply",
        description="What happens when columns of the source change. apply: the target changes as well; a dropped "
        "column stays in the target and is marked. freeze: the run fails and shows the difference. ignore: new columns "
        "are not synced, and a run fails when it cannot write the target without a change.",
    )
    policies: Literal["refuse", "exempt"] = Field(
        "refuse",
        description="Snowflake: what happens when a run would read back a column of the target with a masking policy, "
        "such as the merge key, or when the target has a row access policy. refuse: the run fails, and nothing "
        "changes. exempt: the policies show all rows and values to the role that loads, so the run goes on.",
    )
    show_values: bool = Field(
        False,
        description="Whether messages, receipts and metadata may show keys and values of rows that do not fit their "
        "type, repeat a key, or differ. If false, they show columns, counts, and how to find the rows.",
    )
    export: Literal["client", "aurora"] = Field(
        "client",
        description="Who writes the rows of a read to S3. client: this program. aurora: the server itself, by "
        "aws_s3.query_export_to_s3 of Aurora and RDS, so that no row passes through this program; the files are not "
        "compressed. The changes of a stream (logical, debezium, dms) do not come from a query, so this applies to "
        "its scans only.",
    )
    max_snapshot_minutes: int = Field(
        120,
        ge=1,
        le=LONGEST_SNAPSHOT,
        description="Limit for the time that a read holds its snapshot on the source. A longer read is stopped.",
    )
    load: LoadOptions = Field(
        default_factory=LoadOptions, description="How the whole of a large table is read: in chunks."
    )
    text_length: Literal["source", "max"] = Field(
        "source",
        description="Length of text columns. source: that of the source, such as VARCHAR(20), else VARCHAR(16777216), "
        "which is 16 MB; existing columns keep a greater length. max: VARCHAR(134217728), which is 128 MB, also for "
        "existing columns. A longer value is treated by the policy of its column; under exact the column gets the "
        "maximum length.",
    )
    timestamptz: Literal["tz", "ltz", "ntz"] = Field(
        "tz",
        description="Type of new columns in Snowflake for timestamptz: TIMESTAMP_TZ(6), TIMESTAMP_LTZ(6), or "
        "TIMESTAMP_NTZ(6), which holds UTC. Existing columns keep their type.",
    )
    names: NameStyle = Field(
        "upper",
        description="How the names of the target and of its columns are written. upper: ASCII letters in upper case. "
        "preserve: as in PostgreSQL and as in target_schema and target_table. lower: ASCII letters in lower case. "
        "Tables and columns that exist keep their names.",
    )
    # How a first load creates the target. Existing targets stay as they are.
    rely: bool = Field(
        False,
        description="Whether the primary key of a new target is RELY, so that the optimizer of Snowflake trusts it. "
        "Default: NORELY.",
    )
    transient: bool = Field(
        False, description="Whether a new target is a TRANSIENT table: no Fail-safe, at most one day of Time Travel."
    )
    retention_days: int | None = Field(
        None,
        ge=0,
        le=90,
        description="DATA_RETENTION_TIME_IN_DAYS of a new target: days of Time Travel. Default: that of the schema.",
    )
    object_tags: dict[ObjectTag, ObjectTagValue] = Field(
        default_factory=dict,
        description="Tags of a new target in Snowflake, by name: tag, schema.tag or database.schema.tag. The tags must "
        "exist.",
        json_schema_extra={"additionalProperties": False},  # only keys that match ObjectTag are allowed
    )


class TableConfig(TableOptions):
    """One table of the source, after defaults are merged in and globs are expanded.

    An entry of the file can configure many tables: its ``table_name`` is then a glob.
    """

    table_name: Name = Field(
        description="Name or glob (audit_*), optionally schema.name. Write the name exactly as PostgreSQL stores "
        "it, with upper and lower case. Write a '*', '?', '[' or '.' that is part of a name as [*], [?], [[] or [.]."
    )
    exclude: Names = Field(default_factory=list, description="For a glob: names or globs of tables to leave out.")
    watermark_type: WatermarkType = Field(
        WatermarkType.timestamp,
        strict=False,
        description=MEANING,
    )
    watermark_col: Name | None = Field(
        None, description="timestamp and integer: the column that shows which rows are new or changed."
    )
    watermark_cols: Annotated[list[Name] | None, Field(min_length=2, json_schema_extra={"uniqueItems": True})] = Field(
        None, description="composite: two or more columns, the timestamp first."
    )
    watermark_set_by: Literal["database", "application"] | None = Field(
        None,
        description="timestamp, integer and composite: who sets the watermark column; default: derived from "
        "the catalogue. Values that an application sets are read by a slower method that loses no row.",
    )
    lookback: int | None = Field(
        None,
        ge=1,
        le=BIGINT,
        description="integer: read this many ids below the watermark again, to find rows that were committed late.",
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
        description="logical: also record the changes in <target>_HISTORY: one row for each change, with operation, "
        "commit time and LSN.",
    )
    topic_prefix: Topic | None = Field(
        None, description="debezium: topic.prefix of the connector; the topic is prefix.schema.table."
    )
    connector: Connector | None = Field(
        None, description="debezium: options of the connector that differ from those that `cdc connector` prints."
    )
    files: Folder | None = Field(
        None, description="dms: the folder that the task writes to, s3://bucket/folder. It contains schema/table/."
    )
    cdc_path: Path | None = Field(
        None,
        description="dms: the CdcPath of a task that preserves transactions: a folder below files, which contains the "
        "changes of all tables.",
    )
    target_table: NameTemplate | None = Field(
        None,
        description="Table in the warehouse, such as {schema}_{table}: {schema} and {table} stand for the names of the "
        "source. Default: {table}.",
    )
    cluster_by: Names | None = Field(
        None, description="Columns of the source by which a new target is clustered (CLUSTER BY), in this order."
    )
    merge_predicate: Predicate | None = Field(
        None,
        description="A condition on the target t that holds for every row that an increment updates, such as "
        't."CREATED_AT" >= DATEADD(DAY, -30, CURRENT_DATE). It is added to the ON of MERGE, so that Snowflake skips '
        "micro-partitions. A run that finds it wrong fails, and changes nothing.",
    )
    columns: ColumnChoice = Field(default_factory=ColumnChoice, description="Which columns are synced; default: all.")
    column_types: dict[Name, Policy] = Field(
        default_factory=dict, description="By column: a policy as in types, which it overrides."
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
        """Schema and table in upper case (``fold``), which identify the target whatever ``names`` says."""
        schema, table = self.target_names
        return fold(schema), fold(table)

    @property
    def written_target(self) -> tuple[str, str]:
        """Schema and table of a new target in the warehouse, as ``names`` says."""
        schema, table = self.target_names
        return written(schema, self.names), written(table, self.names)

    @property
    def target_names(self) -> tuple[str, str]:
        """Schema and table in the warehouse, as written in tables.yaml or named at the source."""
        names = {"{schema}": self.schema_, "{table}": self.table_name}

        def filled(template: str) -> str:
            return re.sub(r"\{schema\}|\{table\}", lambda found: names[found[0]], template)

        return filled(self.target_schema or "{schema}"), filled(self.target_table or "{table}")

    @property
    def targets(self) -> tuple[tuple[str, str], ...]:
        """Schema and name of all tables of the warehouse that a sync writes, in upper case."""
        return tuple((fold(schema), fold(table)) for schema, table in self.written_targets)

    @property
    def written_targets(self) -> tuple[tuple[str, str], ...]:
        """Schema and name of all tables that a sync writes, as ``names`` says."""
        schema, table = self.written_target
        history = (schema, written(f"{table}_HISTORY", self.names))
        return ((schema, table), history) if self.history else ((schema, table),)

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
                yield key, f"missing; watermark_type {named} requires it"
            if value not in (None, False) and key not in kind.keys.all:
                types = [other.value for other in WatermarkType if key in other.keys.all]
                belongs = f"the key belongs to watermark_type {' or '.join(types)}"
                yield key, f"found {value!r}; {belongs}, and this table has {named}"
        if self.transient and (self.retention_days or 0) > 1:
            yield "retention_days", f"found {self.retention_days}; a transient table keeps one day at most: 0 or 1"
        if self.watermark_cols and len(set(self.watermark_cols)) < len(self.watermark_cols):
            yield "watermark_cols", f"found {self.watermark_cols!r}; expected each column once"


# The keys that belong to some watermark_types and not to others.
STRATEGY_KEYS = tuple(key for key in TableConfig.model_fields if any(key in kind.keys.all for kind in WatermarkType))
