"""Measure the cost of Dagster: loading N tables, an idle tick of the change sensor, and the run of one table.

A mock replaces the sync and returns at once, so that only orchestration is measured. No source, stage or warehouse is
needed. ``--json`` prints one object on the last line.
"""

# ruff: noqa: E402 - the search path must be changed first
from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

# Python puts the folder of a script first in the search path, where this file would be imported as `dagster`.
sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).resolve().parent]

import dagster as dg

from aurora_sync.config.loader import expand, load
from aurora_sync.engine import sync
from aurora_sync.model.certificate import Certificate, Level
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.watermark import Snapshot, Token, Watermark
from aurora_sync.orchestration import change_sensor
from aurora_sync.orchestration.assets import TableAsset, asset_key
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync.orchestration.resources import Connections

RUNS = 20  # runs of one table that are counted; one run before is not


def receipt(sequence: int) -> Receipt:
    token = Token("1", 1, 18, 1, "2026-01-01T00:00:00+00:00", False, 1, {})
    before, after = (
        Watermark("xmin", {}, Snapshot(n, n, datetime(2026, 1, 1, tzinfo=UTC)), token) for n in (sequence, sequence + 1)
    )
    columns = tuple(Column(f"column_{i}", i, "text", "text") for i in range(12))
    return Receipt(
        table="public.t0",
        target="PUBLIC.T0",
        strategy="xmin",
        method="horizon scan",
        load_id="benchmark",
        disposition=Disposition.UPSERT,
        run_sequence=sequence,
        changed=True,
        rows_exported=1,
        bytes_staged=100,
        inserted=1,
        updated=0,
        deleted=0,
        source_rows=sequence,
        target_rows=sequence,
        watermark_before=before,
        watermark_after=after,
        manifest_uri="s3://bucket/manifest.json",
        columns=columns,
        key=("column_0",),
        sees_deletes=False,
        watermark_lag_seconds=0.0,
        certificate=Certificate(Level.CERTIFIED, ("inserts", "updates"), "a benchmark"),
        seconds={"plan": 0.0, "export": 0.0, "load": 0.0, "merge": 0.0, "total": 0.0},
    )


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="aurora_sync_benchmark_"))
    path = folder / "tables.yaml"
    entries = [f"  - {{table_name: t{i}, watermark_type: xmin, freshness: 2h}}\n" for i in range(arguments.tables)]
    path.write_text("tables:\n" + "".join(entries), encoding="utf-8")

    imported_mb = resident_mb()
    began = time.perf_counter()
    config = load(path)
    definitions = build_definitions(config, Connections(embedded_directory=str(folder)))
    repository = definitions.get_repository_def()
    repository.load_all_definitions()
    load_seconds = time.perf_counter() - began
    load_mb = resident_mb() - imported_mb

    tables = [TableAsset(table, dg.AssetSpec(asset_key(table))) for table in expand(config, ())]
    marks = {table.name: "00000000" for table in tables}
    memory = {name: change_sensor.Request(mark, at=0.0, requested=0.0) for name, mark in marks.items()}
    storage = folder / "dagster"
    storage.mkdir()
    (storage / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    with dg.DagsterInstance.local_temp(str(storage)) as instance:
        began = time.perf_counter()
        idle = change_sensor.tick(instance, "benchmark", tables, memory, marks, 30.0, "app")
        tick_seconds = time.perf_counter() - began
        assert not idle.run_requests

        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        jobs = {"ours": load_one(path), "plain": plain_asset()}
        with mock.patch.object(sync, "run") as run, mock.patch.object(Connections, "places"):
            for sequence in range(1, RUNS + 2):
                run.return_value = receipt(sequence)
                for name, job in jobs.items():
                    began = time.perf_counter()
                    assert job.execute_in_process(instance=instance).success
                    seconds[name].append(time.perf_counter() - began)
    ours, plain = (statistics.median(taken[1:]) for taken in seconds.values())
    numbers = {
        "tables": arguments.tables,
        "load_seconds": round(load_seconds, 2),
        "load_mb": round(load_mb, 1),
        "idle_tick_seconds": round(tick_seconds, 4),
        "cursor_kb": round(len(idle.cursor or "") / 1024, 1),
        "table_run_ms": round(ours * 1000, 1),
        "ratio": round(ours / plain, 2),
    }
    print(f"load {arguments.tables} tables: {numbers['load_seconds']} s, {numbers['load_mb']} MB")
    print(f"idle tick, without its one query: {numbers['idle_tick_seconds']} s; cursor {numbers['cursor_kb']} KB")
    print(f"one table's run on SQLite: {numbers['table_run_ms']} ms, {numbers['ratio']} of an empty asset with checks")
    if arguments.json:
        print(json.dumps(numbers))


def load_one(path: Path) -> dg.JobDefinition:
    path.write_text("tables:\n  - {table_name: t0, watermark_type: xmin}\n", encoding="utf-8")
    table = dg.define_asset_job("one", dg.AssetSelection.keys("public/t0"))
    definitions = dg.Definitions.merge(build_definitions(load(path)), dg.Definitions(jobs=[table]))
    return definitions.resolve_job_def("one")


def plain_asset() -> dg.JobDefinition:
    """Return a job with an empty asset and three checks, the least work for Dagster."""
    checks = [dg.AssetCheckSpec(name, asset="plain") for name in ("row_count", "watermark", "merge_key")]

    @dg.asset(check_specs=checks)
    def plain():  # type: ignore[no-untyped-def]  # Dagster reads annotations, and these are strings
        yield dg.MaterializeResult()
        for check in checks:
            yield dg.AssetCheckResult(check_name=check.name, passed=True)

    return dg.Definitions(assets=[plain]).resolve_implicit_global_asset_job_def()


if __name__ == "__main__":
    main()
