"""Runs that die between any two steps, beside writers of every kind: the target has no wrong row, but the usual
consumer has many."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync.stage.writer import Attempt, Stage
from aurora_sync.warehouse import apply as applying
from aurora_sync.warehouse import sync_log
from aurora_sync.warehouse.duckdb import DuckDBSession
from aurora_sync_tests.scenarios.logical import writers
from aurora_sync_tests.scenarios.logical.conftest import Streamed
from aurora_sync_tests.scenarios.logical.naive import NaiveTable, consume

Step = tuple[Any, str, bool]  # owner and name of a function, and whether the run dies after it or before


class Died(BaseException):
    """An error that no code of the product catches."""


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, after: bool) -> Iterator[None]:
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(*arguments: Any, **keywords: Any) -> None:
        if after:
            original(*arguments, **keywords)
        raise Died(name)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wrapped)
        yield


STEPS: list[Step] = [
    (slot, "mark", True),
    (slot, "drain", True),
    (Attempt, "close", True),
    (Stage, "commit", True),
    (DuckDBSession, "load", True),
    (sync_log, "advance", True),
    (sync_log, "record", True),
    (applying, "drop_staging", False),  # committed
    (slot, "advance", False),
    (slot, "advance", True),
    (Stage, "confirm", False),
]


def schedule(dice: random.Random, steps: list[Step], quiet: int, times: int) -> list[Step | None]:
    """Return the step at which each run dies: all steps equally often, in random order, with ``quiet`` runs that
    succeed."""
    found = [*steps, *[None] * quiet] * times
    dice.shuffle(found)
    return found


# The bytes that a run holds in memory before it writes parts.
PENDING = {"in memory": 256_000_000, "in parts": 20_000}
A_RUN = 80  # transactions during one run


def rows_of(streamed: Streamed, statement: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Return the rows as text, by their key."""
    width = 1 if " t" in statement else 2
    rows = [tuple(v.encode() if v is not None else None for v in row) for row in streamed.world.execute(statement)]
    return {row[:width]: row for row in rows}


@pytest.mark.parametrize(
    ("times", "pending"),
    [
        pytest.param(1, list(PENDING.values()), id="either"),
        *(pytest.param(3, [size], id=name, marks=pytest.mark.long) for name, size in PENDING.items()),
    ],
)
def test_no_row_is_wrong_whenever_runs_die(
    streamed: Streamed, other_slot: str, monkeypatch: pytest.MonkeyPatch, times: int, pending: list[int]
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    dice, world = random.Random(seed), streamed.world
    monkeypatch.setattr("aurora_sync.engine.runners.slot.BEHIND_BYTES", 200_000)
    monkeypatch.setattr("aurora_sync.source.logical.slot._EVERY_BYTES", 10_000)
    tables = streamed.table("t"), streamed.table("u")
    world.execute(*writers.TABLES)
    streamed.setup(*tables)
    slot.create(world.dsn, other_slot, timeout="30s")
    naive = {table: NaiveTable(width) for table, width in (("t", 1), ("u", 2))}
    oids = {
        oid: naive[name] for oid, name in world.execute("SELECT oid, relname FROM pg_class WHERE relname IN ('t', 'u')")
    }
    died = 0
    # the writers truncate: a scan may find an empty table

    def usual() -> None:
        """Confirm the slot, then load; a crash in between is as frequent as in the product's runs."""
        with connect(world.dsn) as connection:
            mark, _ = slot.mark(connection)
            before = {name: dict(table.rows) for name, table in naive.items()}
            slot.advance(connection, other_slot, consume(world.dsn, other_slot, streamed.name, mark, dict(oids)))
            if dice.random() < 0.1:
                for name, table in naive.items():
                    table.rows = before[name]

    runs = schedule(dice, STEPS, 4, times)
    with writers.writing(world.dsn, seed) as done:
        for number, step in enumerate(runs):
            done.until(A_RUN * number, A_RUN * (number + 1))
            monkeypatch.setattr("aurora_sync.engine.runners.member.PENDING_BYTES", dice.choice(pending))
            if step:
                owner, name, after = step
                with dying(monkeypatch, owner, name, after=after):
                    try:
                        streamed.run(*tables, allow_deletes=True)
                    except Died:
                        died += 1
            else:
                streamed.run(*tables, allow_deletes=True)
            usual()
    receipts = streamed.run(*tables, allow_deletes=True)
    receipts = streamed.run(*tables, allow_deletes=True)
    assert all(receipt.method.startswith("stream") for receipt in receipts.values())
    usual()
    for table in tables:
        world.assert_equal(table)
    wrong = {
        name: table.wrong(rows_of(streamed, f"SELECT {columns} FROM {name}"))
        for (name, table), columns in zip(
            naive.items(), ("id::text, doc, n::text, tags", "a::text, b, doc"), strict=True
        )
    }
    print(
        f"{done.committed:,} transactions, {died} of {len(runs)} runs died, 0 rows wrong; the usual consumer: {wrong}"
    )
    assert died > 3
    assert sum(wrong.values()), f"the writers were too tame: {wrong}"
    for table in tables:
        world.assert_verified(table)
