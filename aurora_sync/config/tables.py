"""The models of tables.yaml. What a key means to a user is its description here; the JSON Schema is made
from these models and nowhere else."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class WatermarkType(str, Enum):
    timestamp = "timestamp"
    integer = "integer"
    xmin = "xmin"
    composite = "composite"
    full_snapshot = "full_snapshot"


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Names = Annotated[list[str], BeforeValidator(_one_or_many)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class ColumnChoice(_Model):
    include: Names | None = Field(None, description="Only these columns (globs allowed).")
    exclude: Names = Field(default_factory=list, description="All but these columns (globs allowed).")


class DeleteGuard(_Model):
    """A full read never removes more than this from the target; zero rows never empty it."""

    max_rows: int = Field(1000, ge=0, description="Deletes up to this number are always allowed.")
    max_share: float = Field(0.05, ge=0, le=1, description="Above max_rows: share of the target's rows.")


class Freshness(_Model):
    fail_after: str = Field(description="Age of the last success that fails, such as '2h', '1d'.")
    warn_after: str | None = Field(None, description="Age of the last success that warns.")


class Check(_Model):
    severity: Literal["error", "warn"] = "error"
    blocking: bool = Field(False, description="A failure stops what is downstream.")
    every: int = Field(1, ge=1, description="Evaluate at every k-th applied run.")
    enabled: bool = True


class RowCountCheck(Check):
    tolerance: float = Field(
        0.0, ge=0, le=1, description="Allowed difference as a share of the source's rows."
    )


class Checks(_Model):
    row_count: RowCountCheck = Field(default_factory=RowCountCheck)
    watermark: Check = Field(default_factory=Check)
    merge_key: Check = Field(default_factory=Check)


class TableOptions(_Model):
    """Everything that can also stand under ``defaults:``."""

    schema_: str = Field("public", alias="schema", description="Schema of the source table.")
    target_schema: str | None = Field(None, description="Schema in the warehouse; default: the source's.")
    deletes: Literal["hard", "soft"] = Field(
        "hard", description="soft keeps deleted rows in the target and marks them in _DELETED."
    )
    delete_guard: DeleteGuard = Field(default_factory=DeleteGuard)
    schedule: str | None = Field(None, description="Cron expression of five fields, in UTC.")
    freshness: Freshness | None = None
    group: str | None = Field(None, description="Dagster asset group; default: the schema.")
    owners: list[str] = Field(default_factory=list, description="E-mail addresses or team:name.")
    tags: dict[str, str] = Field(default_factory=dict)
    checks: Checks = Field(default_factory=Checks)
    max_snapshot_minutes: int = Field(
        120, ge=1, description="A read that holds its snapshot on the source longer than this is stopped."
    )


class TableConfig(TableOptions):
    """One table of the source, after defaults are merged in and globs are expanded."""

    table_name: str = Field(description="Name or glob, optionally schema.name.")
    watermark_type: WatermarkType = WatermarkType.timestamp
    watermark_col: str | None = None
    watermark_cols: list[str] | None = None
    watermark_set_by: Literal["database", "application"] | None = Field(
        None, description="Who writes the watermark column; default: judged from the catalogue."
    )
    lookback: int | None = Field(None, ge=1)
    primary_key: Names | None = Field(None, description="Merge key; default: the source's primary key.")
    append_only: bool = Field(False, description="Rows are only ever inserted; allows xmin without a key.")
    target_table: str | None = None
    columns: ColumnChoice = Field(default_factory=ColumnChoice)
    column_types: dict[str, Literal["natural", "text"]] = Field(default_factory=dict)

    @property
    def qualified_name(self) -> str:
        """``schema.table`` of the source: the name of the table everywhere in this project."""
        return f"{self.schema_}.{self.table_name}"
