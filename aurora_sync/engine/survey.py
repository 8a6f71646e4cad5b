"""Survey of what a source lacks before its changes can be streamed: each missing thing, the statement that creates it,
and why it is needed.

The order of the steps is part of the proof (correctness.md, section 8.1). Replica identities come first, because UPDATE
and DELETE on a published table without one fail in the application. The publication comes before the slot, because an
older slot does not know it. The slot comes last, because its creation waits until every transaction that began before
the publication has ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.config.connector import Connector
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import preflight
from aurora_sync.errors import ConfigError, SourceError
from aurora_sync.model.receipt import Slot
from aurora_sync.model.relation import SourceTable
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect_for_replication
from aurora_sync.source.debezium.role_settings import ROLE_SETTINGS, has_settings, role_exists
from aurora_sync.source.logical import publication, slot
from aurora_sync.source.logical.publication import Leaf, Publication, Server
from aurora_sync.strategies import strategy_of, tables_of
from aurora_sync.strategies.debezium import Debezium
from aurora_sync.strategies.logical import Logical


@dataclass(frozen=True)
class SetupStep:
    """One step of the setup. ``statement`` is None when only a person can do it."""

    what: str
    statement: sql.Composable | None
    because: str


@dataclass(frozen=True)
class Survey:
    """The result of a survey. ``steps`` are the missing things in order; ``notes`` are settings that work but could be
    better."""

    slot_name: str
    slot: Slot | None
    tables: tuple[str, ...]
    steps: tuple[SetupStep, ...]
    notes: tuple[str, ...]

    def assert_ready(self) -> None:
        """Raise ConfigError with everything that is missing."""
        if self.steps:
            raise ConfigError(
                [f"{step.what}: {step.because}" for step in self.steps],
                where=f"replication slot {self.slot_name}",
                hint="`aurora-sync cdc setup` shows the statements; with --apply it runs them",
            )


def survey(connection: Connection, configs: Sequence[TableConfig], *, stream_from: str | None = None) -> Survey:
    """Return what the tables of one slot still need. Reads the catalogue only. With ``stream_from``, a DSN, also tries
    a replication connection."""
    name = configs[0].slot_name
    described = catalogue.load(connection, [(config.schema_, config.table_name) for config in configs])
    server, published = publication.server(connection), publication.publication(connection, name)
    found = slot.look(connection, name)
    tables = {config.qualified_name: described.get(config.qualified_name) for config in configs}
    oids = [table.oid for table in tables.values() if table]
    leaves, ancestors = publication.leaves(connection, oids), publication.ancestors(connection, oids)
    steps = [
        *_server(server, found),
        *_replication(server, found, configs, stream_from),
        *(step for config in configs for step in _table(config, tables[config.qualified_name], leaves)),
        *_under_another_name([table for table in tables.values() if table], published, ancestors),
        *_connectors(connection, configs),
        *_publication(name, published, [table for table in tables.values() if table]),
        *_slot(name, found),
    ]
    notes = [*_notes(server, leaves), *_unused(name, published, oids)]
    return Survey(name, found, tuple(tables), tuple(steps), tuple(notes))


def _server(server: Server, found: Slot | None) -> Iterator[SetupStep]:
    if server.in_recovery:
        yield SetupStep("connect to the writer", None, "AURORA_DSN connects to a reader, which has no slots of its own")
    if server.wal_level != "logical":
        how = "rds.logical_replication = 1 in the cluster's parameter group" if server.rds_logical_replication else ""
        yield SetupStep(
            f"set {how or 'wal_level = logical'} and restart the server",
            None,
            f"wal_level is {server.wal_level}, which does not allow logical decoding",
        )
    if not server.may_replicate:
        grant = "GRANT rds_replication TO" if server.rds_logical_replication else "ALTER ROLE ... REPLICATION for"
        yield SetupStep(f"{grant} {server.role}", None, "this role may not use replication slots")
    if found is None and server.free_slots < 1:
        yield SetupStep("raise max_replication_slots", None, "all slots of the server are in use")


def _replication(
    server: Server, found: Slot | None, configs: Sequence[TableConfig], dsn: str | None
) -> Iterator[SetupStep]:
    """Try a replication connection. A connection pooler passes everything except replication. Debezium's connector uses
    its own connection."""
    streams = bool(tables_of(Logical, configs))
    if dsn is None or not streams or [*_server(server, found)]:
        return
    try:
        with connect_for_replication(dsn):
            pass
    except SourceError as error:
        if error.kind.retry:
            raise
        yield SetupStep("make a replication connection possible", None, f"{error.what} ({error.hint})")


def _table(config: TableConfig, table: SourceTable | None, leaves: dict[int, list[Leaf]]) -> Iterator[SetupStep]:
    name = config.qualified_name
    problems = preflight.problems(config, table, strategy_of(config))
    for problem in problems:
        yield SetupStep(f"correct {name}", None, problem)
    if table is None or problems:
        return
    if generated := [column.name for column in preflight.selected_columns(config, table) if column.generated]:
        text = "the stream has no values of generated columns; or use watermark_type: xmin"
        yield SetupStep(f"exclude {', '.join(generated)} of {name} with columns.exclude", None, text)
    key = frozenset(preflight.merge_key(config, table))
    for leaf in leaves[table.oid]:
        if leaf.columns is None or (key and key <= leaf.columns):
            continue
        yield _identity(leaf, key)


def _under_another_name(
    tables: Sequence[SourceTable], published: Publication | None, ancestors: dict[int, dict[int, str]]
) -> Iterator[SetupStep]:
    """Yield a step for each partition whose changes are sent under the name of a published ancestor."""
    named = {table.oid for table in tables} | (published.tables.keys() if published else set())
    for table in tables:
        above = [n for oid, n in ancestors[table.oid].items() if oid in named or (published and published.all_tables)]
        if above:
            yield SetupStep(
                f"sync {above[-1]} in place of its partition {table.qualified_name}",
                None,
                f"the publication has {above[-1]}, and sends the changes of all its partitions under that name",
            )


def _connectors(connection: Connection, configs: Sequence[TableConfig]) -> Iterator[SetupStep]:
    """Yield the missing roles and settings of Debezium's connectors."""
    for role in sorted({(config.connector or Connector()).role for config in tables_of(Debezium, configs)}):
        if not role_exists(connection, role):
            yield SetupStep(
                f"create role {role}, with LOGIN and REPLICATION", None, "the connector logs in as this role"
            )
        elif not has_settings(connection, role):
            where = sql.SQL("ALTER ROLE {} IN DATABASE {} SET ").format(
                sql.Identifier(role), sql.Identifier(connection.info.dbname)
            )
            settings = [
                where + sql.SQL("{} = {}").format(sql.Identifier(name), sql.Literal(value))
                for name, value in ROLE_SETTINGS.items()
            ]
            because = (
                "the texts that the connector sends for floats, bytea, intervals and times depend on these settings"
            )
            yield SetupStep(f"set the output formats of role {role}", sql.SQL("; ").join(settings), because)


def _identity(leaf: Leaf, key: frozenset[str]) -> SetupStep:
    shown = f"{leaf.schema}.{leaf.name}"
    has = ", ".join(sorted(leaf.columns or ())) or "nothing"
    because = f"its UPDATE and DELETE identify a row by {has}, but the merge key is {', '.join(sorted(key))}"
    index = next((index for index, columns in leaf.indexes.items() if columns == key), None)
    how = sql.SQL("USING INDEX {}").format(sql.Identifier(index)) if index else sql.SQL("FULL")
    if index is None:
        because += "; no unique index has just these columns, so each change then carries the whole old row"
    statement = sql.SQL("ALTER TABLE {} REPLICA IDENTITY {}").format(sql.Identifier(leaf.schema, leaf.name), how)
    what = f"set the replica identity of {shown} to {f'index {index}' if index else 'FULL'}"
    if not leaf.ours:
        return SetupStep(what, None, f"{because}; only the owner of the table may do this")
    return SetupStep(what, statement, because)


def _publication(name: str, published: Publication | None, tables: Sequence[SourceTable]) -> Iterator[SetupStep]:
    identifier = sql.Identifier(name)

    def named(relations: Iterable[tuple[str, str]]) -> sql.Composable:
        return sql.SQL(", ").join(sql.Identifier(*relation) for relation in relations)

    if published is None:
        statement = sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
            identifier, named((table.schema, table.name) for table in tables)
        )
        if tables:
            yield SetupStep(
                f"create publication {name}", statement, "the publication lists the tables whose changes are sent"
            )
        return
    if not (published.via_root and published.all_operations):
        options = "publish = 'insert, update, delete, truncate', publish_via_partition_root = true"
        statement = sql.SQL(f"ALTER PUBLICATION {{}} SET ({options})").format(identifier)
        yield SetupStep(
            f"set the options of publication {name}",
            statement,
            "all kinds of changes must be sent, under one name for each table",
        )
    if published.all_tables:
        return
    oids = {table.oid: table for table in tables}
    for oid in published.filtered & oids.keys():
        yield SetupStep(
            f"remove the row filter and the column list of {oids[oid].qualified_name} from publication {name}",
            None,
            "rows or columns would be missing",
        )
    if missing := [table for oid, table in oids.items() if oid not in published.tables]:
        statement = sql.SQL("ALTER PUBLICATION {} ADD TABLE {}").format(
            identifier, named((table.schema, table.name) for table in missing)
        )
        names = ", ".join(table.qualified_name for table in missing)
        yield SetupStep(f"add {names} to publication {name}", statement, "their changes are not sent")


def _unused(name: str, published: Publication | None, oids: Sequence[int]) -> Iterator[str]:
    for oid, relation in (published.tables if published else {}).items():
        if oid not in oids:
            shown = f"{name} DROP TABLE {'.'.join(relation)}"
            yield f"the changes of {'.'.join(relation)} are sent, but not used: ALTER PUBLICATION {shown}"


def _slot(name: str, found: Slot | None) -> Iterator[SetupStep]:
    if found and found.lost:
        drop = sql.SQL("SELECT pg_drop_replication_slot({})").format(sql.Literal(name))
        yield SetupStep(f"drop replication slot {name}", drop, "the server has removed WAL that the slot still needs")
    if found is None or found.lost:
        create = sql.SQL("SELECT pg_create_logical_replication_slot({}, 'pgoutput')").format(sql.Literal(name))
        yield SetupStep(
            f"create replication slot {name}", create, "the slot keeps the changes until they are in the warehouse"
        )


def _notes(server: Server, leaves: dict[int, list[Leaf]]) -> Iterator[str]:
    if server.rds_logical_wal_cache not in (None, "0"):
        yield (
            f"rds.logical_wal_cache is {server.rds_logical_wal_cache}; set it to 0: Aurora versions 14.5, 13.8, 12.12 "
            "and 11.17 are reported to lose changes with it"
        )
    if server.max_slot_wal_keep_size == "-1":
        yield (
            "max_slot_wal_keep_size is -1: WAL is kept without limit while nothing reads the slot, until the disk is "
            "full; with a limit the server invalidates the slot instead, and its tables are scanned"
        )
    full = [f"{leaf.schema}.{leaf.name}" for found in leaves.values() for leaf in found if leaf.identity == "f"]
    if full:
        yield f"with REPLICA IDENTITY FULL each change carries the whole old row: {', '.join(full)}"
