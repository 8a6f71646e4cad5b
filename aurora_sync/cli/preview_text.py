"""The text of ``aurora-sync plan`` for one table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from aurora_sync.cli.printing import Alert
from aurora_sync.engine.estimate import FirstLoad
from aurora_sync.engine.preview import Preview, ReconcileEstimate
from aurora_sync.model.certificate import Level


def preview_lines(each: Preview) -> Iterator[str]:
    """Yield the lines of one preview."""
    found = each.certificate.findings
    rows = "only changed rows," if each.rows_estimate is None else f"about {each.rows_estimate:,}"
    yield f"{each.table} -> {each.target}"
    yield f"  strategy     {each.strategy}, {each.method}, {each.disposition} after run {each.run_sequence}"
    yield f"  rows         {rows} of {each.rows_in_table:,} ({each.size_bytes / 1e6:,.1f} MB heap)"
    yield f"  sql          {each.statement}"
    if each.export != "client":
        yield f"  export       {each.export}"
    certificate = f"  certificate  {each.certificate.level.value}: {each.certificate.text}"
    yield Alert(certificate) if each.certificate.level is Level.UNCERTIFIED else certificate
    yield f"  reconcile    {_reconcile_text(each.reconcile)}"
    if each.first_load:
        yield f"  first load   {_first_load_text(each.first_load)}"
    yield from (f"  found        {finding.event} ({finding.action.value}): {finding.text}" for finding in found)
    texts = {finding.text for finding in found}
    yield from (Alert(f"  warning      {warning}") for warning in each.warnings if warning not in texts)


def _first_load_text(each: FirstLoad) -> str:
    ratio = each.csv_bytes / max(1, each.staged_bytes)
    form = f"zstd, {ratio:.1f} to 1" if each.compressed else "not compressed; estimated"
    text = (
        f"about {each.rows:,} rows, {each.csv_bytes / 1e6:,.1f} MB of CSV; {each.staged_bytes / 1e6:,.1f} MB in S3, in"
        f" {_number(each.files, 'file')} ({form} in the first {each.sampled_rows:,} rows)"
    )
    if each.seconds >= 1:
        text += f"; about {timedelta(seconds=round(each.seconds))} to read at the speed of the first rows"
    if each.chunks:
        text += f"; in {_number(each.chunks, 'chunk')}, with {each.staged_bytes / each.chunks / 1e6:,.1f} MB in S3 each"
    if each.sent is None:
        return text
    statements, on_warehouse = (
        f"{least:,} to {most:,}" for least, most in (each.sent.statements, each.sent.on_warehouse)
    )
    return (
        f"{text}; {statements} statements, of which {on_warehouse} need a virtual warehouse, among them"
        f" {each.sent.copies:,} COPY"
    )


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def _reconcile_text(each: ReconcileEstimate) -> str:
    when = []
    if each.in_this_run:
        when.append("in this run")
    elif each.runs_before is not None:
        when.append("in the next run" if each.runs_before <= 1 else f"in {each.runs_before:,} runs")
    if each.schedule is not None:
        when.append(f"at {each.schedule} UTC")
    last = f"last as of {each.last_as_of:%Y-%m-%d %H:%M:%S} UTC" if each.last_as_of else "never before"
    heap = f"{each.source_bytes / 1e6:,.1f} MB of heap"
    if each.buckets:
        buckets = "1 bucket" if each.buckets == 1 else f"{each.buckets:,} buckets"
        cost = f"it scans {heap} and {each.target_rows:,} rows of the target, in {buckets}"
    else:
        cost = f"the table has no key, so it reads all {heap}"
    return f"{' and '.join(when) or 'on demand only'} ({last}); {cost}"
