"""Receipts like those of sync.run, for tests of their metadata and checks in Dagster."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Any

from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.watermark import Snapshot, Token, Watermark
from aurora_sync_tests.certificates import CERTIFIED


def watermark(xmin: int, xmax: int | None = None) -> Watermark:
    return Watermark(
        strategy="xmin",
        value={},
        snapshot=Snapshot(xmin, xmax or xmin, datetime(2026, 1, 1, tzinfo=UTC)),
        token=Token("7", 1, 18, 5, "2026-01-01T00:00:00+00:00", False, 1, {}),
    )


def receipt(**changes: Any) -> Receipt:
    """Return the receipt of a successful third run of a table, in which 2 of 12 rows changed."""
    usual = Receipt(
        table="public.customers",
        target="PUBLIC.CUSTOMERS",
        strategy="xmin",
        method="horizon scan",
        load_id="20260101-000000",
        disposition=Disposition.UPSERT,
        run_sequence=3,
        changed=True,
        rows_exported=2,
        bytes_staged=100,
        inserted=1,
        updated=1,
        deleted=0,
        source_rows=12,
        target_rows=12,
        watermark_before=watermark(100),
        watermark_after=watermark(110),
        manifest_uri="s3://bucket/prefix/public.customers/20260101-000000/manifest.json",
        columns=(Column("id", 1, "integer", "int4", not_null=True), Column("name", 2, "text", "text")),
        key=("id",),
        sees_deletes=False,
        watermark_lag_seconds=0.5,
        certificate=CERTIFIED,
        seconds={"plan": 0.1, "export": 0.2, "load": 0.3, "merge": 0.4, "total": 1.0},
    )
    return dataclasses.replace(usual, **changes)
