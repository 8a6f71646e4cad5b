"""A database with every type, and the events of the real engine under several configurations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn

from aurora_sync.config.connector import Connector
from aurora_sync.config.tables import TableConfig
from aurora_sync.config.watermark_types import WatermarkType
from aurora_sync.embedded.stack import Stack
from aurora_sync.model.column import Column
from aurora_sync.provisioning import replication
from aurora_sync.provisioning.connector import ConnectorSource, connector_config
from aurora_sync.source.catalogue import load
from aurora_sync.source.connection import connect
from aurora_sync.source.debezium.events import Decoder, Event
from aurora_sync.source.debezium.modes import Modes
from aurora_sync_tests.fixtures.source_database import fresh_database
from aurora_sync_tests.scenarios.debezium_events.tables import HIDDEN, MADE, TOASTED, TYPES

ENGINE = Path(__file__).with_name("engine.py")
SAFE = Modes.of(Connector(plain_arrays=True), pinned_session=True, infinite_intervals=True)
# By name: options beyond the recommended ones, whether messages carry their schema, and how they are read.
CONFIGURATIONS: dict[str, tuple[dict[str, str], bool, Modes]] = {
    "advised": ({}, False, SAFE),
    "with_schema": ({}, True, SAFE),
    "adaptive": (
        {"time.precision.mode": "adaptive", "binary.handling.mode": "hex", "hstore.handling.mode": "map"},
        False,
        replace(SAFE, time="adaptive", binary="hex"),
    ),
    "adaptive_us": (
        {"time.precision.mode": "adaptive_time_microseconds", "binary.handling.mode": "base64"},
        False,
        replace(SAFE, time="adaptive_time_microseconds", binary="base64"),
    ),
    "iso": (
        {"time.precision.mode": "isostring", "binary.handling.mode": "base64-url-safe"},
        False,
        replace(SAFE, time="isostring", binary="base64-url-safe"),
    ),
    "adaptive_with_schema": ({"time.precision.mode": "adaptive", "hstore.handling.mode": "map"}, True, SAFE),
    "careless": ({"event.converting.failure.handling.mode": "warn"}, False, replace(SAFE, conversion_fails=False)),
    "iso_with_schema": ({"time.precision.mode": "isostring"}, True, SAFE),
}


def stops(name: str, type_: str) -> bool:
    """Return whether an update that does not change such a value stops the connector."""
    options, _, modes = CONFIGURATIONS[name]
    hidden = type_ in HIDDEN or (type_ == "bytea[]" and modes.binary != "bytes")
    return hidden and "event.converting.failure.handling.mode" not in options


@dataclass(frozen=True)
class Captured:
    """The messages of one engine, and what all engines read: columns, and values as COPY prints them. By table."""

    modes: Modes
    messages: dict[str, list[dict[str, object]]]
    columns: Mapping[str, tuple[Column, ...]]
    printed: Mapping[str, Mapping[bytes, bytes | None]]  # by id

    def events(self, table: str, columns: Sequence[Column], modes: Modes | None = None) -> Iterator[Event]:
        decoder = Decoder("shop", table, columns, ["id"], modes or self.modes)
        for message in self.messages[table]:
            key, value, headers = message["key"], message["value"], message["headers"]
            assert isinstance(headers, dict)
            yield decoder.decode(
                key.encode() if isinstance(key, str) else None,
                value.encode() if isinstance(value, str) else None,
                [(name, text.encode()) for name, text in headers.items()],
            )


@pytest.fixture(scope="session")
def source(stack: Stack) -> Iterator[str]:
    """Yield a database whose settings would change what Debezium sends, if its role did not override them."""
    with fresh_database(stack.superuser_dsn()) as url:
        parts = parse_dsn(url)
        with psycopg2.connect(url) as connection, connection.cursor() as cursor:
            for name, value in {
                "TimeZone": "America/St_Johns",
                "IntervalStyle": "sql_standard",
                "bytea_output": "escape",
                "DateStyle": "German",
                "extra_float_digits": "-5",
            }.items():
                cursor.execute(f"ALTER DATABASE {parts['dbname']} SET {name} = '{value}'")
        connection.close()
        yield url


@pytest.fixture(scope="session")
def captured(source: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Captured]:
    """Return the messages of each configuration's engine: inserts of every type, updates, deletes and a truncate."""
    directory = tmp_path_factory.mktemp("debezium")
    parts = parse_dsn(source)
    connection = psycopg2.connect(source)
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE SCHEMA shop; {MADE}")
        tables = [*TYPES, *TOASTED, "moved", "whole"]
        for name, column in {**TYPES, **TOASTED}.items():
            cursor.execute(f"CREATE TABLE shop.{name} (id int PRIMARY KEY, w int, v {column.type})")
        for name in TOASTED:
            cursor.execute(f"ALTER TABLE shop.{name} ALTER v SET STORAGE EXTERNAL")
        cursor.execute("CREATE TABLE shop.moved (id int PRIMARY KEY, n numeric NOT NULL, t text)")
        cursor.execute("CREATE TABLE shop.whole (id int PRIMARY KEY, w int NOT NULL, v float8[], t text)")
        cursor.execute("ALTER TABLE shop.whole REPLICA IDENTITY FULL, ALTER v SET STORAGE EXTERNAL")
        configs = {name: _configs(name, tables, parts["user"]) for name in CONFIGURATIONS}
        for listed in configs.values():
            replication.set_up(source, listed, timeout="60s")
        _write(cursor)
    runs = []
    for name, (options, schemas, _) in CONFIGURATIONS.items():
        listed = [
            c for c in configs[name] if c.table_name not in TOASTED or not stops(name, TOASTED[c.table_name].type)
        ]
        place = ConnectorSource(parts["host"], parts["dbname"], int(parts["port"]), sslmode="prefer")
        document = connector_config(listed, place, schemas=schemas)
        config = document["config"]
        assert isinstance(config, dict)
        switch = "true" if schemas else "false"
        properties = config | {
            "name": name,
            "database.password": parts["password"],
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.storage.file.filename": str(directory / f"{name}.offsets"),
            "converter.schemas.enable": switch,
            **options,
        }
        runs.append({"properties": properties, "output": str(directory / f"{name}.jsonl")})
    (directory / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, str(ENGINE), str(directory / "runs.json")],
            cwd=directory,
            env=os.environ | {"JAVA_TOOL_OPTIONS": "-Duser.timezone=Asia/Kolkata"},
            capture_output=True,
            text=True,
            timeout=570,
            check=False,
        )
    finally:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = ANY (%s)",
                (list(CONFIGURATIONS),),
            )
        connection.close()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    columns, printed = _read(source, tables)
    return {
        name: Captured(modes, _by_table(directory / f"{name}.jsonl"), columns, printed)
        for name, (_, _, modes) in CONFIGURATIONS.items()
    }


def _read(
    source: str, tables: Sequence[str]
) -> tuple[dict[str, tuple[Column, ...]], dict[str, dict[bytes, bytes | None]]]:
    """Return the columns of the tables, and the values of those with each type, as COPY prints them."""
    printed = {}
    with connect(source) as connection, connection.cursor() as cursor:
        found = load(connection, [("shop", table) for table in tables])
        for table in TYPES:
            cursor.execute(f"SELECT format('%s', id), format('%s', v), v IS NULL FROM shop.{table}")
            rows = cursor.fetchall()
            printed[table] = {id_.encode(): None if null else text.encode() for id_, text, null in rows}
    return {table: found[f"shop.{table}"].columns for table in tables}, printed


def _configs(name: str, tables: Sequence[str], role: str) -> list[TableConfig]:
    return [
        TableConfig(
            table_name=table,
            schema_="shop",
            watermark_type=WatermarkType.debezium,
            slot=name,
            topic_prefix=name,
            connector=Connector(role=role),
        )
        for table in tables
    ]


def _write(cursor: psycopg2.extensions.cursor) -> None:
    for name, column in TYPES.items():
        for number, value in enumerate(column.values):
            cursor.execute(f"INSERT INTO shop.{name} VALUES ({number}, 0, {value})")
        cursor.execute(f"INSERT INTO shop.{name} VALUES (-1, 0, NULL)")
    for name, column in TOASTED.items():
        cursor.execute(f"INSERT INTO shop.{name} SELECT 1, 1, {column.values[0]} FROM generate_series(1, 3000) i")
        cursor.execute(f"UPDATE shop.{name} SET w = 2")
    cursor.execute(
        "INSERT INTO shop.moved VALUES (1, 1.50, (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 500) i))"
    )
    cursor.execute("UPDATE shop.moved SET id = 2; DELETE FROM shop.moved; TRUNCATE shop.moved")
    cursor.execute("INSERT INTO shop.whole SELECT 1, 1, array_agg(i * 0.5) FROM generate_series(1, 3000) i")
    cursor.execute("UPDATE shop.whole SET w = 2; DELETE FROM shop.whole")
    cursor.execute("SELECT pg_logical_emit_message(true, 'stop', '')")


def _by_table(output: Path) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {}
    for line in output.read_text(encoding="utf-8").splitlines():
        message = json.loads(line)
        found.setdefault(message["topic"].rpartition(".")[2], []).append(message)
    return found
