"""Targets in memory: the product's by the real source and strategies, the naive ones by the usual SQL. Both read the
same database at the same time."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg2

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.plan import RunOptions, plan_increment
from aurora_sync.model.certificate import Level
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.state import State
from aurora_sync.model.watermark import Watermark
from aurora_sync.source import canary
from aurora_sync.source.database import Source
from aurora_sync.source.outbox import live_row_ending
from aurora_sync.strategies import identity, strategy_for
from aurora_sync.warehouse.ddl import target_name
from aurora_sync_tests.scenarios.world import World

Truth = Mapping[str, tuple[str, int]]  # key -> its value, and its number of rows


@dataclass(frozen=True)
class Difference:
    """The keys that a target lacks, holds in an old version, or holds too often (or wrongly)."""

    missing: list[str]
    stale: list[str]
    ghosts: list[str]

    def of(self, *changes: str) -> list[str]:
        """Return the wrong keys among ``inserts``, ``updates``, ``deletes``."""
        wrong = {"inserts": self.missing, "updates": self.stale, "deletes": self.ghosts}
        return [key for change in changes for key in wrong[change]]


def compare(held: Truth, truth: Truth) -> Difference:
    """
    >>> compare({"1": ("old", 1), "2": ("b", 2)}, {"1": ("new", 1), "2": ("b", 1), "3": ("c", 1)})
    Difference(missing=['3'], stale=['1'], ghosts=['2'])
    """
    return Difference(
        missing=[key for key, (_, times) in truth.items() if key not in held or held[key][1] < times],
        stale=[key for key, (v, _) in truth.items() if key in held and held[key][0] != v],
        ghosts=[key for key, (_, times) in held.items() if key not in truth or truth[key][1] < times],
    )


class Target(Protocol):
    """A participant of a trial. ``changes`` are the kinds that it claims to find; ``certified``: with a proof."""

    @property
    def table(self) -> str: ...
    @property
    def changes(self) -> tuple[str, ...]: ...
    @property
    def certified(self) -> bool: ...
    def sync(self) -> None: ...
    def held(self) -> Truth: ...


class Lines:
    """A sink that collects the output of COPY."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def write(self, data: bytes) -> object:
        return self._buffer.write(data)

    def text(self) -> bytes:
        return self._buffer.getvalue()

    def rows(self) -> list[list[str]]:
        return list(csv.reader(io.StringIO(self._buffer.getvalue().decode(), newline="")))


@dataclass
class Replica:
    """A target of ``config`` in memory: observe, judge, plan, copy, apply, as sync.run does it."""

    config: TableConfig
    source: Source
    watermark: Watermark | None = None
    rows: dict[str, str] = field(default_factory=dict)  # id -> v
    appended: Counter[tuple[str, ...]] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    exported: int = 0
    certified: bool = False

    @property
    def table(self) -> str:
        return self.config.table_name

    @property
    def changes(self) -> tuple[str, ...]:
        if self.config.append_only:
            return "inserts", "deletes"  # each row exactly once
        strategy = strategy_for(self.config.watermark_type.value)
        seen = {"inserts": True, "updates": strategy.sees_updates, "deletes": strategy.sees_deletes}
        return tuple(change for change, sees in seen.items() if sees)

    def sync(self) -> None:
        state = State(run_sequence=1 if self.watermark else 0, watermark=self.watermark)
        with self.source.reading(self.config.schema_, self.config.table_name) as reading:
            plan = plan_increment(self.config, reading, state, RunOptions())
            lines = Lines()
            reading.copy(reading.statement(plan.columns, plan.read.where, outbox=plan.read.outbox), lines)
            table = reading.table
        ending = live_row_ending(plan.read.outbox) if plan.read.outbox else b""
        newest = canary.pick(lines.text(), plan.columns, plan.key, plan.at.snapshot, identity.CANARIES, ending=ending)
        after = plan.after(identity.canaries(self.watermark, plan.at, newest))
        self.methods[plan.read.method] += 1
        self.exported += len(lines.rows())
        if plan.read.disposition is Disposition.REPLACE:
            self.rows.clear()
            self.appended.clear()
        for id_, v, *more in lines.rows():
            if self.config.append_only:
                self.appended[id_, v] += 1
            elif plan.read.disposition is Disposition.CHANGES and more[2] == "D":
                self.rows.pop(id_, None)
            else:
                self.rows[id_] = v
        # By way of JSON, as the next run reads a watermark.
        self.watermark = Watermark.from_json(after.to_json())
        self.source.acknowledge(table, plan.strategy.acknowledgement(self.watermark.value))
        self.certified = plan.certificate.level is Level.CERTIFIED

    def held(self) -> Truth:
        if self.config.append_only:
            return {"/".join(row): ("", times) for row, times in self.appended.items()}
        return {id_: (v, 1) for id_, v in self.rows.items()}


@dataclass
class Synced:
    """A target in a warehouse, synced by sync.run and reconciled at every run. Wrong repairs or deletes while others
    write would show at the end."""

    world: World
    config: TableConfig
    changes: tuple[str, ...] = ()
    certified: bool = False

    @property
    def table(self) -> str:
        return self.config.table_name

    def sync(self) -> None:
        receipt = self.world.sync(self.config, reconcile=True, allow_deletes=True)
        self.changes = receipt.certificate.changes
        self.certified = receipt.certificate.level is Level.CERTIFIED

    def held(self) -> Truth:
        rows = self.world.query(f'SELECT "ID", "V" FROM {target_name(self.config).sql}')
        return {str(int(id_)): (v, 1) for id_, v in rows}


@dataclass
class Naive:
    """A cursor that continues from the maximum seen so far, with the usual SQL."""

    dsn: str
    query: str  # one parameter: the last watermark
    first: Any
    watermark_query: str | None = None  # None: the last watermark is the maximum of the third column read
    changes: tuple[str, ...] = ("inserts", "updates")
    rows: dict[str, str] = field(default_factory=dict)
    certified: bool = False

    @property
    def table(self) -> str:
        return "history" if "FROM history" in self.query else "t"

    def sync(self) -> None:
        with closing(psycopg2.connect(self.dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(self.query, {"last": self.first})
            read = cursor.fetchall()
            self.rows.update({str(id_): v for id_, v, _ in read})
            if self.watermark_query:
                cursor.execute(self.watermark_query)
                ((self.first,),) = cursor.fetchall()
            elif read:
                self.first = max(mark for *_, mark in read)

    def held(self) -> Truth:
        return {id_: (v, 1) for id_, v in self.rows.items()}


def naive_replicas(dsn: str) -> dict[str, Naive]:
    return {
        "integer": Naive(dsn, "SELECT id, v, id FROM t WHERE id > %(last)s", 0, changes=("inserts",)),
        "timestamp": Naive(dsn, "SELECT id, v, updated_at FROM t WHERE updated_at > %(last)s", "-infinity"),
        "composite": Naive(
            dsn,
            "SELECT id, v, ARRAY[extract(epoch FROM updated_at)::numeric, id] FROM t"
            " WHERE ARRAY[extract(epoch FROM updated_at)::numeric, id] > %(last)s::numeric[] ORDER BY 3",
            [0, 0],
        ),
        "xmin": Naive(
            dsn,
            "SELECT id, v, 0 FROM t WHERE xmin::text::bigint > %(last)s",
            0,
            watermark_query="SELECT txid_current()",
        ),
        "append": Naive(
            dsn, "SELECT writer || '/' || n, '', at FROM history WHERE at > %(last)s", "-infinity", changes=("inserts",)
        ),
    }
