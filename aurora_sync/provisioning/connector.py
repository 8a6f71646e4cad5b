"""Generate the configuration of a Debezium connector whose events hold the exact values of the source."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from aurora_sync.config.connector import Connector
from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError
from aurora_sync.strategies.debezium import topic

# Fixed options, in addition to those of config.connector.Connector.
_EXACT = {
    "hstore.handling.mode": "json",
    # the default leaves out columns of types that Debezium does not know
    "include.unknown.datatypes": "true",
    "event.processing.failure.handling.mode": "fail",
    "errors.tolerance": "none",
    # the default leaves TRUNCATE out
    "skipped.operations": "none",
    "tombstones.on.delete": "true",
    "provide.transaction.metadata": "true",
}
# Set for headers as well: a header holds the former key of a row, and the worker's default converter changes its form.
_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"
# The retention limits how long a sync may pause: messages deleted unread are lost, and the table is seeded again.
# One partition keeps the order of messages, because a TRUNCATE has no key and a change of the key has two.
_TOPICS = {
    "topic.creation.default.replication.factor": "-1",
    "topic.creation.default.partitions": "1",
    "topic.creation.default.cleanup.policy": "delete",
    "topic.creation.default.retention.ms": str(7 * 86_400_000),
}


@dataclass(frozen=True)
class ConnectorSource:
    """The database that the connector reads. ``password`` refers to a secret of the Connect worker.

    The form is ``${provider:path:key}``; raises ConfigError for any other password.
    """

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
    """Return the body of Kafka Connect's ``POST /connectors``: ``{"name": ..., "config": {...}}``, without secrets.

    ``tables`` are those of one slot. ``schemas`` embeds the schema in every message, which halves the speed; only
    arrays of enums need it. Raises ConfigError if two tables would share a topic.
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
        # `cdc setup` creates the publication: Debezium would leave out publish_via_partition_root
        "publication.autocreate.mode": "disabled",
        # aurora_sync makes the first copy, after the slot was created; Debezium 2.5 and before call the mode "never"
        "snapshot.mode": "no_data",
        **(first.connector or Connector()).options,
        **_EXACT,
        # without heartbeats, an idle database keeps its WAL; the message needs no table
        "heartbeat.interval.ms": "10000",
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'aurora_sync', '')",
        **_TOPICS,
    }
    # the converter's default replaces NULL by the column's default
    config["value.converter.replace.null.with.default"] = "false"
    for part in ("key", "value", "header"):
        config |= {f"{part}.converter": _CONVERTER, f"{part}.converter.schemas.enable": schema_switch}
    return {"name": first.topic_prefix, "config": config}


def pattern(table: TableConfig) -> str:
    r"""Return a regular expression that matches one table, and tables that differ from it in case only.

    Debezium ignores case. A comma would end the expression, and config providers replace dollar signs, so that both
    are escaped.

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
