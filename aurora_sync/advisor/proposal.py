"""Write the tables.yaml that an assessment proposes, or list how an existing one differs from the assessment."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import yaml

from aurora_sync.advisor.cost import human_bytes
from aurora_sync.advisor.evidence import Evidence, TableEvidence
from aurora_sync.advisor.profiles import option_name
from aurora_sync.advisor.recommend import Option, Recommendation, contradictions
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.tables import TableConfig

_WIDTH = 110


def as_yaml(recommendations: Sequence[Recommendation], evidence: Evidence, limits: Advisor) -> str:
    """Return a tables.yaml with the best strategy for each table that needs no preparation.

    Comments name better strategies with what they need, and tables that cannot be synced without preparation.
    """
    schema = Counter(r.table.table.schema for r in recommendations).most_common(1)[0][0] if recommendations else ""
    lines = [
        f"# Proposed by `aurora-sync assess` for {evidence.database} on {evidence.taken_at:%Y-%m-%d}.",
        "# Each table has the best strategy that needs no preparation. `better:` names a better one and its needs.",
    ]
    own = limits.model_dump(mode="json", exclude_defaults=True)
    lines += ["", f"advisor: {_flow(own)}"] if own else []
    lines += ["", "defaults:", f"  schema: {_flow(_pattern(schema))}", "", "tables:"]
    taken: dict[tuple[str, str], str] = {}
    for each in recommendations:
        lines += ["", *_entry(each, evidence, schema, taken)]
    return "\n".join(lines) + "\n"


def differences(
    configured: Sequence[TableConfig],
    recommendations: Sequence[Recommendation],
    evidence: Evidence,
    limits: Advisor,
    existing: Collection[tuple[str, str]],
) -> Iterator[str]:
    """Yield the lines that show how a tables.yaml differs from the assessment.

    Differences are tables without an entry that can be synced (the entry follows), strategies that no longer fit, and
    entries of tables that no longer exist. A strategy that fits but is not the best is no difference. Tables in
    ``existing`` that were not assessed are left out.
    """
    known = {config.qualified_name: config for config in configured}
    found = {each.name: each for each in recommendations}
    for name, config in known.items():
        if name not in found:
            if (config.schema_, config.table_name) not in existing:
                yield f"- {name}: the table no longer exists"
        elif texts := contradictions(config, found[name], evidence, limits):
            now = found[name].now
            instead = f"; {now.name} fits" if now and now.name != option_name(config) else ""
            yield f"~ {name}: {option_name(config)} no longer fits: {'; '.join(texts)}{instead}"
    taken = {config.target: name for name, config in known.items()}
    for name, each in found.items():
        if name not in known and each.now and each.now.config.target not in taken:
            yield f"+ {name}: no entry configures the table"
            yield from _entry(each, evidence, None, taken)


def _entry(
    each: Recommendation, evidence: Evidence, default: str | None, taken: dict[tuple[str, str], str]
) -> Iterator[str]:
    """Yield the lines of one entry, which leaves out the schema ``default``. ``taken`` maps targets to their tables."""
    yield from _comment(numbers(each.table, evidence))
    now, best = each.now, each.best
    if now is None:
        refused = each.options[0] if each.options else None
        yield from _comment(f"Not synced: {refused.why if refused else 'no strategy suits it'}.")
        return
    twin = taken.setdefault(now.config.target, each.name)
    if twin != each.name:
        yield from _comment(f"Not synced: {twin} has the same target; set another target_table for one of the two.")
        return
    yield from _comment(f"{now.name}: {now.why}.")
    if best is not None and best is not now:
        yield from _comment(f"better: {best.name}. {best.why}. It needs {'; '.join(best.needs)}.")
    entry = now.entry | {"table_name": _pattern(now.config.table_name)}
    entry.pop("schema", None)
    if now.config.schema_ != default:
        entry["schema"] = _pattern(now.config.schema_)
    for number, (key, value) in enumerate(entry.items()):
        yield f"  {'-' if number == 0 else ' '} {key}: {_flow(value)}"


def numbers(table: TableEvidence, evidence: Evidence) -> str:
    """Format the size and the write rates of a table."""
    inserted, updated, deleted = evidence.rates(table.activity)
    return (
        f"{human_bytes(table.heap + table.toast)}, about {table.rows:,} rows, {inserted:,.0f} inserted,"
        f" {updated:,.0f} updated, {deleted:,.0f} deleted {'a day' if evidence.days else 'so far'}"
    )


def _comment(text: str) -> Iterator[str]:
    """Wrap a text as a YAML comment. Names in it may contain any character, even a line break."""
    line = "  #"
    for word in re.sub(r"[^\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]+", " ", text).split():
        if len(line) + len(word) >= _WIDTH and line != "  #":
            yield line
            line = "  #"
        line += f" {word}"
    yield line


def _pattern(name: str) -> str:
    """Escape a name for tables.yaml, where names are patterns.

    >>> _pattern("a.b*c[1]")
    'a[.]b[*]c[[]1]'
    """
    return re.sub(r"[*?\[.]", lambda found: f"[{found[0]}]", name)


def _flow(value: Any) -> str:
    """Format a value as one line of YAML, quoted where necessary."""

    def dumped(**style: Any) -> str:
        text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, **style)
        return text.removesuffix("\n").removesuffix("\n...")

    text = dumped(allow_unicode=True)
    return text if text.isprintable() else dumped(default_style='"')


def as_json(each: Recommendation, evidence: Evidence, notes: Sequence[str]) -> dict[str, Any]:
    """Return one table with all its options as a JSON document."""
    table = each.table
    now, best = each.now, each.best
    return {
        "table": each.name,
        "rows": table.rows,
        "bytes": {"heap": table.heap, "toast": table.toast, "indexes": table.indexes},
        "written": vars(table.activity),
        "per_day": {
            kind: evidence.per_day(getattr(table.activity, kind)) for kind in ("inserted", "updated", "deleted")
        },
        "partitions": table.partitions,
        "replica_identities": list(table.replica_identities),
        "key": list(table.table.primary_key),
        "notes": list(notes),
        "now": now and now.name,
        "best": best and best.name,
        "options": [_option_json(option) for option in each.options],
    }


def _option_json(option: Option) -> dict[str, Any]:
    return {
        "strategy": option.name,
        "refused": option.refused,
        "points": option.points,
        "reasons": [vars(reason) for reason in option.reasons],
        "why": option.why,
        "updates": option.updates,
        "deletes": option.deletes,
        "certificate": option.certificate,
        "needs": list(option.needs),
        "cost": vars(option.cost) | {"read_per_day": option.cost.read_per_day},
        "entry": option.entry,
    }
