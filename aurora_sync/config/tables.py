"""The models of tables.yaml. What a key means to a user is its description here; the JSON Schema and the
editor's help are made from these models and nowhere else."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    create_model,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from aurora_sync.config.cron import check_cron


class WatermarkType(StrEnum):
    timestamp = "timestamp"
    integer = "integer"
    xmin = "xmin"
    composite = "composite"
    full_snapshot = "full_snapshot"
    logical = "logical"
    debezium = "debezium"
    dms = "dms"
    outbox = "outbox"


# Which keys a watermark_type needs, and which it may have besides. A key named here is refused on every
# other type: it would be read by nobody.
NEEDS: dict[WatermarkType, tuple[str, ...]] = {
    WatermarkType.timestamp: ("watermark_col",),
    WatermarkType.integer: ("watermark_col",),
    WatermarkType.composite: ("watermark_cols",),
    WatermarkType.xmin: (),
    WatermarkType.full_snapshot: (),
    WatermarkType.logical: (),
    WatermarkType.debezium: ("topic_prefix",),
    WatermarkType.dms: ("files",),
    WatermarkType.outbox: (),
}
ALLOWS: dict[WatermarkType, tuple[str, ...]] = {
    WatermarkType.timestamp: ("watermark_set_by",),
    WatermarkType.integer: ("watermark_set_by", "lookback"),
    WatermarkType.composite: ("watermark_set_by",),
    WatermarkType.xmin: ("append_only",),
    WatermarkType.full_snapshot: (),
    WatermarkType.logical: ("slot", "history"),
    WatermarkType.debezium: ("slot", "connector"),
    WatermarkType.dms: ("cdc_path",),
    WatermarkType.outbox: (),
}
STRATEGY_KEYS = (
    *("watermark_col", "watermark_cols", "watermark_set_by", "lookback", "append_only"),
    *("slot", "history", "topic_prefix", "connector", "files", "cdc_path"),
)
# Of the slot, and the publication, of tables that name none.
SLOT = "aurora_sync"
CONNECTOR_SLOT = "aurora_sync_debezium"
SLOTS = (WatermarkType.logical, WatermarkType.debezium)  # read from one
# In place of a value that an update did not change. A row with this very text would be taken for unchanged, so it is
# one that nobody writes.
PLACEHOLDER = "aurora_sync.unchanged.9f3c61d27ab84e05"


@dataclass(frozen=True)
class Matches:
    """A text that matches ``pattern`` as a whole; ``allowed`` says in words what that is."""

    pattern: str
    allowed: str

    def check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise ValueError(f"allowed: {self.allowed}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": f"^({self.pattern})$"}


def _one_or_many(value: Any) -> Any:
    if not isinstance(value, str | list):
        raise ValueError("allowed: a name or a list of names")
    return [value] if isinstance(value, str) else value


def _distinct(names: list[str]) -> list[str]:
    if twice := sorted(name for name, count in Counter(names).items() if count > 1):
        raise ValueError(f"{', '.join(twice)} stands there twice; allowed: every name once")
    return names


# The forms of owners, tags and groups are Dagster's own.
_LABEL = "[A-Za-z0-9_.-]"
BIGINT = 2**63 - 1  # what ids are counted in
# 2**31 - 1 milliseconds: the longest statement_timeout that PostgreSQL takes.
LONGEST_SNAPSHOT = 35_791
# PostgreSQL ends a text at a NUL.
Name = Annotated[str, Field(min_length=1), Matches(r"[^\0]*", "a text without NUL characters")]
_NameList = Annotated[list[Name], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
Names = Annotated[
    list[Name],
    Field(min_length=1),
    BeforeValidator(_one_or_many, json_schema_input_type=Name | _NameList),
    AfterValidator(_distinct),
]
Duration = Annotated[str, Matches(r"[1-9][0-9]{0,4}[mhd]", "a number of minutes, hours or days such as 30m, 2h or 1d")]
Size = Annotated[str, Matches(r"[1-9][0-9]{0,5}(MB|GB|TB)", "a size such as 500MB, 50GB or 2TB")]
Cron = Annotated[
    str,
    Matches(r"\S+( +\S+){4}", "five fields (minute hour day month weekday) such as '*/15 * * * *'"),
    AfterValidator(check_cron),
]
Owner = Annotated[
    str,
    Matches(r"team:\S+|[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}", "an e-mail address, or team:name"),
]
TagKey = Annotated[
    str,
    Matches(
        f"({_LABEL}{{1,63}}/)?{_LABEL}{{1,63}}",
        "up to 63 letters, digits, '_', '-' or '.', optionally after a prefix and '/'",
    ),
]
TagValue = Annotated[str, Matches(f"{_LABEL}{{0,63}}", "up to 63 letters, digits, '_', '-' or '.'")]
# YAML reads a plain null as no value.
Policy = Annotated[
    Literal["exact", "text", "fail", "null", "clamp"],
    BeforeValidator(
        lambda value: "null" if value is None else value,
        json_schema_input_type=Literal["exact", "text", "fail", "null", "clamp", None],
    ),
]
Slot = Annotated[str, Matches(r"[a-z0-9_]{1,63}", "up to 63 lower-case letters, digits and '_'")]
Topic = Annotated[str, Matches(r"[A-Za-z0-9._-]{1,100}", "up to 100 letters, digits, '_', '-' or '.'")]
Path = Annotated[str, Matches(r"[^/?#\0]+(/[^/?#\0]+)*", "a folder, without a / at either end")]
Folder = Annotated[str, Matches(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#\0]*)?", "s3://bucket/folder")]
Group = Annotated[str, Matches(r"[A-Za-z0-9_]+(/[A-Za-z0-9_]+)*", "letters, digits and '_', in segments joined by '/'")]


def duration(text: str) -> timedelta:
    """``30m``, ``2h`` or ``1d`` as a time."""
    unit = {"m": "minutes", "h": "hours", "d": "days"}[text[-1]]
    return timedelta(**{unit: int(text[:-1])})


def size(text: str) -> int:
    """``500MB``, ``50GB`` or ``2TB`` in bytes."""
    return int(text[:-2]) * {"MB": 10**6, "GB": 10**9, "TB": 10**12}[text[-2:]]


_ESCAPED = re.compile(r"\[([^!])\]")


def literal(pattern: str) -> str | None:
    """The one name a pattern stands for, None when it is a glob: ``a[*]b`` is ``a*b``, ``a*`` is a glob."""
    if set("*?[") & set(_ESCAPED.sub("", pattern)):
        return None
    return _ESCAPED.sub(r"\1", pattern)


def fold(name: str) -> str:
    """A source name as the warehouse spells it: ASCII letters in upper case, everything else as it is."""
    return re.sub("[a-z]+", lambda letters: letters[0].upper(), name)


class _Model(BaseModel):
    # strict: "10" is no number and 1 is no text, for the loader as for the JSON Schema
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, strict=True)


class ColumnChoice(_Model):
    """Which columns of the source are synced; by default all."""

    include: Names | None = Field(None, description="Only these columns: names or globs.")
    exclude: Names = Field(
        default_factory=list,
        description="All but these columns: names or globs. The merge key and the watermark columns cannot "
        "be left out.",
    )


class DeleteGuard(_Model):
    """A full read never removes more than this from the target; zero rows never empty it."""

    max_rows: int = Field(1000, ge=0, le=BIGINT, description="Deletes up to this number are always allowed.")
    max_share: float = Field(
        0.05, ge=0, le=1, description="Above max_rows: the share of the target's rows that may be deleted."
    )

    def allowed(self, present: int) -> int:
        """How many of so many rows one run may delete."""
        return max(self.max_rows, int(self.max_share * present))


class Freshness(_Model):
    """How old the last success may be. A text alone means fail_after."""

    fail_after: Duration = Field(description="Age of the last success that fails, such as '2h' or '1d'.")
    warn_after: Duration | None = Field(
        None, description="Age of the last success that warns; shorter than fail_after."
    )

    @model_validator(mode="before")
    @classmethod
    def _text_means_fail_after(cls, value: Any) -> Any:
        if not isinstance(value, str | dict):
            raise ValueError("allowed: a time such as 2h, or a mapping of fail_after and warn_after")
        return {"fail_after": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _warns_before_it_fails(self) -> Self:
        if self.warn_window and self.warn_window >= self.fail_window:
            raise ValueError(f"warn_after ({self.warn_after}) must be shorter than fail_after ({self.fail_after})")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        mapping = handler.resolve_ref_schema(handler(schema))
        del mapping["required"]  # said by _freshness_is_whole
        text = mapping["properties"]["fail_after"]
        return {"anyOf": [{"type": "string", "pattern": text["pattern"]}, mapping]}

    @property
    def fail_window(self) -> timedelta:
        return duration(self.fail_after)

    @property
    def warn_window(self) -> timedelta | None:
        return duration(self.warn_after) if self.warn_after else None


class Reconcile(_Model):
    """When the target is compared with its source, bucket by bucket, and what differs is repaired: deletes, lost
    rows, stale rows. After a restart of the server, a TRUNCATE or a detached partition it happens by itself."""

    every: int | None = Field(None, ge=1, le=BIGINT, description="At every k-th run; runs that find nothing new count.")
    schedule: Cron | None = Field(None, description="At these times (cron, UTC), whatever the other runs do.")

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.every is None and self.schedule is None:
            raise ValueError("allowed: every, schedule, or both; found neither")
        return self


class Check(_Model):
    severity: Literal["error", "warn"] = Field("error", description="What a failure of the check means.")
    blocking: bool = Field(False, description="A failure stops what is downstream.")
    every: int = Field(1, ge=1, le=BIGINT, description="Evaluate at every k-th applied run.")
    enabled: bool = Field(True, description="false leaves the check out.")


class RowCountCheck(Check):
    tolerance: float = Field(0.0, ge=0, le=1, description="Allowed difference as a share of the source's rows.")


class SlotCheck(Check):
    max_retained_gb: float = Field(10.0, gt=0, description="WAL that may be kept for the slot, in GB.")


class Checks(_Model):
    """The checks that run in the same step as the sync."""

    row_count: RowCountCheck = Field(
        default_factory=RowCountCheck, description="Source and target count the same, as of one snapshot."
    )
    watermark: Check = Field(
        default_factory=Check, description="The watermark never moves backwards, and moves when the source did."
    )
    merge_key: Check = Field(default_factory=Check, description="The merge key is unique and not null in the target.")
    certificate: Check = Field(
        default_factory=Check, description="What was committed before the snapshot is in the target, provably."
    )
    schema_: Check = Field(
        default_factory=Check, alias="schema", description="Warns in the run that applied a change of columns."
    )
    slot: SlotCheck = Field(
        default_factory=SlotCheck,
        description="logical: the slot has all WAL that it needs, and not too much.",
    )


class Connector(_Model):
    """How the Debezium connector is configured, by its own names. The defaults are what ``cdc connector`` prints, the
    one configuration under which every value comes as it is; what another makes uncertain is refused by column."""

    decimal: Literal["string", "precise", "double"] = Field(
        "string",
        alias="decimal.handling.mode",
        description="precise makes NaN NULL and drops zeros at the end, double rounds.",
    )
    time: Literal[
        "adaptive", "adaptive_time_microseconds", "connect", "isostring", "microseconds", "nanoseconds", "structured"
    ] = Field(
        "microseconds",
        alias="time.precision.mode",
        description="isostring sends 24:00 as 00:00, nanoseconds NULL for what is far away, connect milliseconds; "
        "under the adaptive modes a number's unit is that of the column's precision when it was sent.",
    )
    interval: Literal["string", "numeric"] = Field(
        "string", alias="interval.handling.mode", description="numeric makes microseconds of months and days."
    )
    binary: Literal["bytes", "base64", "base64-url-safe", "hex"] = Field(
        "bytes",
        alias="binary.handling.mode",
        description="Under base64 and base64-url-safe an unchanged bytea comes as NULL.",
    )
    placeholder: str = Field(
        PLACEHOLDER,
        min_length=1,
        alias="unavailable.value.placeholder",
        description="A row with this very text would be taken for unchanged.",
    )
    failures: Literal["fail", "warn", "skip"] = Field(
        "fail",
        alias="event.converting.failure.handling.mode",
        description="Debezium's own default goes on with NULL in place of a value that it could not convert.",
    )
    role: Name = Field(
        "debezium", description="The role that it logs in as; `cdc setup` shows which settings it must have."
    )
    flattened: bool = Field(
        False, description="ExtractNewRecordState is among its transforms, and the table is never truncated."
    )
    plain_arrays: bool = Field(
        False,
        description="Every array has one dimension and subscripts from 1. Debezium loses the others without a word, so "
        "that tables with arrays are refused without this.",
    )

    @property
    def options(self) -> dict[str, str]:
        """Under the connector's names."""
        fields = type(self).model_fields
        return {f.alias: getattr(self, name) for name, f in fields.items() if f.alias}


class TableOptions(_Model):
    """What tables have in common; Defaults adds what they may have in common of their strategy."""

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
        json_schema_extra={"additionalProperties": False},  # than the keys that match TagKey
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
        description="How changed rows are found. timestamp: by a column with the time of the last change; "
        "integer: by an ever growing id, inserts only; composite: by a timestamp and further columns; xmin: by "
        "PostgreSQL's transaction ids, any table with rows of its own; full_snapshot: by reading everything; "
        "logical: by a logical replication slot, deletes included; debezium: by a topic that Debezium's connector "
        "writes, deletes included; dms: by the files that an AWS DMS task writes to S3, deletes included; outbox: by "
        "the keys that triggers write down, deletes included.",
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
        """``schema.table`` of the source: the name of the table everywhere in this project."""
        return f"{self.schema_}.{self.table_name}"

    @property
    def sql(self) -> str:
        """The source table as a statement names it."""
        return ".".join('"' + name.replace('"', '""') + '"' for name in (self.schema_, self.table_name))

    @property
    def target(self) -> tuple[str, str]:
        """Schema and table in the warehouse, folded."""
        return fold(self.target_schema or self.schema_), fold(self.target_table or self.table_name)

    @property
    def targets(self) -> tuple[tuple[str, str], ...]:
        """All tables of the warehouse that are written."""
        schema, table = self.target
        return ((schema, table), (schema, f"{table}_HISTORY")) if self.history else ((schema, table),)

    @property
    def slot_name(self) -> str:
        return self.slot or (CONNECTOR_SLOT if self.watermark_type is WatermarkType.debezium else SLOT)

    @property
    def watermark_columns(self) -> tuple[str, ...]:
        """``watermark_col`` or ``watermark_cols``; empty where the strategy has none."""
        return tuple(self.watermark_cols or ()) or ((self.watermark_col,) if self.watermark_col else ())

    @model_validator(mode="after")
    def _keys_fit_the_type(self) -> Self:
        if problems := list(self._contradictions()):
            raise PydanticCustomError(
                "contradiction", "{text}", {"text": "; ".join(f"{k}: {t}" for k, t in problems), "by_key": problems}
            )
        return self

    def _contradictions(self) -> Iterable[tuple[str, str]]:
        """Keys that do not go together: each with the reason."""
        kind = self.watermark_type
        named = kind.value if "watermark_type" in self.model_fields_set else f"{kind.value} (the default)"
        for key in STRATEGY_KEYS:
            value = getattr(self, key)
            if key in NEEDS[kind] and value is None:
                yield key, f"missing; watermark_type {named} needs it"
            if value not in (None, False) and key not in NEEDS[kind] + ALLOWS[kind]:
                types = [other.value for other in WatermarkType if key in NEEDS[other] + ALLOWS[other]]
                yield key, f"found {value!r}; it belongs to watermark_type {' or '.join(types)}, this is {named}"
        if self.watermark_cols and len(set(self.watermark_cols)) < len(self.watermark_cols):
            yield "watermark_cols", f"found {self.watermark_cols!r}; allowed: every column once"


# What defaults may say of the strategy: what tables can have in common. A table with a key refuses append_only.
DEFAULT_KEYS = ("watermark_type", *(key for key in STRATEGY_KEYS if key != "append_only"))
if TYPE_CHECKING:
    Defaults = TableOptions
else:
    Defaults = create_model(
        "Defaults",
        __base__=TableOptions,
        __doc__="What the tables have in common.",
        **{name: (TableConfig.model_fields[name].annotation, TableConfig.model_fields[name]) for name in DEFAULT_KEYS},
    )


def _of_each_type(*, alone: bool) -> list[dict[str, Any]]:
    """NEEDS and ALLOWS for an entry, as one ``if``/``then`` for each watermark_type. An entry that is not ``alone`` may
    have its type, and what that needs, from defaults."""
    unset = {"enum": [None, False]}
    rules = []
    for kind in WatermarkType:
        optional = alone and kind is WatermarkType.timestamp
        allowed = NEEDS[kind] + ALLOWS[kind]
        properties: dict[str, Any] = {key: unset for key in STRATEGY_KEYS if key not in allowed}
        if alone:
            properties |= {key: {"not": unset} for key in NEEDS[kind]}
        rules.append(
            {
                "if": {"properties": {"watermark_type": {"const": kind.value}}}
                | ({} if optional else {"required": ["watermark_type"]}),
                "then": {"properties": properties} | ({"required": list(NEEDS[kind])} if alone else {}),
            }
        )
    return rules


def _whole_file(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema what holds of defaults and tables together."""
    _freshness_is_whole(schema)
    given = {"required": ["defaults"], "properties": {"defaults": {"anyOf": [{"required": [k]} for k in DEFAULT_KEYS]}}}
    schema["allOf"].append(
        {
            "if": given,
            "then": {"properties": {"tables": {"items": {"allOf": _of_each_type(alone=False)}}}},
            "else": {"properties": {"tables": {"items": {"allOf": _of_each_type(alone=True)}}}},
        }
    )


def _freshness_is_whole(schema: dict[str, Any]) -> None:
    """Add to the JSON Schema that only a default may leave a table's freshness without fail_after."""
    whole = {"properties": {"freshness": {"if": {"type": "object"}, "then": {"required": ["fail_after"]}}}}
    default = {"type": "object", "required": ["freshness"], "properties": {"freshness": {"type": "object"}}}
    schema["allOf"] = [
        {"properties": {"defaults": whole}},
        {
            "if": {"required": ["defaults"], "properties": {"defaults": default}},
            "else": {"properties": {"tables": {"items": whole}}},
        },
    ]


class Advisor(_Model):
    """What ``aurora-sync assess`` may propose, and when it is asked in Dagster."""

    replication: bool = Field(True, description="Whether a replication slot may be used.")
    ddl: bool = Field(True, description="Whether tables may be given triggers.")
    deletes_at_once: bool = Field(False, description="Whether deletes must come with the next run, not by reconcile.")
    freshness: Duration = Field("1h", description="How often a table that changes is synced.")
    max_read_per_day: Size | None = Field(
        None, description="What the sync of one table may read at the source in a day, such as 50GB."
    )

    schedule: Cron = Field("0 6 * * *", description="When the asset in Dagster assesses the tables (cron, UTC).")
    prove: bool = Field(
        False, description="Whether that asset scans tables that go by a timestamp, for rows whose timestamp lies."
    )

    @property
    def most_read_per_day(self) -> int | None:
        """In bytes."""
        return None if self.max_read_per_day is None else size(self.max_read_per_day)


class TablesFile(_Model):
    """tables.yaml: the tables to sync, and what they have in common."""

    model_config = ConfigDict(json_schema_extra=_whole_file)

    schema_ref: str | None = Field(
        None, alias="$schema", description="The JSON Schema of this file, for editors; not read here."
    )
    defaults: Defaults | None = Field(
        None,
        description="For all tables. A mapping in a table's entry is merged into its default key by key, "
        "anything else replaces it. Defaults that do not belong to a table's watermark_type do not hold for it.",
    )
    advisor: Advisor = Field(default_factory=Advisor, description="What `aurora-sync assess` may propose.")
    tables: list[TableConfig] = Field(min_length=1, description="One entry for each table, or for a glob.")
