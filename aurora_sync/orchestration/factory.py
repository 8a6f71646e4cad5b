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
    config: SyncConfig, connections: Connections | None = None, *, name: str = "aurora_sync"
) -> dg.Definitions:
    """Return assets, checks, schedules, change sensor and IO manager for the tables of ``config``.

    If the source does not answer, comments and columns are missing, with a warning; globs need the source and raise
    ConfigError then. ``name`` is the name of the :class:`Connections` resource, and the prefix of other names that must
    be unique in a code location: schedules, sensor, gc job, IO manager.
    """
    connections = connections or Connections()
    settings = _settings(connections)
    source = Source(make_dsn(settings.dsn, connect_timeout=CONNECT_SECONDS)) if settings else None
    database = source.database if source else "source"
    warehouse = settings.warehouse.kind if settings else "snowflake"
    tables = expand(config, _existing(config, source) if config.has_globs else [])
    catalogue = _catalogue(source, tables)
    attributes = _attributes(config, tables, catalogue, database=database, warehouse=warehouse)
    watched = [table for table in tables if table.schedule is None]
    io_manager_key = f"{name}_io_manager"
    return dg.Definitions(
        assets=[
            *(assets.source_spec(table, database, catalogue.get(table.qualified_name)) for table in tables),
            *_sync_assets(tables, connections, attributes, database=database, io_manager_key=io_manager_key, name=name),
            *_verification_assets(tables, connections, database=database, warehouse=warehouse, name=name),
            assessment.assessment_asset(tables, config.advisor, connections, database=database, name=name),
        ],
        jobs=[automation.reconcile_job(tables, name)],
        schedules=[
            *automation.schedules(tables, name),
            *automation.reconciliations(tables, name),
            *automation.verifications(tables, name),
            automation.assessment(config.advisor.schedule, name),
            housekeeping.gc_schedule(tables, connections, name),
        ],
        sensors=[change_sensor(watched, connections, name)] if watched else [],
        resources={name: connections, io_manager_key: AuroraSyncIOManager(connections)},
    )


def executor(connections: Connections) -> dg.ExecutorDefinition:
    """Return the in-process executor if only one process can write to the warehouse; else a preloaded forkserver."""
    settings = _settings(connections)
    if settings and settings.warehouse.one_process:
        return dg.in_process_executor
    return dg.multiprocess_executor.configured({"start_method": {"forkserver": {"preload_modules": PRELOAD}}})


def _attributes(
    config: SyncConfig,
    tables: Sequence[TableConfig],
    catalogue: Mapping[str, SourceTable],
    *,
    database: str,
    warehouse: str,
) -> dict[str, assets.Attributes]:
    """Return the attributes of each table's asset. The keys are qualified names of tables."""
    found: dict[str, assets.Attributes] = {}
    for table in tables:
        line = config.line_of(table)
        found[table.qualified_name] = assets.attributes(
            table,
            source=catalogue.get(table.qualified_name),
            line=assets.DefinitionLine(config.path.absolute(), line) if line else None,
            database=database,
            warehouse=warehouse,
        )
    return found


def _sync_assets(
    tables: Sequence[TableConfig],
    connections: Connections,
    attributes: Mapping[str, assets.Attributes],
    *,
    database: str,
    io_manager_key: str,
    name: str,
) -> Iterator[dg.AssetsDefinition]:
    """Yield one definition for all tables of a slot, and one for every other table."""
    for batch in batches(tables, tables):
        if shared_with(batch[0]):
            yield slot_assets(
                batch, connections, attributes, database=database, io_manager_key=io_manager_key, name=name
            )
            continue
        (table,) = batch
        yield assets.table_asset(
            table,
            attributes[table.qualified_name],
            database=database,
            io_manager_key=io_manager_key,
            verification=assets.verification_key(assets.group(table), name),
        )


def _verification_assets(
    tables: Sequence[TableConfig], connections: Connections, *, database: str, warehouse: str, name: str
) -> Iterator[dg.AssetsDefinition]:
    groups: defaultdict[str, list[TableConfig]] = defaultdict(list)
    for table in tables:
        groups[assets.group(table)].append(table)
    for group, members in groups.items():
        yield verification.group_asset(group, members, connections, database=database, warehouse=warehouse, name=name)


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
