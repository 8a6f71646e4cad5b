"""The fixtures that all tests share, one file per subject, and the tier of each test (docs/testing.md)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

# No test has a limit of time: the machines are shared.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

pytest_plugins = [
    "aurora_sync_tests.fixtures.local_stack",
    "aurora_sync_tests.fixtures.source_database",
    "aurora_sync_tests.fixtures.object_store",
    "aurora_sync_tests.fixtures.aurora_functions",
    "aurora_sync_tests.fixtures.duckdb_warehouse",
    "aurora_sync_tests.fixtures.sent_statements",
    "aurora_sync_tests.fixtures.fakesnow_server",
    "aurora_sync_tests.fixtures.private_server",
    "aurora_sync_tests.fixtures.wrapped_cluster",
]

# Their session fixtures take seconds of CPU: an engine with eight connectors, a Java process, a server whose counter is
# moved. Each worker that runs one of the tests makes them.
TOGETHER = tuple(f"/scenarios/{folder}/" for folder in ("debezium_events", "debezium", "wrapped_transaction_ids"))


class OneByOne(LoadScopeScheduling):  # type: ignore[misc]
    """Sends tests to the workers one by one, and all tests of a folder of TOGETHER to one worker, first of all."""

    def _split_scope(self, nodeid: str) -> str:
        return next((folder for folder in TOGETHER if folder in nodeid), nodeid)


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is no such hook
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneByOne:
    return OneByOne(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start a server: every test that uses the stack, directly or through another fixture, or uses
    all warehouses and gets one that is a server."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        if "stack" in getattr(item, "fixturenames", ()) or (
            callspec and callspec.params.get("warehouse") in ("snowflake", "postgres")
        ):
            item.add_marker(pytest.mark.servers)
