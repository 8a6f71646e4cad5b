"""Render an overview as one HTML page, which loads nothing from another place."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import datetime
from html import escape

from aurora_sync.engine.overview import Overview, Standing, TableState
from aurora_sync.engine.report import ago
from aurora_sync.model.foreign_text import printable, printable_lines
from aurora_sync.warehouse.recent_runs import Run

# A group of more tables is folded, unless its tables need attention.
_OPEN = 100
ATTENTION = (Standing.FAILING, Standing.DIFFERENT, Standing.UNCERTIFIED, Standing.NEVER_SYNCED)
_MEANING = {
    Standing.FAILING: "The last run failed. The target has what was committed before the failure.",
    Standing.DIFFERENT: "The last verification found differences. aurora-sync verify shows them and the repair.",
    Standing.UNCERTIFIED: "The runs rely on something that they cannot check. The guarantee says how to certify it.",
    Standing.NEVER_SYNCED: "No run has written these targets yet. aurora-sync sync does.",
    Standing.LOADING: "A load in chunks is not finished. The next run goes on with it.",
    Standing.BOUNDED: "Certified, except for a lag that the certificate names.",
    Standing.CERTIFIED: "Every change that the strategy can see, up to the given time, is in the target.",
}

_STYLE = """
:root{color-scheme:light dark;--fg:#1c2230;--dim:#667085;--bg:#f6f7f9;--card:#fff;--line:#e3e6ec;
--failing:#d92d20;--different:#c11574;--uncertified:#dc6803;--never:#98a2b3;--loading:#7a5af8;--bounded:#2e90fa;
--certified:#12a150}
@media(prefers-color-scheme:dark){:root{--fg:#e6e8ee;--dim:#98a2b3;--bg:#0f1218;--card:#181c25;--line:#2b313d;
--failing:#f97066;--different:#f670c7;--uncertified:#fdb022;--never:#667085;--loading:#a48afb;--bounded:#53b1fd;
--certified:#47cd89}}
*{box-sizing:border-box}
body{font:14px/1.45 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;margin:0 auto;padding:2rem 1.5rem;
max-width:88rem;color:var(--fg);background:var(--bg)}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .3rem}
p{margin:0}.dim,small{color:var(--dim)}small{font-size:.86em}
.bar{display:flex;gap:2px;height:10px;margin:1.2rem 0 .8rem;border-radius:5px;overflow:hidden}
.bar i{background:var(--c);min-width:4px}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem 2rem;margin:0 0 .4rem;padding:0;list-style:none}
.tiles b{font-size:1.25rem;font-variant-numeric:tabular-nums;margin-right:.2rem}.dot::before{content:"";
display:inline-block;width:.65em;height:.65em;border-radius:50%;background:var(--c);margin-right:.45em}
details{background:var(--card);border:1px solid var(--line);border-radius:10px;margin:1.1rem 0;overflow:hidden}
summary{cursor:pointer;padding:.7rem 1rem;border-left:4px solid var(--c)}summary b{font-size:1.05rem;margin-right:.5em}
table{border-collapse:collapse;width:100%;table-layout:fixed}
th{text-align:left;font-weight:600;color:var(--dim);font-size:.8rem}
th,td{padding:.55rem 1rem;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:anywhere}
td>b{font-weight:600}.n{text-align:right;font-variant-numeric:tabular-nums}
small{display:block}.n small{white-space:nowrap}.s{width:31%}.a{width:12%}.r{width:14%}.v{width:13%}
pre{font:12px/1.45 ui-monospace,SFMono-Regular,Menlo,monospace;white-space:pre-wrap;overflow-wrap:anywhere;
margin:.2rem 0 .5rem;padding:.4rem .6rem;border-left:3px solid var(--c);background:var(--bg)}
svg{display:block;height:24px;width:100%;max-width:120px;margin:.25rem 0 0 auto;stroke:var(--c);stroke-width:3}
footer{margin:1.6rem 0 0;color:var(--dim);max-width:60rem}
@media(max-width:50rem){body{padding:1.1rem .8rem}h1{font-size:1.3rem}.tiles{gap:.3rem 1.2rem}
table,tbody,tr,td{display:block}thead{display:none}tr{border-top:1px solid var(--line);padding:.6rem 1rem}
td,td.n{border:0;padding:.12rem 0;text-align:left;width:auto}small{display:inline}td>small::before{content:" · "}
td[data-of]::before{content:attr(data-of) ": ";color:var(--dim)}svg{margin:.25rem 0 0}summary small{display:block}}
"""


def as_html(shown: Overview) -> str:
    """Return the page."""
    title = headline(shown)
    when = f"{shown.taken_at:%d %B %Y, %H:%M} UTC"
    rows = sum(state.entry.target_rows for state in shown.tables if state.entry)
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_text(shown.source)}: {title}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{title}</h1>",
        f'<p class="dim">{_text(shown.source)} to {_text(shown.warehouse)} · {when} · {rows:,} rows in the targets</p>',
        *_counts(shown),
        *(part for standing, states in shown.by_standing.items() for part in _group(standing, states, shown.taken_at)),
        *_legend(shown),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def headline(shown: Overview) -> str:
    """Return how many tables need attention."""
    total = "1 table" if len(shown.tables) == 1 else f"{len(shown.tables):,} tables"
    count = sum(len(shown.by_standing[standing]) for standing in ATTENTION)
    if not shown.tables:
        return "No tables are configured"
    if not count:
        return f"OK: {total}, none needs attention"
    return f"{count:,} of {total} need{'s' if count == 1 else ''} attention"


def _counts(shown: Overview) -> Iterator[str]:
    """Yield a bar with the share of each standing, and the numbers."""
    counts = {standing: len(states) for standing, states in shown.by_standing.items()}
    yield '<div class="bar" aria-hidden="true">'
    yield "".join(f'<i style="flex:{count};{_colour(each)}"></i>' for each, count in counts.items() if count)
    yield '</div><ul class="tiles">'
    always = {Standing.CERTIFIED, *([Standing.FAILING] if shown.noted else [])}
    for each, count in counts.items():
        if count or each in always:
            yield f'<li class="dot" style="{_colour(each)}"><b>{count:,}</b> {each.value}</li>'
    yield "</ul>"


def _group(standing: Standing, states: Sequence[TableState], now: datetime) -> Iterator[str]:
    if not states:
        return
    unfolded = " open" if standing in ATTENTION or len(states) <= _OPEN else ""
    title = standing.value.capitalize()
    yield f'<details{unfolded} style="{_colour(standing)}"><summary><b>{title} {len(states):,}</b> '
    yield f'<small style="display:inline">{_MEANING[standing]}</small></summary><table><thead><tr><th>table</th>'
    yield '<th class="s">guarantee</th><th class="a">up to date (UTC)</th><th class="r">last run</th>'
    yield '<th class="v">compared</th><th class="a n">rows, trend</th></tr></thead><tbody>'
    for state in states:
        yield f"<tr>{''.join(_cells(state, now))}</tr>"
    yield "</tbody></table></details>"


def _cells(state: TableState, now: datetime) -> Iterator[str]:
    table, entry = state.table, state.entry
    target = f"<small>{table.watermark_type.value}</small><small>{_text('.'.join(table.written_target))}</small>"
    yield f"<td><b>{_text(table.qualified_name)}</b>{target}</td>"
    yield f"<td>{''.join(_troubles(state, now))}{_text(state.sentence)}</td>"
    if entry is None:
        yield "<td></td><td></td><td></td><td></td>"
        return
    verdict = state.noted.verdict
    equal_at = verdict.as_of if verdict and not verdict.differences else None
    seen = max(moment for moment in (state.snapshot_at, state.noted.checked_at, equal_at) if moment)
    yield f'<td data-of="up to date">{_moment(seen, now)}</td>'
    changes = f"+{entry.inserted:,} ~{entry.updated:,} −{entry.deleted:,}"
    took = max((entry.applied_at - state.snapshot_at).total_seconds(), 0) if state.snapshot_at and not state.load else 0
    seconds = f" in {took:,.1f} s" if took else ""
    run = f"run {entry.run_sequence:,}, {ago((now - entry.applied_at).total_seconds())}"
    yield f'<td data-of="last run">{run}<small>{changes}{seconds}</small></td>'
    yield f'<td data-of="compared">{_compared(state, now)}</td>'
    yield f'<td class="n" data-of="rows">{entry.target_rows:,}{_trend(state.runs)}</td>'


def _troubles(state: TableState, now: datetime) -> Iterator[str]:
    """Yield what went wrong, before the guarantee."""
    if failed := state.noted.failed:
        run = f", {_text(failed.run)}" if failed.run else ""
        yield f"<span>Failed {ago((now - failed.at).total_seconds())}{run}</span>"
        yield f"<pre>{escape(printable_lines(failed.error))}</pre>"
    if (verdict := state.noted.verdict) and verdict.differences:
        yield f"<span>Different as of {verdict.as_of:%Y-%m-%d %H:%M} UTC</span><pre>{_text(verdict.differences)}</pre>"


def _compared(state: TableState, now: datetime) -> str:
    """Return when the whole target was last compared with its source."""
    found = []
    if verdict := state.noted.verdict:
        result = "different" if verdict.differences else "equal"
        found.append(f"{result} {ago((now - verdict.as_of).total_seconds())}")
    if state.reconciled_at:
        found.append(f"reconciled {ago((now - state.reconciled_at).total_seconds())}")
    first, *more = found or ["never"]
    return first + "".join(f"<small>{each}</small>" for each in more)


def _moment(moment: datetime, now: datetime) -> str:
    return f"{ago(max((now - moment).total_seconds(), 0))}<small>{moment:%Y-%m-%d %H:%M}</small>"


def _trend(runs: Sequence[Run]) -> str:
    """Return a bar for each run: the rows that it changed, on a logarithmic scale, because a first load has many."""
    if len(runs) < 2:
        return ""
    most = max(run.changed for run in runs)
    scale = 22 / math.log1p(most) if most else 0
    heights = [1 + round(scale * math.log1p(run.changed)) for run in runs]
    bars = "".join(f"v-{height}m4 {height}" for height in heights)
    first, last = runs[0], runs[-1]
    title = f"rows changed in runs {first.run_sequence:,} to {last.run_sequence:,}, at most {most:,}"
    return (
        f'<svg viewBox="0 0 120 24" role="img"><title>{title}</title><path d="M{120 - 4 * len(runs)} 24{bars}"/></svg>'
    )


def _legend(shown: Overview) -> Iterator[str]:
    yield (
        "<footer><p><b>up to date</b>: the time of the snapshot that the target has"
        f"{', or of a later verification or look at the source that found no change' if shown.noted else ''}."
        " <b>last run</b>: the last run that changed the target: rows inserted, updated and deleted, and the time from"
        " its snapshot to its commit. <b>compared</b>: the last verification, and the last reconcile or full read."
        " <b>trend</b>: rows that each of the last runs changed, on a logarithmic scale.</p>"
    )
    if not shown.noted:
        yield (
            "<p>Without Dagster, failed runs and verifications are not recorded. The report of Dagster's report job"
            " shows them.</p>"
        )
    yield "</footer>"


def _colour(standing: Standing) -> str:
    return f"--c:var(--{standing.value.partition(' ')[0]})"


def _text(text: str) -> str:
    return escape(printable(text))
