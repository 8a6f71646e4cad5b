"""One trial: every strategy against writers that commit out of order, and the usual SQL on the same data.

Syncs run every few milliseconds while transactions last up to a second, so that a strategy misses here whatever it can
miss. The naive cursors do miss rows, which shows that the writers are hard enough.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from unittest import mock

import psycopg2

from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.source.database import Source
from aurora_sync.strategies import clock
from aurora_sync_tests.scenarios.random_writers.replicas import (
    Difference,
    Replica,
    Synced,
    Target,
    Truth,
    compare,
    naive_replicas,
)
from aurora_sync_tests.scenarios.random_writers.writers import TABLE, Writers, writing_in_another_database
from aurora_sync_tests.scenarios.world import World

# Narrows the margin of the clock fence, which would cover most of a trial.
MARGIN = timedelta(milliseconds=50)

# If the expected event has not happened by then, it will not happen in this trial.
GIVE_UP_SECONDS = 240.0

# How ids are created, what is declared about them, and the method that the integer strategy must then choose.
DECLARED: dict[str, object] = {"watermark_set_by": "database"}
IDS: dict[str, tuple[str, int, dict[str, object], str]] = {
    "identity": ("GENERATED ALWAYS AS IDENTITY", 1, {}, "lock fence"),
    "serial": ("DEFAULT nextval('ids')", 1, DECLARED, "lock fence"),
    "cache": ("DEFAULT nextval('ids')", 20, DECLARED, "horizon scan"),
    "application": ("", 1, {}, "horizon scan"),
}

TRUTHS = {
    "t": "SELECT id::text, v, 1 FROM t",
    "history": "SELECT writer || '/' || n, '', count(*)::int FROM history GROUP BY 1",
}


def our_replicas(dsn: str, ids: str) -> dict[str, Replica]:
    """Return the product's replicas by the name of their line in the table."""
    _, _, declared, _ = IDS[ids]
    options: dict[str, dict[str, object]] = {
        "xmin": {"watermark_type": "xmin"},
        "integer": {"watermark_type": "integer", "watermark_col": "id", **declared},
        "timestamp": {"watermark_type": "timestamp", "watermark_col": "updated_at"},
        "composite": {"watermark_type": "composite", "watermark_cols": ["updated_at", "id"]},
        "full_snapshot": {"watermark_type": "full_snapshot"},
        "outbox": {"watermark_type": "outbox"},
        "append": {"watermark_type": "xmin", "table_name": "history", "append_only": True},
    }
    return {
        name: Replica(TableConfig.model_validate({"table_name": "t", **keys}), Source(dsn))
        for name, keys in options.items()
    }


def reconciled_targets(world: World, ids: str) -> dict[str, Synced]:
    """Return targets whose cursors see no deletes, or no updates either, and that are reconciled at every run."""
    xmin = {"watermark_type": "xmin", "target_table": "by_xmin"}
    integer = {"watermark_type": "integer", "watermark_col": "id", "target_table": "by_integer", **IDS[ids][2]}
    return {
        f"{name} + rec.": Synced(world, TableConfig.model_validate({"table_name": "t", **keys}))
        for name, keys in (("xmin", xmin), ("integer", integer))
    }


@dataclass(frozen=True)
class Outcome:
    """The result of one target. ``lost`` are the rows that it claims but lacks, or has too often."""

    difference: Difference
    lost: list[str]
    certified: bool
    examples: list[str]


@dataclass(frozen=True)
class Trial:
    ids: str
    seed: int
    written: int  # committed statements that wrote to t
    ours: dict[str, Outcome]
    naive: dict[str, Outcome]
    unused: tuple[str, ...] = ()  # strategies that never used their own method, because the machine was too slow

    @property
    def tame(self) -> bool:
        """Return whether some naive cursor has not lost anything yet."""
        return not all(outcome.lost for outcome in self.naive.values())

    def lost(self) -> dict[str, int]:
        """Return the rows that each strategy of the product lost of those it claims, without strategies that lost
        none."""
        return {name: len(outcome.lost) for name, outcome in self.ours.items() if outcome.lost}

    def __str__(self) -> str:
        naive = {name: len(outcome.lost) for name, outcome in self.naive.items()}
        return f"ids {self.ids}, seed {self.seed}: {self.written} rows written; ours lost {self.lost()}, naive {naive}"


def trial(
    world: World,
    other_dsn: str,
    *,
    ids: str,
    seed: int,
    seconds: float,
    enough: Callable[[Trial], bool] = lambda _: True,
) -> Trial:
    """Write to an empty database for a time, sync all the while, and once more at the end. A slow machine gets more
    time: until every strategy has used its own method, and then again until it is ``enough``."""
    dsn = world.dsn
    column, cache, _, expected_method = IDS[ids]
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(TABLE.format(id=column, cache=cache))
    world.make(TableConfig(table_name="t", watermark_type=WatermarkType.outbox))
    replicas, naive = our_replicas(dsn, ids), naive_replicas(dsn)
    ours: dict[str, Target] = {**replicas, **reconciled_targets(world, ids)}
    targets: list[Target] = [*ours.values(), *naive.values()]
    dice = random.Random(seed)
    writers = Writers(dsn, seed, ids="application" if ids == "application" else "identity")
    methods = {"integer": expected_method, "timestamp": "clock fence", "outbox": "outbox"}

    def unused() -> tuple[str, ...]:
        return tuple(name for name, method in methods.items() if not replicas[name].methods[method])

    with mock.patch.object(clock, "MARGIN", MARGIN):
        begun = time.monotonic()
        while True:
            writers.start()
            try:
                with writing_in_another_database(other_dsn):
                    deadline = time.monotonic() + seconds
                    while time.monotonic() < deadline or (unused() and not _late(begun)):
                        _sync(dice.sample(targets, len(targets)))
            finally:
                writers.stop()
            _sync(targets)
            truths = _truths(dsn)
            assert truths["history"].keys() == {f"{writer}/{n}" for writer, n in writers.journal}
            done = Trial(
                ids,
                seed,
                len(writers.journal),
                {name: _outcome(target, truths[target.table]) for name, target in ours.items()},
                {name: _outcome(target, truths[target.table]) for name, target in naive.items()},
                unused(),
            )
            if done.lost() or enough(done) or _late(begun):
                break
    return done


def _late(begun: float) -> bool:
    return time.monotonic() - begun > GIVE_UP_SECONDS


def _sync(targets: Iterable[Target]) -> None:
    for target in targets:
        target.sync()


def _truths(dsn: str) -> dict[str, Truth]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        found: dict[str, Truth] = {}
        for table, query in TRUTHS.items():
            cursor.execute(query)
            found[table] = {key: (v, times) for key, v, times in cursor.fetchall()}
        return found


def _outcome(target: Target, truth: Truth) -> Outcome:
    held = target.held()
    difference = compare(held, truth)
    lost = difference.of(*target.changes)
    examples = [f"{key}: source {truth.get(key)}, target {held.get(key)}" for key in lost[:5]]
    return Outcome(difference, lost, target.certified, examples)
