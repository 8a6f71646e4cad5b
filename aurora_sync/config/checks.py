"""The models of ``checks:`` of a table: the checks that run in the step that syncs it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aurora_sync.config.field_types import BIGINT, StrictModel


class Check(StrictModel):
    severity: Literal["error", "warn"] = Field("error", description="What a failure of the check means.")
    blocking: bool = Field(False, description="A failure stops what is downstream.")
    every: int = Field(1, ge=1, le=BIGINT, description="Evaluate at every k-th applied run.")
    enabled: bool = Field(True, description="false leaves the check out.")


class RowCountCheck(Check):
    tolerance: float = Field(0.0, ge=0, le=1, description="Allowed difference as a share of the source's rows.")


class SlotCheck(Check):
    max_retained_gb: float = Field(10.0, gt=0, description="WAL that may be kept for the slot, in GB.")


class Checks(StrictModel):
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
