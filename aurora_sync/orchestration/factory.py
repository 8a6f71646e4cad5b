"""Build Dagster definitions from tables.yaml, for a project of its own and for the component."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
from psycopg2.extensions import make_dsn

from aurora_sync.config.loader import SyncConfig, expand
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.batch import batches, shared_with
from aurora_sync.errors import AuroraSyncError, ConfigError
from aurora_sync.model import foreign_text
from aurora_sync.model.relation import SourceTable
from aurora_sync.orchestration import (
    assessment,
    assets,
    automation,
    compat,
    housekeeping,
    load_job,
    reload_job,
    report_job,
    translation,
    verification,
)
from aurora_sync.orchestration.assets import TableAsset
from aurora_sync.orchestration.change_sensor import change_sensor
from aurora_sync.orchestration.io_manager import io_manager
from aurora_sync.orchestration.preload import forking_executor
from aurora_sync.orchestration.project import DefaultStatus, Executors, Project
from aurora_sync.orchestration.resources import Connections
from aurora_sync.orchestration.slot_assets import op_name, slot_assets
from aurora_sync.orchestration.translation import GetAssetSpec, as_it_is
from aurora_sync.source.database import Source

logger = foreign_text.logger(__name__)

# Definitions load in every process of Dagster. If the source does not answer in this time, only comments and columns
# are missing.
CONNECT_SECONDS = 3


@dataclass(frozen=True)
class Beside:
    """Tables of other definitions, for what a code location has once.

    That is an assessment for each source, and a gc for each pair of stage and warehouse. ``assessed`` are tables of the
    same source, and ``collected`` tables with the same stage and warehouse. They are None if other definitions have the
    assessment or the gc.
    """

    assessed: Sequence[TableAsset] | None = ()
    collected: Sequence[TableConfig] | None = ()


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the garbage collector, which would visit the growing definitions many times and find no garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def build_definitions(
    config: SyncConfig,
    connections: Connections | None = None,
    *,
    name: str = "aurora_sync",
    default_status: DefaultStatus = "STOPPED",
    get_asset_spec: GetAssetSpec = as_it_is,
    executor: dg.ExecutorDefinition | Executors | None = None,
    beside: Beside = Beside(),
) -> dg.Definitions:
    """Return assets, checks, jobs, schedules, change sensor and IO manager for the tables of ``config``.

    If the source does not answer, comments and columns are missing, with a warning; globs need the source and raise
    ConfigError then. ``name`` is the name of the :class:`Connections` resource, and the prefix of other names that must
    be unique in a code location: jobs, schedules, sensor, IO manager. ``default_status`` is the status of schedules and
    sensor until someone turns them on or off in the UI. ``get_asset_spec`` gets the spec and the configuration of a
    table, and returns the spec of its asset, for example with another key; everything else follows that spec.
    ``executor`` is that of our jobs; by default that of :func:`executor`. The executor of the code location stays as it
    is. :class:`Executors` names another one for the job that loads a large table in chunks. ``beside`` has tables of
    other definitions in the code location.
    """
    connections = connections or Connections()
    executors = executor if isinstance(executor, Executors) else Executors(executor)
    settings = _settings(connections)
    source = Source(make_dsn(settings.dsn, connect_timeout=CONNECT_SECONDS)) if settings else None
    project = Project(
        name=name,
        connections=connections,
        source=connections.source_name or (source.database if source else "source"),
        warehouse=settings.warehouse.kind if settings else "snowflake",
        default_status=default_status,
        executor=executors.jobs or _default_executor(settings),
        load_executor=executors.load,
    )
    tables = expand(config, _existing(config, source) if config.has_globs else [])
    catalogue = _catalogue(source, tables)
    synced = translation.translated(config, _default_specs(config, tables, catalogue, project), get_asset_spec)
    return dg.Definitions(
        assets=[
            *(assets.source_spec(table, project, catalogue.get(table.qualified_name)) for table in tables),
            *_sync_assets(synced, project),
            *_verification_assets(synced, project),
            *_assessments(synced, config, project, beside),
        ],
        jobs=[*_jobs(synced, project), load_job.load_job(synced, project), reload_job.reload_job(synced, project)],
        schedules=[
            *automation.schedules(synced, project),
            *automation.reconciliations(synced, project),
            *automation.verifications(synced, project),
            report_job.report_schedule(synced, project),
            *([automation.assessment(config.advisor.schedule, project)] if beside.assessed is not None else []),
            *(
                [housekeeping.gc_schedule([*tables, *beside.collected], project)]
                if beside.collected is not None
                else []
            ),
        ],
        sensors=_sensors(synced, project),
        resources={
            name: connections.for_definitions(),
            project.io_manager_key: io_manager(connections, _alone(synced, project), load_job.job_name(project)),
        },
    )


def table_assets(
    config: SyncConfig, connections: Connections, name: str, get_asset_spec: GetAssetSpec
) -> list[TableAsset]:
    """Return the tables of ``config`` with the keys that :func:`build_definitions` gives them, without columns.

    Globs need the source, and raise ConfigError if it does not answer.
    """
    settings = _settings(connections)
    source = Source(make_dsn(settings.dsn, connect_timeout=CONNECT_SECONDS)) if settings else None
    warehouse = settings.warehouse.kind if settings else "snowflake"
    project = Project(
        name, connections, connections.source_name or (source.database if source else "source"), warehouse
    )
    tables = expand(config, _existing(config, source) if config.has_globs else [])
    return translation.translated(config, _default_specs(config, tables, {}, project), get_asset_spec)


def executor(connections: Connections) -> dg.ExecutorDefinition:
    """Return the executor of our jobs, for a code location that has no other tables.

    It is the in-process executor if only one process can write to the warehouse; else a preloaded forkserver.
    """
    return _default_executor(_settings(connections))


def _default_executor(settings: Settings | None) -> dg.ExecutorDefinition:
    if settings and settings.warehouse.one_process:
        return dg.in_process_executor
    return forking_executor()


def _assessments(
    synced: Sequence[TableAsset], config: SyncConfig, project: Project, beside: Beside
) -> Iterator[dg.AssetsDefinition]:
    if beside.assessed is not None:
        yield assessment.assessment_asset([*synced, *beside.assessed], config.advisor, project)


def _jobs(synced: Sequence[TableAsset], project: Project) -> list[dg.UnresolvedAssetJobDefinition]:
    """Return the jobs that people launch. Jobs of schedules and of the sensor are added by Dagster."""
    return [automation.reconcile_job(synced, project), automation.verify_job(synced, project)]


def _sensors(synced: Sequence[TableAsset], project: Project) -> list[dg.SensorDefinition]:
    watched = automation.watched(synced)
    return [change_sensor(watched, automation.changes_job(watched, project), project)] if watched else []


def _default_specs(
    config: SyncConfig, tables: Sequence[TableConfig], catalogue: Mapping[str, SourceTable], project: Project
) -> Iterator[TableAsset]:
    for table in tables:
        line = config.line_of(table)
        spec = assets.default_spec(
            table,
            project,
            source=catalogue.get(table.qualified_name),
            line=assets.DefinitionLine(config.path.absolute(), line) if line else None,
        )
        yield TableAsset(table, spec)


def _alone(synced: Sequence[TableAsset], project: Project) -> dict[str, TableAsset]:
    """Return the tables that are not synced with those of a slot, by the key of their step."""
    return {op_name(asset, project): asset for asset in synced if not shared_with(asset.table)}


def _sync_assets(synced: Sequence[TableAsset], project: Project) -> Iterator[dg.AssetsDefinition]:
    """Yield one definition for all tables of a slot, and one for every other table."""
    by_name = {asset.name: asset for asset in synced}
    tables = [asset.table for asset in synced]
    for batch in batches(tables, tables):
        members = [by_name[table.qualified_name] for table in batch]
        yield slot_assets(members, project) if shared_with(batch[0]) else assets.table_asset(members[0], project)


def _verification_assets(synced: Sequence[TableAsset], project: Project) -> Iterator[dg.AssetsDefinition]:
    groups: defaultdict[str, list[TableAsset]] = defaultdict(list)
    for asset in synced:
        groups[asset.group].append(asset)
    for group, members in groups.items():
        yield verification.group_asset(group, members, project)


def _settings(connections: Connections) -> Settings | None:
    try:
        return connections.settings()
    except AuroraSyncError as error:
        logger.warning("the definitions lack the comments and columns of the source: %s", error)
        return None


def _existing(config: SyncConfig, source: Source | None) -> list[tuple[str, str]]:
    hint = "set AURORA_DSN, or name every table instead of using a glob"
    if source is None:
        what = "a glob needs the list of tables from the source, and the settings are not complete"
        raise ConfigError(what, where=str(config.path), hint=hint)
    try:
        return source.existing()
    except AuroraSyncError as error:
        what = f"a glob needs the list of tables from the source, which could not be read: {error}"
        raise ConfigError(what, where=str(config.path), hint=hint) from error


def _catalogue(source: Source | None, tables: Sequence[TableConfig]) -> dict[str, SourceTable]:
    """Return the tables with comments and columns, which only the UI shows: a process that runs steps does not ask the
    source for them."""
    if source is None or compat.is_reconstructing():
        return {}
    try:
        return source.catalogue([(table.schema_, table.table_name) for table in tables])
    except AuroraSyncError as error:
        logger.warning("the definitions lack the comments and columns of the source: %s", error)
        return {}
