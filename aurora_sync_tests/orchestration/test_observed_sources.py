"""Source tables are observed, and neither targets nor verifications look outdated because of it."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from aurora_sync.model.receipt import Receipt
from aurora_sync.orchestration.assets import observation
from aurora_sync_tests.orchestration.conftest import TABLES, Build, Execute, run
from aurora_sync_tests.orchestration.receipts import receipt
from aurora_sync_tests.orchestration.test_change_sensor import config

TABLE = dg.AssetKey(["public", "customers"])
SOURCE = dg.AssetKey(["aurora", "source", "public", "customers"])


@pytest.mark.usefixtures("no_settings")
def test_a_sync_observes_the_source_that_it_read(
    build: Build, receipts: list[Receipt], instance: dg.DagsterInstance
) -> None:
    receipts.append(receipt())
    result = run(build(TABLES), instance)
    (record,) = instance.fetch_observations(SOURCE, limit=2).records
    assert record.run_id == result.run_id
    assert record.asset_observation is not None
    assert str(record.asset_observation.metadata["state"].value).startswith("Read as of ")


def test_nothing_looks_outdated_after_a_verification_and_a_later_sync(
    customers: None, build: Build, execute: Execute, instance: dg.DagsterInstance, dsn: str
) -> None:
    definitions = build(TABLES)
    graph = definitions.resolve_asset_graph()
    verification = dg.AssetKey(["aurora_sync", "public", "verification"])
    database = dsn.rpartition("/")[2]

    def outdated() -> list[str]:
        resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
        keys = (TABLE, verification, dg.AssetKey(["aurora", database, "public", "customers"]))
        return [key.to_user_string() for key in keys if resolver.get_status(key) is not StaleStatus.FRESH]

    run(definitions, instance)
    run(definitions, instance, asset_selection=[verification])
    assert outdated() == []
    execute("INSERT INTO customers VALUES (11, 'eleven', NULL)")
    run(definitions, instance)
    assert outdated() == []
    instance.report_runless_asset_event(observation(config("customers"), database, "Unchanged"))
    assert outdated() == []
