"""The lease that the processes of one loader share."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import pytest

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.lease import Lease, LeaseError
from aurora_sync.objects.store import Store
from aurora_sync.stage import layout

TABLE = TableConfig.model_validate({"table_name": "orders", "watermark_type": "xmin"})
RUN = "Dagster run 1"


def held(store: Store) -> list[dict[str, Any]]:
    prefix = layout.lease_prefix(store.prefix, f"{TABLE.qualified_name} to {'.'.join(TABLE.target)}")
    return [json.loads(store.get(key) or b"{}") for key in store.list(prefix)]


def test_lease_of_a_run_outlives_its_steps_and_their_processes(store: Store) -> None:
    with Lease(store, TABLE, RUN):
        pass
    (left,) = held(store)
    assert (left["holder"], left["pid"]) == (RUN, None)  # the end of no process ends it
    assert datetime.fromisoformat(left["until"]) > datetime.now(UTC) + timedelta(seconds=200)
    with pytest.raises(LeaseError, match="Dagster run 1 loads the table"), Lease(store, TABLE):
        pass


def test_steps_of_one_run_hold_it_at_the_same_time(store: Store) -> None:
    with Lease(store, TABLE, RUN), Lease(store, TABLE, RUN), Lease(store, TABLE, RUN):
        assert [each["holder"] for each in held(store)] == [RUN]


def test_two_steps_that_renew_it_at_the_same_moment_both_hold_it(store: Store) -> None:
    put_new = store.put_new

    def raced(key: str, body: bytes) -> None:
        put_new(key, body.replace(b"T", b" "))  # another step of the run was faster, by another clock
        put_new(key, body)

    with mock.patch.object(store, "put_new", raced), Lease(store, TABLE, RUN):
        assert [each["holder"] for each in held(store)] == [RUN]


def test_last_step_releases_it(store: Store) -> None:
    with Lease(store, TABLE, RUN):
        pass
    Lease(store, TABLE, RUN).release()
    assert held(store) == []
    with Lease(store, TABLE) as lease:
        lease.assert_held()
        assert held(store)[0]["pid"] == os.getpid()


def test_no_other_loader_can_release_it(store: Store) -> None:
    with Lease(store, TABLE, RUN):
        pass
    Lease(store, TABLE, "Dagster run 2").release()
    assert [each["holder"] for each in held(store)] == [RUN]
