"""The configuration of a Debezium connector whose events say exactly what the source holds, and its set-up there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from aurora_sync.config.connector import Connector
from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError
from aurora_sync.strategies.debezium import topic

# Beside those of config.tables.Connector.
_EXACT = {
    "hstore.handling.mode": "json",
    # columns of types that Debezium does not know would be left out
    "include.unknown.datatypes": "true",
    "event.processing.failure.handling.mode": "fail",
    "errors.tolerance": "none",
    # the default leaves TRUNCATE out
    "skipped.operations": "none",
    "tombstones.on.delete": "true",
    "provide.transaction.metadata": "true",
}
# Named for headers, too: the worker's default writes the former key of a row in a form of its own.
_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"
# Retention is how long a sync may pause: what it deletes unread is lost, and the table is seeded anew. One partition,
# because a TRUNCATE has no key, and a change of the key has two: over several, their order would be lost.
_TOPICS = {
    "topic.creation.default.replication.factor": "-1",
    "topic.creation.default.partitions": "1",
    "topic.creation.default.cleanup.policy": "delete",
    "topic.creation.default.retention.ms": str(7 * 86_400_000),
}


@dataclass(frozen=True)
class ConnectorSource:
    """Where the connector reads. ``password`` names a secret of the Connect worker, ``${provider:path:key}``."""

    host: str
    database: str
    port: int = 5432
    password: str = "${env:DEBEZIUM_PASSWORD}"
    sslmode: str = "require"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\$\{[^{}]+\}", self.password):
            raise ConfigError(
                "the connector's password must be a reference such as ${env:DEBEZIUM_PASSWORD}",
                hint="put the password itself into a config provider of the Connect worker",
            )


def connector_config(
    tables: Sequence[TableConfig], source: ConnectorSource, *, schemas: bool = False
) -> dict[str, object]:
    """What Kafka Connect takes under ``POST /connectors``: ``{"name": ..., "config": {...}}``, without secrets.

    The tables are those of one slot. ``schemas`` embeds the schema in every message, which only arrays of enums need,
    and which takes half the speed. Raises ConfigError where two tables would share a topic.
    """
    first = tables[0]
    _check(tables)
    schema_switch = "true" if schemas else "false"
    config = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": source.host,
        "database.port": str(source.port),
        "database.user": (first.connector or Connector()).role,
        "database.password": source.password,
        "database.dbname": source.database,
        "database.sslmode": source.sslmode,
        "topic.prefix": first.topic_prefix,
        "table.include.list": ",".join(pattern(table) for table in tables),
        "plugin.name": "pgoutput",
        "slot.name": first.slot_name,
        "slot.drop.on.stop": "false",
        "publication.name": first.slot_name,
        # made by `cdc setup`: Debezium would leave out publish_via_partition_root
        "publication.autocreate.mode": "disabled",
        # our own scan makes the first copy, of a snapshot taken after the slot was made; Debezium 2.5 and before: never
        "snapshot.mode": "no_data",
        **(first.connector or Connector()).options,
        **_EXACT,
        # an idle database would keep its WAL; the message needs no table
        "heartbeat.interval.ms": "10000",
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'aurora_sync', '')",
        **_TOPICS,
    }
    # the default sends a column's default where the row has NULL
    config["value.converter.replace.null.with.default"] = "false"
    for part in ("key", "value", "header"):
        config |= {f"{part}.converter": _CONVERTER, f"{part}.converter.schemas.enable": schema_switch}
    return {"name": first.topic_prefix, "config": config}


def pattern(table: TableConfig) -> str:
    r"""The regular expression for one table and no other but those that differ in case, which Debezium does not tell
    apart. Without commas, which would end it, and dollars, which config providers take.

    >>> pattern(TableConfig(table_name="a,b$", schema="Shop", watermark_type="xmin"))
    'Shop\\.a\\x2Cb\\x24'
    """
    return r"\.".join(_literal(name) for name in (table.schema_, table.table_name))


def _literal(name: str) -> str:
    def escaped(found: re.Match[str]) -> str:
        code = ord(found[0])
        return f"\\x{code:02X}" if code < 256 else f"\\x{{{code:X}}}"

    return re.sub(r"[^A-Za-z0-9_]", escaped, name)


def _check(tables: Sequence[TableConfig]) -> None:
    by_topic = defaultdict[str, list[str]](list)
    for table in tables:
        by_topic[topic(table)].append(table.qualified_name)
    problems = [
        f"tables {' and '.join(names)} would share the topic {name}; give each a topic_prefix of its own"
        for name, names in by_topic.items()
        if len(names) > 1
    ]
    if problems:
        raise ConfigError(problems)
