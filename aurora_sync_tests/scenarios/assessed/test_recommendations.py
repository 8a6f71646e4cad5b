"""A legacy database with known right answers: each recommendation is right, and the configuration it writes syncs all
tables to equality while others write."""

from __future__ import annotations

import random
import threading
import time
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import psycopg2
import pytest

from aurora_sync.advisor import proposal
from aurora_sync.advisor.evidence import Evidence
from aurora_sync.advisor.notes import notes
from aurora_sync.advisor.recommend import Option, Recommendation, contradictions, recommend
from aurora_sync.config.advisor import Advisor
from aurora_sync.config.loader import expand, load
from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync_tests.fixtures.server_build import FLUSH_STATISTICS
from aurora_sync_tests.scenarios.assessed.conftest import evidence_of
from aurora_sync_tests.scenarios.assessed.legacy_tables import TABLES
from aurora_sync_tests.scenarios.world import World


def test_every_table_gets_the_strategy_that_is_right_for_it(unchanged_legacy: World) -> None:
    evidence = evidence_of(unchanged_legacy)
    found = {each.table.table.name: each for each in recommend(evidence, Advisor())}
    assert len(TABLES) >= 40
    wrong = []
    for table in TABLES:
        each = found.pop(table.name)
        now, best = each.now and each.now.name, each.best and each.best.name
        if (now, best) != (table.now, table.best or table.now):
            shown = [(o.name, o.refused, o.points, o.why) for o in each.options]
            wrong.append(f"{table.name}: {now}, better {best}; should be {table.now}, {table.best}; {shown}")
        if table.refuses:
            name, words = table.refuses
            whys = [option.why for option in each.options if option.name == name]
            if not any(words in why for why in whys):
                wrong.append(f"{table.name}: {name} should be refused by {words!r}: {whys}")
        if table.notes not in "\n".join(notes(each.table)):
            wrong.append(f"{table.name}: no note says {table.notes!r}: {list(notes(each.table))}")
    assert not wrong, "\n".join(wrong)
    assert sorted(found) == ["children"]  # a child of a parent, synced by itself


def test_what_is_written_syncs_every_table_to_equality_under_writers(
    legacy: World, world: World, tmp_path: Path
) -> None:
    evidence = evidence_of(legacy)
    recommendations = recommend(evidence, Advisor())
    path = tmp_path / "tables.yaml"
    path.write_text(proposal.as_yaml(recommendations, evidence, Advisor()), encoding="utf-8")
    configs = expand(load(path), [])
    assert {config.table_name for config in configs} == {t.name for t in TABLES if t.now} | {"children"}
    assert list(proposal.differences(configs, recommendations, evidence, Advisor(), ())) == []
    seed = random.SystemRandom().randrange(10**6)
    print("seed", seed)
    stop, written = threading.Event(), [0, 0, 0]
    threads = [
        threading.Thread(target=_write, args=(world, random.Random(seed + n), n, stop, written)) for n in (0, 1, 2)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(2):
            for config in configs:
                legacy.sync(config)
        while sum(written) <= 100 and all(thread.is_alive() for thread in threads):
            time.sleep(0.01)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    world.execute("REFRESH MATERIALIZED VIEW names_kept")
    for config in configs:
        legacy.sync(config, reconcile=config.reconcile is not None)
        world.assert_equal(config)
    assert sum(written) > 100
    print(f"{sum(written):,} writes into {len(configs)} tables")


def _write(world: World, dice: random.Random, number: int, stop: threading.Event, written: list[int]) -> None:
    """Run the statements of the applications; some are rolled back, some commit late."""
    statements = [statement for table in TABLES if table.now for statement in table.statements()]
    with world.session() as connection:
        while not stop.is_set():
            with connection.cursor() as cursor:
                for statement in dice.sample(statements, dice.randint(1, 4)):
                    n = number * 10_000 + written[number]
                    with suppress(psycopg2.errors.UniqueViolation):
                        cursor.execute("SAVEPOINT s")
                        cursor.execute(statement.replace("{n}", str(n)))
                        written[number] += 1
                        continue
                    cursor.execute("ROLLBACK TO s")
                if dice.random() < 0.3:
                    stop.wait(0.2)
            connection.rollback() if dice.random() < 0.15 else connection.commit()


@pytest.mark.parametrize(
    ("limits", "table", "name", "words"),
    [
        (Advisor(replication=False), "baskets", "logical", "not allowed (advisor: replication)"),
        (Advisor(ddl=False), "baskets", "outbox", "needs triggers on the table, which are not allowed (advisor: ddl)"),
        (Advisor(deletes_at_once=True), "baskets", "xmin", "deletes must reach the target with the next run"),
        (Advisor(max_read_per_day="1MB", freshness="1m"), "tickets", "xmin", "max_read_per_day is 1.0 MB"),
    ],
)
def test_limits_refuse_what_they_exclude(
    unchanged_legacy: World, limits: Advisor, table: str, name: str, words: str
) -> None:
    evidence = evidence_of(unchanged_legacy)
    evidence = replace(evidence, since=evidence.taken_at - timedelta(hours=2))
    each = next(r for r in recommend(evidence, limits) if r.table.table.name == table)
    option = next(option for option in each.options if option.name == name)
    assert option.refused
    assert words in option.why


def test_counters_that_began_behind_the_rows_prove_nothing(legacy: World, world: World) -> None:
    """A crash resets the counters to zero: no counted delete does not mean that there was none."""

    def now(evidence: Evidence, name: str) -> Option:
        each = next(r for r in recommend(evidence, Advisor()) if r.table.table.name == name)
        assert each.now is not None
        return each.now

    whole = evidence_of(legacy)
    assert (now(whole, "events").name, now(whole, "audit_trail").name) == ("integer", "append_only")
    assert now(whole, "customers").config.reconcile is None
    world.execute("SELECT pg_stat_reset()", "INSERT INTO events (v) VALUES ('new')", FLUSH_STATISTICS)
    # Servers before PostgreSQL 15 write counters, and reset them, in a process of their own.
    counted = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'events'"
    while world.execute(counted) != [(1,)]:
        time.sleep(0.05)
    lost = evidence_of(legacy)
    assert (now(lost, "events").name, now(lost, "audit_trail").name) == ("xmin", "full_snapshot")
    assert now(lost, "events").config.reconcile is not None
    config = TableConfig(table_name="events", watermark_type=WatermarkType.integer, watermark_col="id")
    each = next(r for r in recommend(lost, Advisor()) if r.table.table.name == "events")
    assert contradictions(config, each, lost, Advisor()) == []  # and they do not contradict the current configuration


def test_rows_that_were_truncated_are_looked_for(legacy: World, world: World) -> None:
    world.execute("TRUNCATE customers", "INSERT INTO customers (id, v) SELECT g, 'v' FROM generate_series(1, 400) g")
    world.execute("ANALYZE customers", FLUSH_STATISTICS)
    evidence = evidence_of(legacy)
    each = next(r for r in recommend(evidence, Advisor()) if r.table.table.name == "customers")
    option = next(option for option in each.options if option.name == "xmin")
    assert option.config.reconcile is not None


def test_server_that_hides_its_age_is_assessed(legacy: World, world: World) -> None:
    world.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    evidence = evidence_of(legacy)
    assert (evidence.xids_per_day, len(evidence.tables) > 40) == (None, True)


def test_outbox_is_what_remains_where_neither_a_slot_nor_a_reconcile_will_do(legacy: World, world: World) -> None:
    limits = Advisor(replication=False, deletes_at_once=True)
    config = TableConfig(table_name="baskets", watermark_type=WatermarkType.outbox)

    def found() -> tuple[Recommendation, list[str]]:
        evidence = evidence_of(legacy)
        each = next(r for r in recommend(evidence, limits) if r.table.table.name == "baskets")
        return each, contradictions(config, each, evidence, limits)

    each, unfit = found()
    assert each.best is not None
    assert each.now is not None
    assert (each.best.name, each.now.name) == ("outbox", "full_snapshot")
    assert each.best.needs == ("triggers on the table: `aurora-sync triggers plan public.baskets`",)
    assert unfit == ["the strategy needs triggers on the table: `aurora-sync triggers plan public.baskets`"]
    world.make(config)
    world.execute('GRANT USAGE ON SCHEMA aurora_sync TO public; GRANT ALL ON aurora_sync."public.baskets" TO public')
    each, unfit = found()
    assert each.now is each.best
    assert each.now is not None
    assert (each.now.name, each.now.needs, unfit) == ("outbox", (), [])
    assert "triggers record changed keys in aurora_sync.public.baskets" in "\n".join(notes(each.table))
    world.execute("ALTER TABLE baskets DISABLE TRIGGER zzz_aurora_sync_row")
    assert found()[1] == ["the strategy needs triggers on the table: `aurora-sync triggers plan public.baskets`"]


def test_an_entry_that_no_longer_fits_is_told_with_the_reason(unchanged_legacy: World, tmp_path: Path) -> None:
    evidence = evidence_of(unchanged_legacy)
    recommendations = recommend(evidence, Advisor())
    path = tmp_path / "tables.yaml"
    path.write_text(
        "tables:\n"
        "- {table_name: events_corrected, watermark_type: integer, watermark_col: id}\n"
        "- {table_name: baskets, watermark_type: xmin}\n"
        "- {table_name: gone, watermark_type: xmin}\n"
        "- {table_name: elsewhere, watermark_type: xmin}\n"
        "- {table_name: events, watermark_type: integer, watermark_col: id}\n"
        "- {table_name: tickets, watermark_type: full_snapshot}\n"
    )
    configs, existing = expand(load(path), []), [("public", "elsewhere")]
    found = "\n".join(proposal.differences(configs, recommendations, evidence, Advisor(), existing))
    assert "elsewhere" not in found
    assert "~ public.events_corrected: integer no longer fits: 20 rows were updated" in found
    assert "~ public.baskets: xmin no longer fits: 20 rows were deleted" in found
    assert "- public.gone: the table no longer exists" in found
    assert "~ public.tickets: full_snapshot no longer fits: every run reads and moves all" in found
    assert "+ public.customers: no entry configures the table" in found
    assert "public.events:" not in found
    assert WatermarkType.integer.value in found
