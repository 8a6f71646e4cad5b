"""Targets kept in memory: ours through the real source and strategies, the naive ones as their SQL is
usually written. Both see the same database at the same time."""

from __future__ import annotations

import csv
import io
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import psycopg2

from aurora_sync.config.tables import TableConfig
from aurora_sync.increment import Disposition, Watermark
from aurora_sync.source.source import Source
from aurora_sync.strategies import strategy_for
from aurora_sync.strategies.identity import covers, judge
from aurora_sync.validation import preflight


class Lines:
    """A sink that keeps what COPY writes."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()

    def write(self, data: bytes) -> object:
        return self._buffer.write(data)

    def rows(self) -> list[list[str]]:
        return list(csv.reader(io.StringIO(self._buffer.getvalue().decode(), newline="")))


@dataclass
class Replica:
    """What a target of ``config`` would hold: observe, judge, plan, copy, apply, as sync.run does it."""

    config: TableConfig
    source: Source
    watermark: Watermark | None = None
    rows: dict[str, str] = field(default_factory=dict)  # id -> v
    appended: Counter[tuple[str, ...]] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)
    exported: int = 0

    def sync(self) -> None:
        strategy = strategy_for(self.config.watermark_type.value)
        with self.source.reading(self.config.schema_, self.config.table_name) as reading:
            assert preflight.problems(self.config, reading.table, strategy) == []
            columns = preflight.selected_columns(self.config, reading.table)
            at = reading.observe(strategy.fence(self.config), max_minutes=1)
            what = covers(self.config, strategy, columns, preflight.merge_key(self.config, reading.table))
            since = judge(self.watermark, at, what).since
            plan = strategy.plan(self.config, reading.table, since, at)
            lines = Lines()
            assert reading.copy(columns, plan.where, lines) == len(lines.rows())
            value = strategy.advance(self.config, reading.table, since, at)
        self.methods[plan.method] += 1
        self.exported += len(lines.rows())
        if plan.disposition is Disposition.REPLACE:
            self.rows.clear()
            self.appended.clear()
        for id_, v, *_ in lines.rows():
            if self.config.append_only:
                self.appended[id_, v] += 1
            else:
                self.rows[id_] = v
        # Through its JSON form, as a run's watermark reaches the next one.
        after = Watermark(strategy.name, value, at.snapshot, at.token, what)
        self.watermark = Watermark.from_json(after.to_json())


@dataclass
class Naive:
    """A cursor over the maximum of what was seen, with the SQL of the usual advice."""

    dsn: str
    query: str  # one parameter: the last watermark
    first: Any
    watermark_query: str | None = None  # else the last watermark is the greatest third column read
    rows: dict[str, str] = field(default_factory=dict)

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


def naive_replicas(dsn: str) -> dict[str, Naive]:
    return {
        "integer": Naive(dsn, "SELECT id, v, id FROM t WHERE id > %(last)s", 0),
        "timestamp": Naive(dsn, "SELECT id, v, updated_at FROM t WHERE updated_at > %(last)s", "-infinity"),
        "composite": Naive(
            dsn,
            "SELECT id, v, ARRAY[extract(epoch FROM updated_at), id] FROM t"
            " WHERE ARRAY[extract(epoch FROM updated_at), id] > %(last)s::numeric[] ORDER BY 3",
            [0, 0],
        ),
        "xmin": Naive(
            dsn,
            "SELECT id, v, 0 FROM t WHERE xmin::text::bigint > %(last)s",
            0,
            watermark_query="SELECT txid_current()",
        ),
    }


def compare(replica: dict[str, str], truth: dict[str, str]) -> dict[str, int]:
    """Rows missing, stale and (deleted at the source, kept here) ghosts."""
    return {
        "missing": len(truth.keys() - replica.keys()),
        "stale": sum(replica[id_] != v for id_, v in truth.items() if id_ in replica),
        "ghosts": len(replica.keys() - truth.keys()),
    }
