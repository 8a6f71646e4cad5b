"""Rules by which ``aurora-sync assess`` ranks the strategies of a table.

Each strategy begins with the points of its profile. A rule matches if its ``says`` returns a text. A rule that matches
adds its points, or refuses the strategy if it has none; its text is printed with the answer. correctness.md, section 11
explains the reasons. The sizes are limits at which another strategy becomes cheaper, on a server that scans about 1 GB
in a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from aurora_sync.advisor.cost import Cost, estimate, human_bytes, rows_were
from aurora_sync.advisor.evidence import Evidence, TableEvidence
from aurora_sync.advisor.profiles import PROFILES, Access
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight
from aurora_sync.model.column import Column
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.source.outbox import name_of
from aurora_sync.strategies import strategy_of
from aurora_sync.strategies.base import Strategy
from aurora_sync.strategies.clock import kept_by_trigger
from aurora_sync.strategies.integer import out_of_order, unproven

MB, GB = 10**6, 10**9
SMALL, MODERATE, LARGE = 16 * MB, GB, 20 * GB


@dataclass(frozen=True)
class Case:
    """One strategy for one table. ``option`` is the strategy, or append_only for xmin without a key."""

    option: str
    config: TableConfig
    table: TableEvidence
    evidence: Evidence
    limits: Advisor

    @property
    def strategy(self) -> Strategy:
        return strategy_of(self.config)

    @cached_property
    def cost(self) -> Cost:
        needs_index = self.config.watermark_col is not None
        access = Access.SCAN if needs_index and not self.is_indexed else PROFILES[self.option].access
        return estimate(access, self.table, self.evidence, self.limits)

    @property
    def column(self) -> Column | None:
        return self.table.table.column(self.config.watermark_col or "")

    @property
    def with_triggers(self) -> SourceTable:
        """The table as it is; for the outbox strategy, as `aurora-sync triggers apply` would leave it."""
        table = self.table.table
        key = tuple(self.config.primary_key or table.primary_key)
        outbox = Outbox(name_of(table.schema, table.name), key, complete=True, usable=True, version="")
        return replace(table, outbox=outbox) if self.strategy.needs_triggers else table

    @property
    def lacks_triggers(self) -> bool:
        table = self.table.table
        return self.strategy.needs_triggers and (
            table.outbox is None or bool(preflight.problems(self.config, table, self.strategy))
        )

    @property
    def is_indexed(self) -> bool:
        """True if an index begins with the watermark column."""
        return any(
            index.valid and not index.partial and index.columns[:1] == (self.config.watermark_col,)
            for index in self.table.table.indexes
        )

    @property
    def since(self) -> str:
        return f"since {self.evidence.since:%Y-%m-%d}" if self.evidence.since else "since the statistics began"


ALL = tuple(PROFILES)
CURSORS = ("xmin", "integer", "timestamp")

# Rule that counts against a configured strategy, although it does not refuse it.
DELETES_UNSEEN = "deletes at a reconcile"
# Rule that refuses a strategy, but does not count against a configured one.
UNKNOWN_MIX = "unknown mix"
# Rules that count against a configured strategy only if another one works without preparation.
GROWN = {"too large to read whole", "long scan", "many NULLs"}


@dataclass(frozen=True)
class Rule:
    name: str
    about: tuple[str, ...]
    points: int | None  # None refuses the strategy
    says: Callable[[Case], str]  # empty if the rule does not match


def _size(case: Case) -> int:
    return case.table.heap + case.table.toast


def _cannot(case: Case) -> str:
    return "; ".join(preflight.problems(case.config, case.with_triggers, case.strategy))


def _updates(case: Case) -> str:
    count = case.table.activity.updated
    return f"{rows_were(count)} updated {case.since}; the strategy does not find updates" if count else ""


def _deletes_of_append_only(case: Case) -> str:
    count = case.table.activity.deleted
    return f"{rows_were(count)} deleted {case.since}; append_only does not find deletes" if count else ""


def _unproven_numbers(case: Case) -> str:
    name = str(case.config.watermark_col)
    sequence = case.table.table.sequences.get(name)
    doubts = [] if case.config.watermark_set_by == "database" else unproven(name, case.table.table)
    return "; ".join(doubts + (out_of_order(sequence) if sequence else []))


def _unkept_timestamp(case: Case) -> str:
    name = str(case.config.watermark_col)
    if case.config.watermark_set_by == "database" or kept_by_trigger(name, case.table.table):
        return ""
    return (
        f"no BEFORE INSERT OR UPDATE row trigger sets {name} to the clock, so that a row can change and {name} stay"
        " the same: each run would scan the table, as xmin does"
    )


def _nothing_else(case: Case) -> str:
    if not case.table.table.is_heap:
        return "its rows have no transaction ids: every run reads all rows and compares them with the target"
    if not preflight.possible_key(case.table.table):
        return "no unique index identifies its rows, so that only a full read finds updates and deletes"
    return ""


def _too_much(case: Case) -> str:
    limit, read = case.limits.most_read_per_day, case.cost.read_per_day
    if limit is None or read is None or read <= limit:
        return ""
    return f"the sync would read {human_bytes(read)} a day from the source; max_read_per_day is {human_bytes(limit)}"


def _deletes_late(case: Case) -> str:
    if not case.limits.deletes_at_once or case.strategy.sees_deletes:
        return ""
    return "deletes must reach the target with the next run (deletes_at_once); the strategy finds them at a reconcile"


def _unknown_mix(case: Case) -> str:
    if case.evidence.knows_mix(case.table):
        return ""
    return f"the rows are older than the statistics ({case.since}), so that updates and deletes of rows may be unknown"


def _deletes_by_reconcile(case: Case) -> str:
    count = case.table.activity.deleted
    return f"{rows_were(count)} deleted {case.since}; the strategy finds deletes only at a reconcile" if count else ""


def _deletes_seen(case: Case) -> str:
    count = case.table.activity.deleted
    return f"every run finds deletes: {rows_were(count)} deleted {case.since}" if count else ""


def _nulls(case: Case) -> str:
    share = case.table.null_shares.get(str(case.config.watermark_col), 0)
    if share < 0.01:
        return ""
    return f"{case.config.watermark_col} is NULL in {share:.0%} of the rows, and every run reads these rows again"


def _no_wal(case: Case) -> str:
    level = case.evidence.server.wal_level
    return "" if level == "logical" else f"wal_level is {level}: setting it to logical requires a restart"


def _identity_needed(case: Case) -> str:
    missing = not case.table.table.primary_key and set(case.table.replica_identities) <= {"d", "n"}
    return "without a primary key, the table needs another replica identity first" if missing else ""


def when(holds: Callable[[Case], bool], text: str) -> Callable[[Case], str]:
    """Make a ``says`` that returns ``text`` if ``holds``, with ``{size}`` and ``{column}`` of the case filled in."""
    return lambda case: (
        text.format(size=human_bytes(_size(case)), column=case.config.watermark_col) if holds(case) else ""
    )


RULES = (
    # Rules that refuse a strategy.
    Rule("not eligible", ALL, None, _cannot),
    Rule("updates unseen", ("integer", "append_only"), None, _updates),
    Rule("deletes unseen", ("append_only",), None, _deletes_of_append_only),
    Rule(UNKNOWN_MIX, ("integer", "append_only"), None, _unknown_mix),
    Rule("numbers unproven", ("integer",), None, _unproven_numbers),
    Rule("timestamp unkept", ("timestamp",), None, _unkept_timestamp),
    Rule("no index", ("integer",), None, when(lambda c: not c.is_indexed, "no index begins with {column}")),
    Rule(
        "no replication",
        ("logical",),
        None,
        when(lambda c: not c.limits.replication, "replication slots are not allowed (advisor: replication)"),
    ),
    Rule(
        "no DDL",
        ("outbox",),
        None,
        when(
            lambda c: not c.limits.ddl and c.lacks_triggers,
            "the strategy needs triggers on the table, which are not allowed (advisor: ddl)",
        ),
    ),
    Rule(
        "a reader",
        ("integer", "timestamp", "logical", "outbox"),
        None,
        when(
            lambda c: c.evidence.server.in_recovery,
            "the source is a reader, which shows neither locks nor transactions of the writer",
        ),
    ),
    Rule("deletes too late", ALL, None, _deletes_late),
    Rule("too much to read", ALL, None, _too_much),
    # Rules that compare strategies.
    Rule(
        "small",
        ("full_snapshot",),
        +60,
        when(
            lambda c: c.table.table.is_heap and _size(c) <= SMALL,
            "a full read of {size} is faster than finding changes, and finds every change",
        ),
    ),
    Rule("nothing else", ("full_snapshot",), 0, _nothing_else),
    Rule(
        "too large to read whole",
        ("full_snapshot",),
        -60,
        when(lambda c: _size(c) > MODERATE, "every run reads and moves all {size}"),
    ),
    Rule(
        "quick scan",
        ("xmin", "append_only"),
        +10,
        when(lambda c: _size(c) <= MODERATE, "a run scans {size}, which takes seconds, and moves only changed rows"),
    ),
    Rule(
        "long scan",
        ("xmin", "append_only"),
        -30,
        when(lambda c: _size(c) > LARGE, "every run with changes scans {size}"),
    ),
    Rule(
        "numbers in order",
        ("integer",),
        +20,
        when(
            lambda _: True, "the database generates {column} in ascending order: a run reads only new rows, by an index"
        ),
    ),
    Rule(
        "indexed timestamp",
        ("timestamp",),
        +15,
        when(lambda c: c.is_indexed, "a trigger sets {column} at every write, and an index finds new and changed rows"),
    ),
    Rule(
        "timestamp without index",
        ("timestamp",),
        -15,
        when(lambda c: not c.is_indexed, "{column} has no index, so that every run scans the table, as xmin does"),
    ),
    Rule("many NULLs", ("timestamp", "integer"), -15, _nulls),
    Rule(DELETES_UNSEEN, CURSORS, -10, _deletes_by_reconcile),
    Rule("deletes at once", ("full_snapshot", "logical", "outbox"), +15, _deletes_seen),
    Rule(
        "a slot to look after",
        ("logical",),
        -10,
        when(lambda _: True, "a run reads only changes; the slot keeps WAL at the source until the next run"),
    ),
    Rule(
        "triggers there",
        ("outbox",),
        +25,
        when(
            lambda c: not c.lacks_triggers,
            "its triggers record the keys of changed rows: a run reads only these rows, by key",
        ),
    ),
    Rule(
        "triggers to make",
        ("outbox",),
        -10,
        when(
            lambda c: c.lacks_triggers,
            "a run reads only changed rows, by the keys that triggers record; the triggers make writes slower",
        ),
    ),
    Rule("WAL not logical", ("logical",), -15, _no_wal),
    Rule("replica identity", ("logical",), -5, _identity_needed),
)
