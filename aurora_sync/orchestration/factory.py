"""Build Dagster definitions from tables.yaml, for a project of its own and for the component."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import dagster as dg
from psycopg2.extensions import make_dsn

from aurora_sync.config.loader import SyncConfig, expand
from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.batch import batches, shared_with
from aurora_sync.errors import AuroraSyncError, ConfigError
from aurora_sync.model import foreign_text
from aurora_sync.model.relation import SourceTable
from aurora_sync.orchestration import assessment, assets, automation, housekeeping, verification
from aurora_sync.orchestration.change_sensor import change_sensor
from aurora_sync.orchestration.io_manager import AuroraSyncIOManager
from aurora_sync.orchestration.project import DefaultStatus, Project
from aurora_sync.orchestration.resources import Connections
from aurora_sync.orchestration.slot_assets import slot_assets
from aurora_sync.source.database import Source

logger = foreign_text.logger(__name__)

# Definitions load in every process of Dagster. If the source does not answer in this time, only comments and columns
# are missing.
CONNECT_SECONDS = 3
# Modules that a worker's forkserver imports once for all tables. Without them, 20 tables took 64 s.
PRELOAD = ["aurora_sync.engine.sync", "aurora_sync.orchestration.factory", "snowflake.connector"]


def build_definitions(
    config: SyncConfig,
    connections: Connections | None = None,
    *,
    name: str = "aurora_sync",
    default_status: DefaultStatus = "STOPPED",
) -> dg.Definitions:
    """Return assets, checks, jobs, schedules, change sensor and IO manager for the tables of ``config``.

    If the source does not answer, comments and columns are missing, with a warning; globs need the source and raise
    ConfigError then. ``name`` is the name of the :class:`Connections` resource, and the prefix of other names that must
    be unique in a code location: jobs, schedules, sensor, IO manager. ``default_status`` is the status of schedules and
    sensor until someone turns them on or off in the UI.
    """
    connections = connections or Connections()
    settings = _settings(connections)
    source = Source(make_dsn(settings.dsn, connect_timeout=CONNECT_SECONDS)) if settings else None
    project = Project(
        name=name,
        connections=connections,
        source=source.database if source else "source",
        warehouse=settings.warehouse.kind if settings else "snowflake",
        default_status=default_status,
    )
    tables = expand(config, _existing(config, source) if config.has_globs else [])
    catalogue = _catalogue(source, tables)
    watched = [table for table in tables if table.schedule is None]
    return dg.Definitions(
        assets=[
            *(assets.source_spec(table, project, catalogue.get(table.qualified_name)) for table in tables),
            *_sync_assets(tables, _attributes(config, tables, catalogue, project), project),
            *_verification_assets(tables, project),
            assessment.assessment_asset(tables, config.advisor, project),
        ],
        jobs=[automation.reconcile_job(tables, project)],
        schedules=[
            *automation.schedules(tables, project),
            *automation.reconciliations(tables, project),
            *automation.verifications(tables, project),
            automation.assessment(config.advisor.schedule, project),
            housekeeping.gc_schedule(tables, project),
        ],
        sensors=[change_sensor(watched, project)] if watched else [],
        resources={name: connections, project.io_manager_key: AuroraSyncIOManager(connections)},
    )


def executor(connections: Connections) -> dg.ExecutorDefinition:
    """Return the in-process executor if only one process can write to the warehouse; else a preloaded forkserver."""
    settings = _settings(connections)
    if settings and settings.warehouse.one_process:
        return dg.in_process_executor
    return dg.multiprocess_executor.configured({"start_method": {"forkserver": {"preload_modules": PRELOAD}}})


def _attributes(
    config: SyncConfig, tables: Sequence[TableConfig], catalogue: Mapping[str, SourceTable], project: Project
) -> dict[str, assets.Attributes]:
    """Return the attributes of each table's asset. The keys are qualified names of tables."""
    found: dict[str, assets.Attributes] = {}
    for table in tables:
        line = config.line_of(table)
        found[table.qualified_name] = assets.attributes(
            table,
            project,
            source=catalogue.get(table.qualified_name),
            line=assets.DefinitionLine(config.path.absolute(), line) if line else None,
        )
    return found


def _sync_assets(
    tables: Sequence[TableConfig], attributes: Mapping[str, assets.Attributes], project: Project
) -> Iterator[dg.AssetsDefinition]:
    """Yield one definition for all tables of a slot, and one for every other table."""
    for batch in batches(tables, tables):
        if shared_with(batch[0]):
            yield slot_assets(batch, attributes, project)
            continue
        (table,) = batch
        yield assets.table_asset(table, attributes[table.qualified_name], project)


def _verification_assets(tables: Sequence[TableConfig], project: Project) -> Iterator[dg.AssetsDefinition]:
    groups: defaultdict[str, list[TableConfig]] = defaultdict(list)
    for table in tables:
        groups[assets.group(table)].append(table)
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
    if source is None:
        return {}
    try:
        return source.catalogue([(table.schema_, table.table_name) for table in tables])
    except AuroraSyncError as error:
        logger.warning("the definitions lack the comments and columns of the source: %s", error)
        return {}
