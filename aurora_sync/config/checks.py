"""The models of ``checks:`` of a table: the checks that run in the step that syncs it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from aurora_sync.config.field_types import BIGINT, StrictModel


class Check(StrictModel):
    severity: Literal["error", "warn"] = Field("error", description="Severity of a failure of the check.")
    blocking: bool = Field(False, description="Whether a failure stops the downstream assets.")
    every: int = Field(1, ge=1, le=BIGINT, description="Evaluate the check at every k-th applied run.")
    enabled: bool = Field(True, description="Whether the check exists.")


class RowCountCheck(Check):
    tolerance: float = Field(0.0, ge=0, le=1, description="Allowed difference as a share of the source's rows.")


class SlotCheck(Check):
    max_retained_gb: float = Field(
        10.0, gt=0, description="Limit for the WAL that the server keeps for the slot, in GB."
    )


class Checks(StrictModel):
    """The checks that run in the same step as the sync."""

    row_count: RowCountCheck = Field(
        default_factory=RowCountCheck, description="Source and target have the same number of rows, in one snapshot."
    )
    watermark: Check = Field(
        default_factory=Check,
        description="The watermark never moves backwards, and it moves forward when an increment applied rows.",
    )
    merge_key: Check = Field(default_factory=Check, description="The merge key is unique and not null in the target.")
    certificate: Check = Field(
        default_factory=Check,
        description="The guarantee of the run is proved, or bounded by a lag that the certificate names.",
    )
    schema_: Check = Field(
        default_factory=Check, alias="schema", description="Warns when a run applied a change of columns."
    )
    adjusted: Check = Field(
        default_factory=Check,
        description="Warns when a run changed values that the target's types cannot hold, by the policies null and "
        "clamp of types and column_types; exists only with such a policy.",
    )
    slot: SlotCheck = Field(
        default_factory=SlotCheck,
        description="logical: the server still has all WAL that the slot needs, and does not keep too much.",
    )
