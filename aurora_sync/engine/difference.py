"""Source and target compared bucket by bucket, as of one snapshot: by the versions of their rows, or by content."""

from __future__ import annotations

from aurora_sync.engine.plan import Plan
from aurora_sync.model import buckets
from aurora_sync.model.buckets import Difference
from aurora_sync.source.reading import Reading
from aurora_sync.warehouse import sums
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import Layout


def comparable(layout: Layout) -> dict[str, str]:
    """The columns whose values both sides print alike, with the form in which they do."""
    return {column.source.name: column.rule.form for column in layout.columns if column.rule.form}


def by_version(session: Session, layout: Layout, reading: Reading, plan: Plan) -> Difference:
    """By key and xmin: cheap, and blind to what was edited in the target."""
    return buckets.compare(
        lambda among, width: reading.version_sums(plan.key, among, width),
        lambda among, width: sums.read(session, sums.version_sums(layout, among, width)),
        _width(reading, plan),
    )


def by_content(session: Session, layout: Layout, reading: Reading, plan: Plan, *, merged: bool = True) -> Difference:
    """By the columns that are comparable, with the target as the merge of what is staged will leave it, or as it is."""
    forms = comparable(layout)
    return buckets.compare(
        lambda among, width: reading.content_sums(plan.key, forms, among, width),
        lambda among, width: sums.read(session, sums.content_sums(layout, among, width, merged=merged)),
        _width(reading, plan),
    )


def _width(reading: Reading, plan: Plan) -> int:
    return buckets.first_width(reading.table.row_estimate, reading.key_span(plan.key))
