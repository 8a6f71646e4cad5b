"""Every rule by itself: one case that it matches, and a similar one that it does not match."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from aurora_sync.advisor.evidence import Activity, Evidence, TableEvidence
from aurora_sync.advisor.profiles import option_name
from aurora_sync.advisor.recommend import judged
from aurora_sync.advisor.rules import RULES
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.tables import TableConfig
from aurora_sync.model.relation import Outbox
from aurora_sync_tests.scenarios.assessed.conftest import evidence_of
from aurora_sync_tests.scenarios.world import World


def an_hour_old(evidence: Evidence) -> Evidence:
    return replace(evidence, since=evidence.taken_at - timedelta(hours=2))


def server(**facts: Any) -> Callable[[Evidence], Evidence]:
    return lambda evidence: replace(evidence, server=replace(evidence.server, **facts))


def with_table(**facts: Any) -> Callable[[Evidence], Evidence]:
    """Return a change of the evidence that gives every table these facts."""
    return lambda evidence: replace(evidence, tables=tuple(replace(each, **facts) for each in evidence.tables))


def with_outboxes(evidence: Evidence) -> Evidence:
    def made(each: TableEvidence) -> TableEvidence:
        outbox = Outbox("o", each.table.primary_key, complete=True, usable=True, version="1")
        return replace(each, table=replace(each.table, outbox=outbox))

    return replace(evidence, tables=tuple(map(made, evidence.tables)))


@dataclass(frozen=True)
class Case:
    entry: str  # table, watermark_type and column, or append_only
    change: Callable[[Evidence], Evidence] = lambda evidence: evidence
    limits: Advisor = field(default_factory=Advisor)

    def spoken(self, evidence: Evidence) -> dict[str, str]:
        table, kind, *column = self.entry.split()
        keys: dict[str, Any] = {"watermark_col": column[0]} if column else {}
        if kind == "append_only":
            kind, keys = "xmin", {"append_only": True}
        config = TableConfig.model_validate({"table_name": table, "watermark_type": kind, **keys})
        evidence = self.change(evidence)
        found = next(each for each in evidence.tables if each.table.name == table)
        option = judged(config, option_name(config), found, evidence, self.limits)
        return {reason.rule: reason.text for reason in option.reasons}


CASES = {
    "not eligible": (Case("names_kept append_only"), Case("audit_trail append_only")),
    "updates unseen": (Case("audit_edited append_only"), Case("audit_trail append_only")),
    "deletes unseen": (Case("audit_pruned append_only"), Case("audit_trail append_only")),
    "unknown mix": (Case("events integer id", with_table(activity=Activity())), Case("events integer id")),
    "numbers unproven": (Case("customers integer id"), Case("events integer id")),
    "timestamp unkept": (Case("invoices_lazy timestamp updated_at"), Case("invoices timestamp updated_at")),
    "no index": (Case("events integer v"), Case("events integer id")),
    "no replication": (Case("baskets logical", limits=Advisor(replication=False)), Case("baskets logical")),
    "no DDL": (
        Case("baskets outbox", limits=Advisor(ddl=False)),
        Case("baskets outbox", with_outboxes, Advisor(ddl=False)),
    ),
    "a reader": (Case("baskets outbox", server(in_recovery=True)), Case("baskets xmin", server(in_recovery=True))),
    "deletes too late": (
        Case("baskets xmin", limits=Advisor(deletes_at_once=True)),
        Case("baskets outbox", limits=Advisor(deletes_at_once=True)),
    ),
    "too much to read": (
        Case("tickets xmin", an_hour_old, Advisor(max_read_per_day="1MB", freshness="1m")),
        Case("tickets xmin", an_hour_old, Advisor(max_read_per_day="1TB", freshness="1m")),
    ),
    "small": (Case("countries full_snapshot"), Case("baskets full_snapshot")),
    "nothing else": (Case("audit_trail full_snapshot"), Case("baskets full_snapshot")),
    "too large to read whole": (Case("tickets full_snapshot"), Case("baskets full_snapshot")),
    "quick scan": (Case("baskets xmin"), Case("tickets xmin")),
    "long scan": (Case("tickets xmin"), Case("baskets xmin")),
    "numbers in order": (Case("events integer id"), Case("events xmin")),
    "indexed timestamp": (Case("invoices timestamp updated_at"), Case("invoices_unindexed timestamp updated_at")),
    "timestamp without index": (Case("invoices_unindexed timestamp updated_at"), Case("invoices timestamp updated_at")),
    "many NULLs": (
        Case("invoices timestamp updated_at", with_table(null_shares={"updated_at": 0.3})),
        Case("invoices timestamp updated_at"),
    ),
    "deletes at a reconcile": (Case("baskets xmin"), Case("customers xmin")),
    "deletes at once": (Case("baskets outbox"), Case("customers outbox")),
    "a slot to look after": (Case("baskets logical"), Case("baskets outbox")),
    "triggers there": (Case("baskets outbox", with_outboxes), Case("baskets outbox")),
    "triggers to make": (Case("baskets outbox"), Case("baskets outbox", with_outboxes)),
    "WAL not logical": (Case("baskets logical", server(wal_level="replica")), Case("baskets logical")),
    "replica identity": (Case("named_by_code logical"), Case("baskets logical")),
}


def test_each_rule_speaks_where_it_holds_and_only_there(unchanged_legacy: World) -> None:
    evidence = evidence_of(unchanged_legacy)
    assert list(CASES) == [rule.name for rule in RULES]
    wrong = [
        f"{rule}: {holds.entry} says {sorted(holds.spoken(evidence))}, {other.entry} {sorted(other.spoken(evidence))}"
        for rule, (holds, other) in CASES.items()
        if rule not in holds.spoken(evidence) or rule in other.spoken(evidence)
    ]
    assert not wrong, "\n".join(wrong)
    assert all(text for holds, _ in CASES.values() for text in holds.spoken(evidence).values())
