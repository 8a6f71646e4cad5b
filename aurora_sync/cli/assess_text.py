"""The text and the JSON document of an assessment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aurora_sync.advisor import proposal
from aurora_sync.advisor.cost import human_bytes
from aurora_sync.advisor.evidence import Evidence
from aurora_sync.advisor.prove import Proof
from aurora_sync.advisor.recommend import Recommendation

# Up to this number of tables, each one is explained without --why.
_EXPLAINED = 3


@dataclass(frozen=True)
class Assessment:
    """Recommendations with their evidence. The keys of ``remarks`` and ``proofs`` are names of tables."""

    evidence: Evidence
    found: Sequence[Recommendation]
    remarks: dict[str, list[str]]
    proofs: dict[str, list[Proof]]


def head_lines(evidence: Evidence, found: Sequence[Recommendation]) -> Iterator[str]:
    """Yield the lines above the table: the server, and facts about it."""
    reader = ", a reader" if evidence.server.in_recovery else ""
    tables = "1 table" if len(found) == 1 else f"{len(found):,} tables"
    yield f"{evidence.database}: PostgreSQL {evidence.server.major}{reader}, {tables}"
    yield from (f"  {name}: {text}" for name, text in evidence.facts.items())
    yield ""


def reason_lines(assessment: Assessment, *, why: bool) -> Iterator[str]:
    """Yield the lines below the table. With ``why``, each table is explained; else only if there are few tables."""
    found = assessment.found
    for each in found:
        for proof in assessment.proofs.get(each.name, ()):
            yield from ("", f"{each.name}: {proof.text}")
            for late in proof.examples:
                yield f"  {late.place}: says {late.says}, and was written after {late.others}"
    if why or len(found) <= _EXPLAINED:
        for each in found:
            yield from _why(each, assessment.remarks[each.name])
    else:
        yield from ("", "`aurora-sync assess TABLE` explains one table, `aurora-sync assess --why` all tables")


def matrix(evidence: Evidence, found: Sequence[Recommendation]) -> list[list[str]]:
    """Return the rows of the table; the first row is its head. Columns 1 to 5 are numbers."""
    unit = "/day" if evidence.days else ""
    rates = [f"{what}{unit}" for what in ("inserts", "updates", "deletes")]
    rows = [["table", "size", "rows", *rates, "now", "better, and what it needs"]]
    for each in found:
        table = each.table
        rates = [f"{rate:,.0f}" for rate in evidence.rates(table.activity)]
        rows.append([each.name, human_bytes(table.heap + table.toast), f"{table.rows:,}", *rates, *_choice(each)])
    return rows


def _choice(each: Recommendation) -> list[str]:
    now, best = each.now, each.best
    shown = f"{now.name} {now.config.watermark_col or ''}".strip() if now else "none"
    if now is None:
        return [shown, each.options[0].why if each.options else ""]
    return [shown, f"{best.name}: {'; '.join(best.needs)}" if best and best is not now else ""]


def _why(each: Recommendation, remarks: Iterable[str]) -> Iterator[str]:
    yield from ("", each.name)
    for option in each.options:
        points = "refused" if option.refused else f"{option.points} points"
        yield f"  {option.name}, {points}"
        yield from (
            f"    {'  no' if reason.points is None else f'{reason.points:+4}'}  {reason.text}"
            for reason in option.reasons
            if reason.points is None or not option.refused
        )
        if not option.refused:
            yield from (f"    needs {need}" for need in option.needs)
            yield f"    {option.sees}; {option.cost.text}"
    yield from (f"  note: {remark}" for remark in remarks)


def document(assessment: Assessment) -> dict[str, Any]:
    """Return the assessment as a JSON document."""
    evidence = assessment.evidence
    return {
        "database": evidence.database,
        "taken_at": evidence.taken_at.isoformat(),
        "server": vars(evidence.server),
        "statistics_since": evidence.since and evidence.since.isoformat(),
        "xids_per_day": evidence.xids_per_day,
        "days_to_wraparound": evidence.days_to_wraparound,
        "tables": [
            proposal.as_json(each, evidence, assessment.remarks[each.name])
            | {"proofs": [asdict(proof) for proof in assessment.proofs.get(each.name, ())]}
            for each in assessment.found
        ],
    }


def why_not(each: Recommendation) -> str:
    """Say what the best strategy needs first, or why no strategy suits the table."""
    if each.best:
        return f"{each.best.name} suits it, and needs {'; '.join(each.best.needs)}"
    refused = {option.name: option.why for option in each.options}
    return refused.get("full_snapshot") or next(iter(refused.values()), "no strategy can sync it")
