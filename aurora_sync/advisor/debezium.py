"""The configuration of a Debezium connector whose events say exactly what the source holds, and its set-up there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError
from aurora_sync.source.debezium_values import Modes

# In place of a value that an update did not change. A row with this very text would be taken for unchanged, so it is
# one that nobody writes.
PLACEHOLDER = "aurora_sync.unchanged.9f3c61d27ab84e05"
# What PostgreSQL's text depends on in Debezium's session, where no option of the connector reaches: under another
# bytea_output or extra_float_digits values come changed, under IntervalStyle sql_standard most intervals come as zero.
ROLE_SETTINGS = {"bytea_output": "hex", "extra_float_digits": "1", "IntervalStyle": "iso_8601", "TimeZone": "UTC"}

_EXACT = {
    # precise makes NaN NULL and drops zeros at the end, double rounds
    "decimal.handling.mode": "string",
    # isostring sends 24:00:00 as 00:00:00, nanoseconds NULL for what is far away, connect milliseconds; under the
    # adaptive modes a number's unit is that of the column's precision when it was sent
    "time.precision.mode": "microseconds",
    # numeric makes months and days microseconds
    "interval.handling.mode": "string",
    # under base64 and base64-url-safe an unchanged bytea comes as NULL
    "binary.handling.mode": "bytes",
    "hstore.handling.mode": "json",
    # columns of types that Debezium does not know would be left out
    "include.unknown.datatypes": "true",
    "unavailable.value.placeholder": PLACEHOLDER,
    # the default goes on with NULL in place of a value that could not be converted
    "event.converting.failure.handling.mode": "fail",
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
class Source:
    """Where the connector reads. ``password`` names a secret of the Connect worker, ``${provider:path:key}``."""

    host: str
    database: str
    user: str
    port: int = 5432
    password: str = "${env:DEBEZIUM_PASSWORD}"
    sslmode: str = "require"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\$\{[^{}]+\}", self.password):
            raise ConfigError(
                "the connector's password must be a reference such as ${env:DEBEZIUM_PASSWORD}",
                hint="put the password itself into a config provider of the Connect worker",
            )


def connector(
    tables: Sequence[TableConfig],
    source: Source,
    *,
    slot: str,
    publication: str,
    prefix: str,
    schemas: bool = False,
) -> dict[str, object]:
    """What Kafka Connect takes under ``POST /connectors``: ``{"name": ..., "config": {...}}``, without secrets.

    ``prefix`` begins every topic, ``schemas`` embeds the schema in every message, which only arrays of enums need, and
    which takes half the speed. Raises ConfigError where two tables would share a topic.
    """
    _check_topics(prefix, tables)
    schema_switch = "true" if schemas else "false"
    config = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "tasks.max": "1",
        "database.hostname": source.host,
        "database.port": str(source.port),
        "database.user": source.user,
        "database.password": source.password,
        "database.dbname": source.database,
        "database.sslmode": source.sslmode,
        "topic.prefix": prefix,
        "table.include.list": ",".join(pattern(table) for table in tables),
        "plugin.name": "pgoutput",
        "slot.name": slot,
        "slot.drop.on.stop": "false",
        "publication.name": publication,
        # made by statements(): Debezium would leave out publish_via_partition_root
        "publication.autocreate.mode": "disabled",
        # our own scan makes the first copy, of a snapshot taken after the slot was made; Debezium 2.5 and before: never
        "snapshot.mode": "no_data",
        **_EXACT,
        # an idle database would keep its WAL; the message needs no table
        "heartbeat.interval.ms": "10000",
        "heartbeat.action.query": "SELECT pg_logical_emit_message(false, 'aurora_sync', '')",
        **_TOPICS,
    }
    for part in ("key", "value", "header"):
        config |= {f"{part}.converter": _CONVERTER, f"{part}.converter.schemas.enable": schema_switch}
    return {"name": prefix, "config": config}


def modes(*, full_before: bool = False, plain_arrays: bool = False, infinite_intervals: bool = True) -> Modes:
    """How events of this connector are read, once statements() were run; the rest is the table's, see Modes."""
    return Modes(
        placeholder=PLACEHOLDER,
        pinned_session=True,
        conversion_fails=True,
        full_before=full_before,
        plain_arrays=plain_arrays,
        infinite_intervals=infinite_intervals,
    )


def statements(tables: Iterable[TableConfig], source: Source, *, slot: str, publication: str) -> list[str]:
    """What to run on the source, in this order, by its owner, before the connector is started for the first time."""
    role, database = _identifier(source.user), _identifier(source.database)
    names = ", ".join(f"{_identifier(table.schema_)}.{_identifier(table.table_name)}" for table in tables)
    settings = [
        f"ALTER ROLE {role} IN DATABASE {database} SET {name} = '{value}'" for name, value in ROLE_SETTINGS.items()
    ]
    return [
        *settings,
        f"CREATE PUBLICATION {_identifier(publication)} FOR TABLE {names} WITH (publish_via_partition_root = true)",
        f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')",
    ]


def topic(prefix: str, table: TableConfig) -> str:
    """Where the connector puts a table's events: what a topic's name cannot hold becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", f"{prefix}.{table.qualified_name}")


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


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _check_topics(prefix: str, tables: Iterable[TableConfig]) -> None:
    by_topic = defaultdict[str, list[str]](list)
    for table in tables:
        by_topic[topic(prefix, table)].append(table.qualified_name)
    problems = [
        f"tables {' and '.join(names)} would share the topic {name}"
        for name, names in by_topic.items()
        if len(names) > 1
    ]
    if problems:
        raise ConfigError(problems, hint="give each a connector with a topic.prefix of its own")
