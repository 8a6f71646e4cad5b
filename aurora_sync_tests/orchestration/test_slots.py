"""All tables of a replication slot are one step; each asset has its own metadata and checks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from aurora_sync.config.checks import SlotCheck
from aurora_sync.config.tables import TableConfig
from aurora_sync.model.receipt import Slot
from aurora_sync.orchestration import checks
from aurora_sync.provisioning import replication
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync_tests.orchestration.conftest import Build, Execute, run
from aurora_sync_tests.orchestration.receipts import receipt

PARENTS, CHILDREN = dg.AssetKey(["public", "parents"]), dg.AssetKey(["public", "children"])
TABLES = """\
defaults: {{reconcile: {{schedule: "0 3 * * *"}}}}
tables:
  - {{table_name: parents, watermark_type: logical, slot: {slot}}}
  - {{table_name: children, watermark_type: logical, slot: {slot}, schedule: "0 * * * *"}}
"""


@pytest.fixture
def tables(settings: None, dsn: str, execute: Execute) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute("""
        CREATE TABLE parents (id int PRIMARY KEY);
        CREATE TABLE children (id int PRIMARY KEY, parent int REFERENCES parents);
        INSERT INTO parents VALUES (1);
        INSERT INTO children VALUES (1, 1);
    """)
    configs = [
        TableConfig.model_validate({"table_name": table, "watermark_type": "logical", "slot": name})
        for table in ("parents", "children")
    ]
    replication.set_up(dsn, configs, timeout="30s")
    yield TABLES.format(slot=name)
    with connect(dsn) as connection:
        slot.drop(connection, name)


def shown(instance: dg.DagsterInstance, key: dg.AssetKey) -> dict[str, Any]:
    event = instance.get_latest_materialization_event(key)
    assert event is not None
    assert event.asset_materialization is not None
    return {name: entry.value for name, entry in event.asset_materialization.metadata.items()}


def test_one_step_syncs_all_tables_of_a_slot(
    build: Build, instance: dg.DagsterInstance, tables: str, execute: Execute
) -> None:
    definitions = build(tables)
    assert run(definitions, instance).success
    execute("INSERT INTO parents VALUES (2); INSERT INTO children VALUES (2, 2); DELETE FROM children WHERE id = 1")
    result = run(definitions, instance)
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {PARENTS, CHILDREN}
    child = shown(instance, CHILDREN)
    assert (child["rows_inserted"], child["rows_deleted"], child["dagster/row_count"]) == (1, 1, 1)
    assert child["method"].startswith("stream of slot")
    assert child["slot_wal_status"] == "reserved"
    assert child["changes_waited_seconds"] >= 0
    judged = {(check.asset_key, check.check_name): check.passed for check in result.get_asset_check_evaluations()}
    assert len(judged) == 12
    assert all(judged.values())


def test_a_run_for_one_table_syncs_and_reports_the_others(
    build: Build, instance: dg.DagsterInstance, tables: str, execute: Execute
) -> None:
    definitions = build(tables)
    run(definitions, instance)
    execute("INSERT INTO parents VALUES (2); INSERT INTO children VALUES (2, 2)")
    result = run(definitions, instance, asset_selection=[PARENTS])
    assert {event.asset_key for event in result.get_asset_materialization_events()} == {PARENTS}
    assert shown(instance, CHILDREN)["rows_inserted"] == 1
    assert shown(instance, CHILDREN)["method"].startswith("stream of slot")


def test_a_table_that_fails_takes_no_other_with_it(
    build: Build, instance: dg.DagsterInstance, tables: str, execute: Execute
) -> None:
    definitions = build(tables)
    run(definitions, instance)
    execute('INSERT INTO parents VALUES (2); ALTER TABLE children ADD "ID" int')
    result = run(definitions, instance, raise_on_error=False)
    assert not result.success
    execute('ALTER TABLE children DROP "ID"; INSERT INTO children VALUES (3, 2)')
    assert run(definitions, instance).success
    assert shown(instance, CHILDREN)["dagster/row_count"] == 2
    assert shown(instance, PARENTS)["dagster/row_count"] == 2


def test_a_reconcile_is_asked_of_the_step_for_the_tables_that_are_due(
    build: Build, instance: dg.DagsterInstance, tables: str
) -> None:
    definitions = build(tables)
    run(definitions, instance)
    job = definitions.resolve_job_def("aurora_sync_reconcile_daily_at_03_00_public")
    assert job.execute_in_process(instance=instance).success
    assert shown(instance, PARENTS)["method"] == "horizon scan"
    assert shown(instance, PARENTS)["reconcile_buckets_compared"] == "1"
    assert run(definitions, instance).success
    assert shown(instance, CHILDREN)["method"].startswith("stream of slot")


def guard(**changes: Any) -> checks.CheckOutcome:
    found = Slot("s", None, 1, "reserved", 10**9, 5, None)
    return checks.slot(SlotCheck(max_retained_gb=2), receipt(slot=Slot(**vars(found) | changes)))


def test_the_guard_warns_of_wal_that_is_kept_and_fails_before_it_is_gone() -> None:
    assert guard().passed
    kept = guard(retained_bytes=3 * 10**9)
    assert (kept.passed, kept.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "more than 2 GB" in kept.text
    for status in ("unreserved", "lost"):
        found = guard(wal_status=status)
        assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert checks.slot(SlotCheck(), receipt()).passed is None
