"""Render the assessment as one self-contained HTML page, for the owner of the database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from html import escape

from aurora_sync.advisor.cost import human_bytes
from aurora_sync.advisor.evidence import Evidence
from aurora_sync.advisor.prove import Proof
from aurora_sync.advisor.recommend import Option, Recommendation
from aurora_sync.advisor.rules import ALL

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --dim: #777; --good: #1a7f4b; --bad: #b3261e; --soft: #8881; }
@media (prefers-color-scheme: dark) { :root { --dim: #999; --good: #5cc992; --bad: #ff8a80; } }
* { box-sizing: border-box; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1.5rem; max-width: 80rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
p { margin: .25rem 0; } .dim, small { color: var(--dim); } .good { color: var(--good); } .bad { color: var(--bad); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; margin: 1rem 0; } dd { margin: 0; }
dt { color: var(--dim); }
table { border-collapse: collapse; width: 100%; }
th { text-align: left; font-weight: 600; color: var(--dim); font-size: .85rem; }
th, td { padding: .4rem .6rem; border-top: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.s { text-align: center; white-space: nowrap; font-variant-numeric: tabular-nums; } .chosen { font-weight: 700; }
.name { overflow-wrap: anywhere; } .tag { border: 1px solid currentColor; border-radius: 1em; padding: 0 .6em; }
details { border-top: 1px solid var(--line); padding: .5rem 0; } summary { cursor: pointer; overflow-wrap: anywhere; }
details ol, details ul { margin: .3rem 0; padding-left: 1.4rem; } pre { background: var(--soft); padding: .6rem;
overflow-x: auto; } li { margin: .3rem 0; }
@media (max-width: 48rem) {
 body { padding: 1rem; } .wide { display: none; } table, tbody, tr, td { display: block; } thead { display: none; }
 tr { border-top: 1px solid var(--line); padding: .5rem 0; } td, td.n, td.s { border: 0; padding: .05rem 0;
 text-align: left; } td[data-of]::before { content: attr(data-of) " "; color: var(--dim); }
}
"""


def as_html(
    recommendations: Sequence[Recommendation],
    evidence: Evidence,
    notes: Mapping[str, Sequence[str]],
    proofs: Mapping[str, Sequence[Proof]],
) -> str:
    """Return the page. The keys of ``notes`` and ``proofs`` are qualified table names."""
    title = f"Assessment of {evidence.database}"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="dim">aurora_sync, {evidence.taken_at:%Y-%m-%d %H:%M} UTC. Based on catalogue and statistics;'
        f" {'tables were scanned to check timestamps' if proofs else 'no table was read'}.</p>",
        *_facts(recommendations, evidence),
        "<h2>Strategies for each table</h2>",
        '<p class="dim">The strategy in bold is the best one that needs no preparation. Points rank the strategies;'
        " * marks a strategy that needs preparation, – a strategy that is refused. The reasons are below.</p>",
        *_matrix(recommendations, evidence),
        "<h2>Why</h2>",
        *(part for each in recommendations for part in _reasons(each, notes, proofs)),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _facts(recommendations: Sequence[Recommendation], evidence: Evidence) -> Iterator[str]:
    chosen = Counter(each.now.name if each.now else "none" for each in recommendations)
    size = sum(each.table.heap + each.table.toast for each in recommendations)
    facts = {
        "server": f"PostgreSQL {evidence.server.major}, wal_level {evidence.server.wal_level}"
        + (", a reader" if evidence.server.in_recovery else ""),
        "tables": f"{len(recommendations):,}, {human_bytes(size)}",
        "strategies": ", ".join(f"{name} {count:,}" for name, count in chosen.most_common()),
        **evidence.facts,
    }
    yield "<dl>"
    for name, text in facts.items():
        yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"


def _matrix(recommendations: Sequence[Recommendation], evidence: Evidence) -> Iterator[str]:
    yield '<table><thead><tr><th>table</th><th class="n">size</th><th class="n">rows</th>'
    yield '<th class="n">inserts</th><th class="n">updates</th><th class="n">deletes</th>'
    yield "".join(f"<th>{escape(name)}</th>" for name in ALL) + "</tr></thead><tbody>"
    unit = "a day" if evidence.days else ""
    for each in recommendations:
        table, options = each.table, {option.name: option for option in each.options}
        yield f'<tr><td class="name"><b>{escape(each.name)}</b></td>'
        yield f'<td class="n" data-of="size">{human_bytes(table.heap + table.toast)}</td>'
        yield f'<td class="n" data-of="rows">{table.rows:,}</td>'
        for what, rate in zip(("inserts", "updates", "deletes"), evidence.rates(table.activity), strict=True):
            yield f'<td class="n" data-of="{what} {unit}">{rate:,.0f}</td>'
        for name in ALL:
            yield _cell(options.get(name), name, each.now)
        yield "</tr>"
    yield "</tbody></table>"


def _cell(option: Option | None, name: str, now: Option | None) -> str:
    if option is None or option.refused:
        return '<td class="s wide dim">–</td>'
    shown = f"{option.points}{'*' if option.needs else ''}"
    kind = "s chosen good" if option is now else "s wide"
    return f'<td class="{kind}" data-of="{escape(name)}" title="{escape(option.why)}">{shown}</td>'


def _reasons(
    each: Recommendation, notes: Mapping[str, Sequence[str]], proofs: Mapping[str, Sequence[Proof]]
) -> Iterator[str]:
    now, best = each.now, each.best
    chosen = f'<span class="tag good">{escape(now.name)}</span>' if now else '<span class="tag bad">not synced</span>'
    better = f" <small>better: {escape(best.name)}</small>" if best and best is not now else ""
    yield f"<details><summary><b>{escape(each.name)}</b> {chosen}{better}</summary>"
    for proof in proofs.get(each.name, ()):
        yield f'<p class="{"bad" if proof.lies else "good"}">{escape(proof.text)}</p>'
        if proof.examples:
            yield "<ul>"
            for late in proof.examples:
                shown = f"shows {escape(late.says)}, was written after {escape(late.others)}"
                yield f"<li>{escape(late.place)}: {shown}</li>"
            yield "</ul>"
    yield "<ol>"
    for option in each.options:
        yield f"<li><b>{escape(option.name)}</b> {_verdict(option)}<br>{escape(option.why)}."
        if option.needs and not option.refused:
            yield f"<br>Needs: {escape('; '.join(option.needs))}."
        yield f"<br><small>{escape(option.sees)}; {escape(option.cost.text)}</small></li>"
    yield "</ol>"
    if found := notes.get(each.name):
        yield "<ul>" + "".join(f"<li>{escape(note)}</li>" for note in found) + "</ul>"
    yield "</details>"


def _verdict(option: Option) -> str:
    return '<span class="bad">refused</span>' if option.refused else f'<span class="dim">{option.points} points</span>'
