"""Rank the possible strategies of each table by rules.py, with what each strategy needs and costs."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aurora_sync.advisor.cost import Cost
from aurora_sync.advisor.evidence import Evidence, TableEvidence
from aurora_sync.advisor.profiles import PROFILES, option_name
from aurora_sync.advisor.rules import DELETES_UNSEEN, GROWN, RULES, UNKNOWN_MIX, Case
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.tables import Reconcile, TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.engine import preflight
from aurora_sync.model.certificate import Level
from aurora_sync.model.column import Column
from aurora_sync.strategies import clock, strategy_for, strategy_of

# Parts of column names that suggest a time of change, used where no trigger shows it.
_CHANGED = ("updat", "modif", "chang", "mtime", "last_")


@dataclass(frozen=True)
class Reason:
    """Result of one rule that matched. ``points`` is None if the rule refuses the strategy."""

    rule: str
    points: int | None
    text: str


@dataclass(frozen=True)
class Option:
    """One strategy for one table. ``deletes`` is when deletes are seen: "at once", "at a reconcile" or "never"."""

    name: str
    config: TableConfig
    reasons: tuple[Reason, ...]
    needs: tuple[str, ...]
    cost: Cost
    updates: bool
    deletes: str
    certificate: str

    @property
    def refused(self) -> bool:
        return any(reason.points is None for reason in self.reasons)

    @property
    def points(self) -> int:
        return PROFILES[self.name].points + sum(reason.points or 0 for reason in self.reasons)

    @property
    def sees(self) -> str:
        """The kinds of changes that the strategy sees, and its certificate."""
        updates = "updates" if self.updates else "no updates"
        return f"finds inserts, {updates}, deletes {self.deletes}; {self.certificate}"

    @property
    def why(self) -> str:
        """All reasons as one sentence; if the strategy is refused, only the reasons for that."""
        refusals = [reason.text for reason in self.reasons if reason.points is None]
        return "; ".join(refusals or [reason.text for reason in self.reasons])

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of tables.yaml, without default values."""
        found = self.config.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude_none=True)
        order = ("table_name", "schema", "watermark_type")
        return {key: found[key] for key in (*order, *sorted(found.keys() - set(order))) if key in found}


@dataclass(frozen=True)
class Recommendation:
    """All options of one table, best first. Refused options come last."""

    table: TableEvidence
    options: tuple[Option, ...]

    @property
    def name(self) -> str:
        return self.table.table.qualified_name

    @property
    def best(self) -> Option | None:
        """The best option that is not refused; None if all are refused."""
        return next((option for option in self.options if not option.refused), None)

    @property
    def now(self) -> Option | None:
        """The best option that needs no preparation; None if there is none."""
        return next((option for option in self.options if not option.refused and not option.needs), None)


def recommend(evidence: Evidence, limits: Advisor) -> list[Recommendation]:
    """Return a recommendation for each table, in the order of the evidence."""
    return [_ranked(table, evidence, limits) for table in evidence.tables]


def judged(config: TableConfig, name: str, table: TableEvidence, evidence: Evidence, limits: Advisor) -> Option:
    """Apply the rules to one configuration of the option ``name``."""
    case = Case(name, config, table, evidence, limits)
    reasons = [(rule, rule.says(case)) for rule in RULES if name in rule.about]
    strategy = case.strategy
    by_reconcile = "at a reconcile" if config.reconcile else "never"
    return Option(
        name=name,
        config=config,
        reasons=tuple(Reason(rule.name, rule.points, text) for rule, text in reasons if text),
        needs=tuple(_needs(case)),
        cost=case.cost,
        updates=strategy.sees_updates and not config.append_only,
        deletes="at once" if strategy.sees_deletes else by_reconcile,
        certificate=_level(case).value,
    )


def _level(case: Case) -> Level:
    """Return the certificate of most runs: those in which the fence of the strategy holds."""
    if case.config.append_only:
        return Level.BOUNDED
    if not case.strategy.doubts(case.config, case.table.table):
        return Level.CERTIFIED
    return Level.BOUNDED if case.config.reconcile else Level.UNCERTIFIED


def has_rules(config: TableConfig) -> bool:
    """True if the rules cover the strategy of this configuration."""
    return _judged_as(config)[0] in PROFILES


def _judged_as(config: TableConfig) -> tuple[str, TableConfig]:
    """Return option and configuration for the rules: a composite cursor is judged by its leading time column."""
    if moment := strategy_of(config).clock_column(config):
        return "timestamp", config.model_copy(update={"watermark_col": moment})
    return option_name(config), config


def contradictions(config: TableConfig, found: Recommendation, evidence: Evidence, limits: Advisor) -> list[str]:
    """Return why the configured strategy does not fit the evidence. Empty if it fits, or if no rules cover it.

    Reasons are rules that refuse the strategy, deletes that no reconcile finds, and triggers that are missing. High
    cost is a reason only if another strategy works without preparation.
    """
    if not has_rules(config):
        return []
    name, config = _judged_as(config)
    option = judged(config, name, found.table, evidence, limits)
    matched = {reason.rule for reason in option.reasons if reason.points is None} - {UNKNOWN_MIX}
    if not config.reconcile:
        matched.add(DELETES_UNSEEN)
    if found.now and found.now.name != name:
        matched |= GROWN
    needs = option.needs if strategy_of(config).needs_triggers else ()
    matched_texts = [reason.text for reason in option.reasons if reason.rule in matched]
    return matched_texts + [f"the strategy needs {need}" for need in needs]


def why_it_fits(config: TableConfig, found: Recommendation, evidence: Evidence, limits: Advisor) -> str:
    """Return what speaks for the configured strategy, which does not contradict the evidence; what it sees if no rule
    speaks for it. Empty if no rules cover it."""
    if not has_rules(config):
        return ""
    name, config = _judged_as(config)
    option = judged(config, name, found.table, evidence, limits)
    return "; ".join(reason.text for reason in option.reasons if (reason.points or 0) > 0) or option.sees


def _ranked(table: TableEvidence, evidence: Evidence, limits: Advisor) -> Recommendation:
    options = [judged(config, option_name(config), table, evidence, limits) for config in _configs(table, evidence)]
    return Recommendation(table, tuple(sorted(options, key=lambda o: (o.refused, -o.points))))


def _configs(table: TableEvidence, evidence: Evidence) -> Iterator[TableConfig]:
    """Yield every configuration that is worth assessing."""
    described = table.table
    own: dict[str, Any] = {"table_name": described.name, "schema_": described.schema}
    key = preflight.possible_key(described)
    if key and key != described.primary_key:
        own["primary_key"] = list(key)
    # A reconcile finds the deletes that a strategy does not see. The hash spreads the tables over the night.
    at = zlib.crc32(described.qualified_name.encode())
    may_lack_rows = table.lacks_rows or not evidence.knows_mix(table)
    nightly = Reconcile(schedule=f"{at % 60} {1 + at % 5} * * *") if may_lack_rows else None

    def entry(kind: WatermarkType, **more: Any) -> TableConfig:
        if not (strategy_for(kind.value).sees_deletes or more.get("append_only")):
            more["reconcile"] = nightly
        return TableConfig(watermark_type=kind, **own, **more)

    yield entry(WatermarkType.full_snapshot)
    if not key:
        yield entry(WatermarkType.xmin, append_only=True)
        return
    yield entry(WatermarkType.xmin)
    yield entry(WatermarkType.logical)
    yield entry(WatermarkType.outbox)
    if number := _number(table):
        yield entry(WatermarkType.integer, watermark_col=number.name)
    if moment := _moment(table):
        yield entry(WatermarkType.timestamp, watermark_col=moment.name)


def _number(table: TableEvidence) -> Column | None:
    """Return the column that is most likely to grow with every row."""
    described = table.table
    leading = {index.columns[0] for index in described.indexes if index.unique and len(index.columns) == 1}
    numbers = [column for column in described.columns if column.is_integer and column.name in leading]
    return max(numbers, key=lambda c: (c.identity == "a", c.name in described.sequences, c.not_null), default=None)


def _moment(table: TableEvidence) -> Column | None:
    """Return the column that is most likely to hold the time of a row's last change."""
    described = table.table
    kept = [c for c in described.columns if c.base_type in clock.TYPES and clock.kept_by_trigger(c.name, described)]
    named = [
        c for c in described.columns if c.base_type in clock.TYPES and any(part in c.name.lower() for part in _CHANGED)
    ]
    return next(iter(kept + named), None)


def _needs(case: Case) -> Iterator[str]:
    if case.strategy.uses_slot:
        if case.evidence.server.wal_level != "logical":
            yield "wal_level = logical (rds.logical_replication = 1), and a restart of the server"
        if not case.evidence.server.may_replicate:
            yield "a role that may replicate (GRANT rds_replication)"
        if set(case.table.replica_identities) - {"d"} or not case.table.table.primary_key:
            yield "a replica identity that contains the key"
        yield "a publication and a replication slot: `aurora-sync cdc setup --apply`"
    if case.lacks_triggers:
        yield f"triggers on the table: `aurora-sync triggers plan {case.table.table.qualified_name}`"
    if case.strategy.clock_column(case.config) and not case.evidence.sees_sessions:
        yield "GRANT pg_read_all_stats to this role, to see when open transactions began"
