"""The change sensor: find with one query which tables changed, and request runs for them only.

PostgreSQL's counters are a hint, never a proof: a crash resets them, and a reader does not count the writes of the
writer. So every table is synced at least every :data:`FORCED_HOURS`, changed or not, and no watermark depends on the
counters. A failed table is requested again after a delay that doubles each time. An unchanged table costs no run. If it
has a freshness policy, a materialization outside of any run (the heartbeat) records that the source was queried and had
no changes.
"""

from __future__ import annotations

import json
import math
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg

from aurora_sync.config.freshness import Freshness
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.runners import RUNNERS, runner_of
from aurora_sync.engine.runners.base import Runner
from aurora_sync.errors import AuroraSyncError
from aurora_sync.orchestration import compat
from aurora_sync.orchestration.assets import TableAsset, observation
from aurora_sync.orchestration.jobs import blocking_checks, by_run_tags
from aurora_sync.orchestration.metadata import NEXT_RECONCILE, RUN_SEQUENCE, STATE
from aurora_sync.orchestration.project import Project
from aurora_sync.source.connection import connect

TICK_SECONDS = 30
# The longest delay of changes that the counters miss: after a crash, or in views and foreign tables.
FORCED_HOURS = 6.0
# Tables per run: enough to share the cost of a run and the start of its process, few enough to spread over several
# workers. 20 runs of 50 tables cost 7 CPU seconds more than 4 of 250. A table does not wait for the others of its run.
GROUP = 250
# A failed table is requested again after one minute, then two, four, up to an hour.
RETRY_SECONDS, RETRY_SECONDS_MAX = 60.0, 3600.0
# A source table that is not read is observed again after this time.
OBSERVED_SECONDS = 3600.0
# After this time, a requested run that Dagster does not know was deleted or never launched.
LOST_SECONDS = 600.0

# The mark changes with every committed change: it holds the counters of every leaf, its file (TRUNCATE, rewrites,
# REFRESH) and its columns; also the start time of the server, because a restart may lose the counters.
_MARKS = """
WITH RECURSIVE wanted AS (
    SELECT c.oid, n.nspname || '.' || c.relname AS name
      FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS w(schema, name)
      JOIN pg_namespace n ON n.nspname = w.schema
      JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
), tree(name, oid) AS (
    SELECT name, oid FROM wanted
    UNION SELECT t.name, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT t.name, NOT pg_is_in_recovery() AND bool_and(c.relkind IN ('r', 'p', 'm')),
       md5(concat(pg_postmaster_start_time(), string_agg(concat_ws(':', c.oid, c.relfilenode, c.relnatts,
           pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid),
           pg_stat_get_tuples_deleted(c.oid)), ',' ORDER BY c.oid)))
  FROM tree t JOIN pg_class c ON c.oid = t.oid GROUP BY t.name
"""


@dataclass(frozen=True)
class Request:
    """State of one table that the sensor keeps between ticks. Times are seconds since the epoch."""

    mark: str  # of the source when the last run was requested; empty if there is none
    at: float  # when the last run was requested, or the last heartbeat recorded
    requested: float  # when the last run was requested
    run_key: str = ""  # of the last run; empty after its end
    failures: int = 0  # number of last runs that failed in a row
    observed: float = 0.0  # when the source table was last observed by a tick; a run observes it too


def _looked_at_together(tables: Sequence[TableConfig]) -> list[tuple[Runner, list[TableConfig]]]:
    """Group the tables for ``Runner.marks``: all tables of a runner, or one by one if it looks at tables alone."""
    groups: list[tuple[Runner, list[TableConfig]]] = []
    for runner in RUNNERS:
        own = [table for table in tables if runner_of(table) is runner]
        groups += [(runner, own)] if own and runner.marked_together else [(runner, [table]) for table in own]
    return groups


def read_marks(dsn: str, tables: Sequence[TableConfig]) -> dict[str, str]:
    """Return a mark for every table that exists: qualified name -> mark.

    A mark is empty where the counters do not show changes: for views, for foreign tables, and for every table on a
    reader, which counts only its own work.
    """
    with connect(dsn, application_name="aurora_sync change sensor") as connection, connection.cursor() as cursor:
        names = {"schemas": [t.schema_ for t in tables], "names": [t.table_name for t in tables]}
        cursor.execute(_MARKS, names)
        return {name: mark[:8] if counted else "" for name, counted, mark in cursor.fetchall()}


def change_sensor(
    assets: Sequence[TableAsset], job: dg.UnresolvedAssetJobDefinition, project: Project
) -> dg.SensorDefinition:
    """Return the change sensor over ``assets``, which requests runs of ``job``."""
    tables = [asset.table for asset in assets]

    @dg.sensor(
        name=f"{project.name}_changes",
        job=job,
        minimum_interval_seconds=TICK_SECONDS,
        default_status=project.sensor_status,
        description=f"Finds with one query which of {len(tables)} tables changed at the source, and syncs only these.",
    )
    def changes(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory = from_cursor(context.cursor)
        source = project.connections.places().source
        marks = read_marks(source.dsn, tables)
        groups = _looked_at_together(tables)
        for runner, group in groups:
            try:
                marks |= runner.marks(group, source)
            except AuroraSyncError as error:
                if len(group) > 1 and not error.kind.retry:  # an error of one table: look at each alone
                    groups += [(runner, [table]) for table in group]
                    continue
                context.log.warning("the sensor cannot see changes in topics and files: %s", error)
                marks |= {t.qualified_name: memory[t.qualified_name].mark for t in group if t.qualified_name in memory}
        if unseen := sum(not mark for mark in marks.values()):
            context.log.warning(
                "the sensor cannot see changes of %d tables (views, foreign tables, or AURORA_DSN names a reader), and"
                " syncs them every %.0f hours only; for an earlier sync, set their schedule in tables.yaml",
                unseen,
                FORCED_HOURS,
            )
        return tick(context.instance, project.name, assets, memory, marks, time.time(), project.source)

    return changes


def tick(
    instance: dg.DagsterInstance,
    name: str,
    tables: Sequence[TableAsset],
    memory: Mapping[str, Request],
    marks: Mapping[str, str],
    now: float,
    source: str,
) -> dg.SensorResult:
    """Evaluate the sensor at ``now`` (seconds since the epoch). Return run requests, heartbeats, observations of the
    tables of ``source``, and the new memory."""
    settled = _settle(instance, tables, memory, now)
    due = [table for table in tables if _due(settled.get(table.name), table.name, marks, now)]
    requests: list[dg.RunRequest] = []
    for tags, group in _groups(due):
        run_key = f"{name} {now:.3f} {len(requests)}"
        keys = [table.key for table in group]
        requests.append(
            dg.RunRequest(run_key=run_key, asset_selection=keys, asset_check_keys=blocking_checks(group), tags=tags)
        )
        for table in group:
            before = settled.get(table.name)
            settled[table.name] = Request(
                mark=marks.get(table.name, ""),
                at=now,
                requested=now,
                run_key=run_key,
                failures=before.failures if before else 0,
                observed=before.observed if before else 0.0,
            )
    quiet = _quiet(tables, settled, now)
    beats = list(_heartbeats(instance, quiet))
    for table in quiet:
        settled[table.name] = replace(settled[table.name], at=now)
    watched = _to_observe(tables, settled, marks, now)
    for table in watched:
        settled[table.name] = replace(settled[table.name], observed=now)
    return dg.SensorResult(
        run_requests=requests,
        asset_events=[
            *beats,
            *(observation(each.table, source, _seen(marks[each.name], settled[each.name])) for each in watched),
        ],
        cursor=to_cursor(settled),
        skip_reason=None if requests else f"none of {len(tables)} tables changed",
    )


def _groups(due: Sequence[TableAsset]) -> Iterator[tuple[dict[str, str], Sequence[TableAsset]]]:
    """Yield the tables of each run with its tags."""
    for tags, tables in by_run_tags(due):
        for start in range(0, len(tables), GROUP):
            yield tags, tables[start : start + GROUP]


def _due(request: Request | None, name: str, marks: Mapping[str, str], now: float) -> bool:
    if request is None:
        return True
    if request.run_key:
        return False  # its run has not ended; changes since then are due at the first tick after the end
    waited = now - request.requested
    if request.failures:
        return waited >= min(RETRY_SECONDS * 2.0 ** min(request.failures - 1, 10), RETRY_SECONDS_MAX)
    # The forced run comes after 75 to 100 % of the time, by a hash of the name, so that not all come in one tick.
    share = 0.75 + 0.25 * zlib.crc32(name.encode()) / 2**32
    changed = marks.get(name, "") != request.mark
    return changed or waited >= share * FORCED_HOURS * 3600


def _settle(
    instance: dg.DagsterInstance, tables: Sequence[TableAsset], memory: Mapping[str, Request], now: float
) -> dict[str, Request]:
    """Return the memory with the results of runs.

    A table is synced if its materialization was recorded, even if its run goes on, or failed, for other tables.
    """
    known = {table.name: memory[table.name] for table in tables if table.name in memory}
    open_keys = {request.run_key for request in known.values() if request.run_key}
    if not open_keys:
        return known
    runs = compat.runs_by_key(instance, open_keys)
    synced = {key: compat.materialized_keys(instance, run.run_id) for key, run in runs.items()}
    for table in tables:
        request = known.get(table.name)
        if request is None or not request.run_key:
            continue
        run = runs.get(request.run_key)
        if table.key in synced.get(request.run_key, ()):
            failed = False
        elif run.is_finished if run else now - request.requested > LOST_SECONDS:
            failed = True
        else:
            continue
        failures = request.failures + 1 if failed else 0
        known[table.name] = replace(request, run_key="", failures=failures)
    return known


def _quiet(tables: Sequence[TableAsset], settled: Mapping[str, Request], now: float) -> list[TableAsset]:
    """Return the unchanged tables that have waited longest for a heartbeat, at least a third of their freshness window.

    Their number per tick is limited, because a heartbeat writes one or two rows to Dagster's storage, at about 9 ms.
    """
    windows = {asset.name: _beat_seconds(asset.table.freshness) for asset in tables if asset.table.freshness}
    quiet = []
    for table in tables:
        window, request = windows.get(table.name), settled[table.name]
        watched_and_synced = request.mark and not request.run_key and not request.failures
        if window is not None and watched_and_synced and now - request.at >= window:
            quiet.append(table)
    quiet.sort(key=lambda table: settled[table.name].at)
    per_tick = sum(2 * TICK_SECONDS / window for window in windows.values())
    return quiet[: math.ceil(per_tick)]


def _heartbeats(instance: dg.DagsterInstance, quiet: Sequence[TableAsset]) -> Iterator[dg.AssetMaterialization]:
    """Yield the heartbeats of unchanged tables, except those whose last run failed or goes on: a scheduled reconcile,
    for example. A materialization after the failure would hide it from the report and the overview of the asset."""
    wanting = compat.unsuccessful(instance, [table.key for table in quiet])
    for table in quiet:
        if table.key not in wanting and (last := compat.last_materialization(instance, table.key)):
            yield heartbeat(table.key, last)


def _to_observe(
    tables: Sequence[TableAsset], settled: Mapping[str, Request], marks: Mapping[str, str], now: float
) -> list[TableAsset]:
    """Return tables whose source was not read or observed for an hour, the longest first.

    Their number per tick is limited, as that of heartbeats is: of 1,000 tables, nine are observed in a tick.
    """
    last = {name: max(each.observed, 0 if each.failures else each.requested) for name, each in settled.items()}
    waiting = [table for table in tables if table.name in marks and now - last[table.name] >= OBSERVED_SECONDS]
    waiting.sort(key=lambda table: last[table.name])
    return waiting[: math.ceil(TICK_SECONDS * len(tables) / OBSERVED_SECONDS)]


def _seen(mark: str, request: Request) -> str:
    """Say what the sensor knows about a source table that was not read for an hour."""
    requested = f"its sync was requested at {datetime.fromtimestamp(request.requested, UTC):%Y-%m-%d %H:%M:%S} UTC"
    if request.run_key or request.failures:
        return f"Not read: {requested}, and has not succeeded"
    if mark == request.mark != "":
        return f"Unchanged since {requested}"
    return f"The sensor cannot see changes of this table; {requested}"


def _beat_seconds(freshness: Freshness) -> float:
    return (freshness.warn_window or freshness.fail_window).total_seconds() / 3


def heartbeat(key: dg.AssetKey, last: dg.AssetMaterialization) -> dg.AssetMaterialization:
    """Return a copy of the last materialization with no rows moved. Its data version is the same: nothing fires."""
    lasting = (STATE, NEXT_RECONCILE, RUN_SEQUENCE)
    kept = {name: value for name, value in last.metadata.items() if name.startswith("dagster/") or name in lasting}
    nothing = dict.fromkeys(("rows_exported", "rows_inserted", "rows_updated", "rows_deleted", "bytes_staged"), 0)
    version = compat.data_version(last)
    return dg.AssetMaterialization(
        key,
        description="Nothing changed at the source.",
        metadata={**kept, **nothing},
        tags=compat.data_version_tags(version) if version is not None else None,
    )


def from_cursor(cursor: str | None) -> dict[str, Request]:
    """Read the memory from the sensor's cursor; empty without a cursor."""
    return {name: Request(*fields) for name, fields in json.loads(cursor or "{}").items()}


def to_cursor(memory: Mapping[str, Request]) -> str:
    """Write the memory as a cursor, with times in whole seconds."""
    fields = {
        name: [r.mark, round(r.at), round(r.requested), r.run_key, r.failures, round(r.observed)]
        for name, r in memory.items()
    }
    return json.dumps(fields, separators=(",", ":"))
