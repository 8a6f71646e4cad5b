"""Comparison of source and target bucket by bucket, as of one snapshot: by row versions or by content."""

from __future__ import annotations

from aurora_sync.engine.plan import Plan
from aurora_sync.model import buckets
from aurora_sync.model.buckets import Difference
from aurora_sync.source.reading import Reading
from aurora_sync.source.sums import Content
from aurora_sync.warehouse import sums
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import Layout, TargetColumn
from aurora_sync.warehouse.types import length_of


def comparable(layout: Layout) -> dict[str, str]:
    """Return the columns whose values both sides can print alike, with the form in which they do."""
    return {column.source.name: column.rule.form for column in layout.columns if column.rule.form}


def by_version(session: Session, layout: Layout, reading: Reading, plan: Plan) -> Difference:
    """Compare by key and xmin. Cheap, but does not see rows that were edited in the target."""
    return buckets.compare(
        lambda among, width: reading.version_sums(plan.key, among, width),
        lambda among, width: sums.read(session, sums.version_sums(layout, among, width)),
        _width(reading, plan),
    )


def by_content(session: Session, layout: Layout, reading: Reading, plan: Plan, *, merged: bool = True) -> Difference:
    """Compare by the content of the comparable columns. ``merged``: the target as it will be after the merge, else as
    it is."""
    contents = [_content(column) for column in layout.columns if column.rule.form]
    return buckets.compare(
        lambda among, width: reading.content_sums(plan.key, contents, among, width),
        lambda among, width: sums.read(session, sums.content_sums(layout, among, width, merged=merged)),
        _width(reading, plan),
    )


def _content(column: TargetColumn) -> Content:
    """Return the column as the source must sum it. Only texts have a form and values that do not fit."""
    changes = column.rule.misfit and column.rule.policy in ("null", "clamp")
    return Content(column.source, column.rule.form, length_of(column.rule.target) if changes else None)


def _width(reading: Reading, plan: Plan) -> int:
    return buckets.first_width(reading.table.row_estimate, reading.key_span(plan.key))
