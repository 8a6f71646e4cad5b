"""Every strategy against writers that commit out of order, with the usual SQL beside it on the same data.

The syncs run every few milliseconds while transactions last up to a second: any row that a strategy can
miss, it misses here. The naive cursors do, which shows that the writers are hard enough.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.source.source import Source
from aurora_sync.strategies import clock
from aurora_sync_tests.scenarios.random_writers.replicas import Naive, Replica, compare, naive_replicas
from aurora_sync_tests.scenarios.random_writers.writers import TABLE, Writers

OURS: dict[str, dict[str, object]] = {
    "xmin": {"watermark_type": "xmin"},
    "integer": {"watermark_type": "integer", "watermark_col": "id"},
    "timestamp": {"watermark_type": "timestamp", "watermark_col": "updated_at"},
    "composite": {"watermark_type": "composite", "watermark_cols": ["updated_at", "id"]},
    "full_snapshot": {"watermark_type": "full_snapshot"},
}
# How ids are made, what is declared of them, and the method that the integer strategy must then choose.
DECLARED = {"watermark_set_by": "database"}
IDS: dict[str, tuple[str, int, dict[str, object], str]] = {
    "identity": ("GENERATED ALWAYS AS IDENTITY", 1, {}, "lock fence"),
    "serial": ("DEFAULT nextval('ids')", 1, DECLARED, "lock fence"),
    "cache": ("DEFAULT nextval('ids')", 20, DECLARED, "horizon scan"),
    "application": ("", 1, {}, "horizon scan"),
}


def trial(dsn: str, other_dsn: str, *, ids: str, seed: int, seconds: float) -> tuple[Counter[str], dict[str, int]]:
    """One trial; returns the rows our strategies lost or left stale, by strategy, and those of the naive SQL."""
    column, cache, declared, expected_method = IDS[ids]
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(TABLE.format(id=column, cache=cache))
    options = OURS | {"integer": OURS["integer"] | declared}
    ours = {name: _replica(dsn, options[name], "t") for name in OURS}
    history = _replica(dsn, {"watermark_type": "xmin", "append_only": True}, "history")
    naive = naive_replicas(dsn)
    writers = Writers(dsn, seed, ids="application" if ids == "application" else "identity")
    writers.start()
    elsewhere = threading.Event()
    holder = threading.Thread(target=_write_in_another_database, args=(other_dsn, elsewhere))
    holder.start()
    try:
        _sync_until(time.monotonic() + seconds, [*ours.values(), history, *naive.values()], seed)
    finally:
        writers.stop()
        elsewhere.set()
        holder.join()
    _sync_until(0, [*ours.values(), history, *naive.values()], seed)
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT id::text, v FROM t")
        truth = dict(cursor.fetchall())
        cursor.execute("SELECT writer::text, n::text, count(*) FROM history GROUP BY 1, 2")
        appended = Counter({(writer, n): count for writer, n, count in cursor.fetchall()})

    assert ours["integer"].methods[expected_method] > 0, ours["integer"].methods
    assert ours["timestamp"].methods["clock fence"] > 0, ours["timestamp"].methods
    differences = {name: compare(replica.rows, truth) for name, replica in ours.items()}
    wrong = Counter(
        {
            "xmin": differences["xmin"]["missing"] + differences["xmin"]["stale"],
            "integer": differences["integer"]["missing"],
            "timestamp": differences["timestamp"]["missing"] + differences["timestamp"]["stale"],
            "composite": differences["composite"]["missing"] + differences["composite"]["stale"],
            "full_snapshot": sum(differences["full_snapshot"].values()),
            "append": (history.appended - appended).total() + (appended - history.appended).total(),
        }
    )
    lost = {name: compare(replica.rows, truth)["missing"] for name, replica in naive.items()}
    print(
        f"ids {ids}, seed {seed}: {writers.committed} transactions, {len(truth)} rows;"
        f" ours {dict(wrong)}, naive missing {lost}, exported { ({n: r.exported for n, r in ours.items()}) }"
    )
    return wrong, lost


def _replica(dsn: str, options: dict[str, object], table: str) -> Replica:
    return Replica(TableConfig.model_validate({"table_name": table, **options}), Source(dsn))


def _sync_until(deadline: float, replicas: list[Replica | Naive], seed: int) -> None:
    dice = random.Random(seed)
    while True:
        for replica in dice.sample(replicas, len(replicas)):
            replica.sync()
        if time.monotonic() > deadline:
            return


def _write_in_another_database(dsn: str, done: threading.Event) -> None:
    """A long writing transaction elsewhere in the cluster holds the horizon back."""
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS elsewhere (a int)")
        while not done.wait(0.5):
            cursor.execute("INSERT INTO elsewhere VALUES (1)")
            if done.wait(1):
                break
            connection.commit()


@pytest.fixture(autouse=True)
def _narrow_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock fence alone, without the minute of margin that would cover most of a trial."""
    monkeypatch.setattr(clock, "MARGIN", timedelta(milliseconds=50))


@pytest.mark.parametrize("ids", IDS)
def test_no_strategy_loses_a_row_and_every_naive_cursor_does(dsn: str, other_dsn: str, ids: str) -> None:
    wrong, lost = trial(dsn, other_dsn, ids=ids, seed=random.SystemRandom().randrange(10**6), seconds=5)
    assert wrong.total() == 0, wrong
    assert all(lost.values()), f"the writers were too tame: {lost}"


@pytest.mark.long
@pytest.mark.parametrize("number", range(20))
@pytest.mark.parametrize("ids", IDS)
def test_no_strategy_loses_a_row_in_many_trials(dsn: str, other_dsn: str, ids: str, number: int) -> None:
    wrong, _ = trial(dsn, other_dsn, ids=ids, seed=random.SystemRandom().randrange(10**6), seconds=8)
    assert wrong.total() == 0, wrong
