"""Can everything be reached, and does every table fit? All problems at once, and nothing is changed."""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterator

from aurora_sync.config.tables import SLOTS, TableConfig, WatermarkType
from aurora_sync.engine import preflight
from aurora_sync.engine.survey import survey
from aurora_sync.errors import AuroraSyncError, Kind, SourceError
from aurora_sync.objects.store import Store
from aurora_sync.source import tls
from aurora_sync.source.connection import connect
from aurora_sync.source.database import Source
from aurora_sync.source.dms import files as dms_files
from aurora_sync.strategies import strategy_for
from aurora_sync.strategies.debezium import topic
from aurora_sync.warehouse.base import Warehouse

# Of the tables that have the same problem.
_NAMED = 5


def problems(tables: Callable[[], list[TableConfig]], source: Source, store: Store, warehouse: Warehouse) -> list[str]:
    """Every problem of configuration, source, bucket and warehouse, a full sentence each; empty when all is well.

    ``tables`` reads the configuration: when that fails, the connections are looked at all the same.
    """
    return [
        *_tables(tables, source),
        *_attempt(lambda: store.list(store.prefix, limit=1)),
        *_attempt(lambda: _connect(warehouse)),
    ]


def _tables(tables: Callable[[], list[TableConfig]], source: Source) -> Iterator[str]:
    try:
        configured = tables()
        existing = source.existing()
        described = source.catalogue((table.schema_, table.table_name) for table in configured)
    except AuroraSyncError as error:
        yield from _told(error)
        return
    names = [f"{schema}.{name}" for schema, name in existing]
    fitting = []
    told: dict[str, list[str]] = {}  # by problem, which all tables may have from defaults
    for config in configured:
        table = described.get(config.qualified_name)
        found = preflight.problems(config, table, strategy_for(config.watermark_type.value))
        fitting += [] if found else [config]
        for problem in found:
            near = difflib.get_close_matches(config.qualified_name, names, n=1) if table is None else []
            told.setdefault(problem + (f"; did you mean {near[0]}?" if near else ""), []).append(config.qualified_name)
    for problem, tables_of_it in told.items():
        more = f" and {len(tables_of_it) - _NAMED:,} more" if len(tables_of_it) > _NAMED else ""
        yield f"{', '.join(tables_of_it[:_NAMED])}{more}: {problem}"
    yield from _attempt(lambda: _assert_verified(source))
    yield from _streams(fitting, source)


def _streams(tables: list[TableConfig], source: Source) -> Iterator[str]:
    """Slots, topics and folders of files."""
    slots = defaultdict[str, list[TableConfig]](list)
    for table in tables:
        if table.watermark_type in SLOTS:
            slots[table.slot_name].append(table)
    for of_slot in slots.values():
        yield from _attempt(lambda of_slot=of_slot: _provisioned(of_slot, source))  # type: ignore[misc]
    topics = [topic(table) for table in tables if table.watermark_type is WatermarkType.debezium]
    yield from _topics(topics, source)
    for table in tables:
        if table.watermark_type is WatermarkType.dms:
            yield from _attempt(lambda table=table: dms_files.of_table(table))  # type: ignore[misc]


def _topics(names: list[str], source: Source) -> Iterator[str]:
    """Look at all over one connection; at each by itself where one of them is refused."""
    if not names:
        return
    try:
        source.kafka.ends(names)
    except AuroraSyncError as error:
        if len(names) == 1 or error.kind.retry:
            yield from _told(error)
            return
        for name in names:
            yield from _topics([name], source)


def _assert_verified(source: Source) -> None:
    with connect(source.dsn) as connection:
        if problem := tls.problem(connection):
            raise SourceError(problem, where=source.describe(), kind=Kind.USER)


def _provisioned(tables: list[TableConfig], source: Source) -> None:
    with connect(source.dsn) as connection:
        found = survey(connection, tables, stream_from=source.dsn)
    found.assert_ready()


def _connect(warehouse: Warehouse) -> None:
    with warehouse.session(query_tag="aurora_sync check") as session:
        session.query("SELECT 1")


def _attempt(look: Callable[[], object]) -> list[str]:
    try:
        look()
    except AuroraSyncError as error:
        return _told(error)
    return []


def _told(error: AuroraSyncError) -> list[str]:
    """The problems of an error, a line each."""
    return str(error).split("\n")
