"""The text of ``aurora-sync plan`` for one table."""

from __future__ import annotations

from aurora_sync.engine.preview import Preview, ReconcileEstimate
from aurora_sync.model.foreign_text import printable


def preview_text(each: Preview) -> str:
    """Return the text of one preview, with control characters escaped."""
    found = each.certificate.findings
    rows = "those that changed," if each.rows_estimate is None else f"about {each.rows_estimate:,}"
    lines = [
        f"{each.table} -> {each.target}",
        f"  strategy     {each.strategy}, {each.method}, {each.disposition} after run {each.run_sequence}",
        f"  rows         {rows} of {each.rows_in_table:,} ({each.size_bytes / 1e6:,.1f} MB heap)",
        f"  sql          {each.statement}",
        f"  certificate  {each.certificate.level.value}: {each.certificate.text}",
        f"  reconcile    {_reconcile_text(each.reconcile)}",
    ]
    lines += [f"  found        {finding.event} ({finding.action.value}): {finding.text}" for finding in found]
    texts = {finding.text for finding in found}
    lines += [f"  warning      {warning}" for warning in each.warnings if warning not in texts]
    return "\n".join(map(printable, lines))


def _reconcile_text(each: ReconcileEstimate) -> str:
    when = []
    if each.in_this_run:
        when.append("in this run")
    elif each.runs_before is not None:
        when.append("in the next run" if each.runs_before <= 1 else f"in {each.runs_before:,} runs")
    if each.schedule is not None:
        when.append(f"at {each.schedule} UTC")
    last = f"last as of {each.last_as_of:%Y-%m-%d %H:%M:%S} UTC" if each.last_as_of else "never so far"
    heap = f"{each.source_bytes / 1e6:,.1f} MB of heap"
    if each.buckets:
        cost = f"it scans {heap} and {each.target_rows:,} rows of the target, in {each.buckets:,} buckets"
    else:
        cost = f"for want of a key it reads all {heap}"
    return f"{' and '.join(when) or 'on demand only'} ({last}); {cost}"
