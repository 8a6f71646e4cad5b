"""The model of the connector sends the same messages as the real engine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync_tests.scenarios.debezium.conftest import Connected
from aurora_sync_tests.scenarios.debezium.model import Message, ModelConnector

TABLE = """
CREATE TABLE {} (id bigint GENERATED ALWAYS AS IDENTITY, part int NOT NULL, v text, cents int NOT NULL DEFAULT 0,
    m mood, a addr, updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (id, part)) {}
"""
INSERT = "INSERT INTO t (part, v, cents, m, a) VALUES ({}, '{}', {}, 'ok', '(s,c)')"
LEAVES = "CREATE TABLE t_p0 PARTITION OF t FOR VALUES IN (0); CREATE TABLE t_p1 PARTITION OF t FOR VALUES IN (1)"
HISTORIES: dict[str, list[str]] = {
    "rows and keys": [
        "UPDATE t SET v = NULL, m = 'sad' WHERE id = 1",
        "UPDATE t SET part = 1, v = 'moved' WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "BEGIN; UPDATE t SET cents = cents + 1; DELETE FROM t WHERE id = 1; COMMIT",
        "TRUNCATE t RESTART IDENTITY",
        INSERT.format(1, "again", 7),
    ],
    "columns": [
        "ALTER TABLE t ADD c1 text DEFAULT 'x'",
        INSERT.format(1, "added", 1),
        "ALTER TABLE t RENAME v TO w",
        "UPDATE t SET w = 'renamed' WHERE id = 1",
        "ALTER TABLE t RENAME w TO v",
        "ALTER TABLE t ALTER cents TYPE bigint",
        "UPDATE t SET cents = 7000000000 WHERE id = 1",
        "ALTER TABLE t DROP c1",
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",
        "UPDATE t SET m = 'fine' WHERE id = 2",
        "ALTER TYPE addr DROP ATTRIBUTE city CASCADE",
        "UPDATE t SET a = '(only)' WHERE id = 2",
        "DELETE FROM t WHERE id = 2",
    ],
    "identity": [
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "UPDATE t SET v = 'full' WHERE id = 1",
        "UPDATE t SET part = 1 WHERE id = 2",
        "DELETE FROM t WHERE id = 1",
        "ALTER TABLE t REPLICA IDENTITY DEFAULT",
        "DELETE FROM t WHERE id = 2",
    ],
    "names": [
        "ALTER TABLE t RENAME TO elsewhere",
        "DELETE FROM elsewhere WHERE id = 1",
        "ALTER TABLE elsewhere RENAME TO t",
        "UPDATE t SET v = 'back' WHERE id = 2",
        "ALTER TABLE t RENAME TO old",
        TABLE.format("t", ""),
        INSERT.format(1, "another table", 1),
        "UPDATE old SET v = 'sent as a row of t' WHERE id = 3",
        "DROP TABLE t",
        "ALTER TABLE old RENAME TO t",
        "UPDATE t SET v = 'back again' WHERE id = 3",
    ],
}
# A table with partitions.
OF_PARTITIONS: dict[str, list[str]] = {
    "partitions": [
        "UPDATE t SET part = 1 WHERE id = 1",
        "TRUNCATE t_p1",
        "ALTER TABLE t DETACH PARTITION t_p0",
        "UPDATE t_p0 SET v = 'alone' WHERE id = 2",
        "ALTER TABLE t ATTACH PARTITION t_p0 FOR VALUES IN (0)",
        "UPDATE t SET v = 'attached' WHERE id = 2",
        "TRUNCATE t",
        INSERT.format(1, "again", 7),
    ],
}


@pytest.mark.parametrize("history", [*HISTORIES, *OF_PARTITIONS])
@pytest.mark.parametrize("published", ["the table", pytest.param("all tables", marks=pytest.mark.long)])
def test_the_model_sends_what_the_engine_sends(connected: Connected, history: str, published: str) -> None:
    world, name = connected.world, connected.name
    partitions = "PARTITION BY LIST (part)" if history in OF_PARTITIONS else ""
    world.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')", "CREATE TYPE addr AS (street text, city text)")
    world.execute(TABLE.format("t", partitions), *([LEAVES] if partitions else []))
    of = "ALL TABLES" if published == "all tables" else "TABLE t"
    world.execute(f"CREATE PUBLICATION {name} FOR {of} WITH (publish_via_partition_root = true)")
    world.execute(*(INSERT.format(0, value, 1) for value in "abcd"))
    table = connected.table()
    connected.setup(table)
    connected.start(table)
    connected.catch_up()
    model = ModelConnector(world, connected.servers, f"{name}_model", name)
    try:
        model.start_anew()
        for statement in (HISTORIES | OF_PARTITIONS)[history]:
            world.execute(statement)
            # The key is looked up when a change is read; here both read it at the same time.
            connected.catch_up()
            model.send()
        engine = list(_of_the_engine(connected))
    finally:
        with connect(world.dsn) as connection:
            slot.drop(connection, model.name)
    assert [_plain(message) for message in model.sent] == [_plain(message) for message in engine]
    assert engine


def _of_the_engine(connected: Connected) -> Iterator[Message]:
    with connected.kafka.topic(f"{connected.name}.public.t") as topic:
        for message in topic.read({}):
            headers = {
                n: json.loads(v or b"") for n, v in message.headers if n.startswith("__debezium.") and "key" in n
            }
            key, value = (None if part is None else json.loads(part) for part in (message.key, message.value))
            yield Message(key, value, headers)


def _plain(message: Message) -> Message:
    """Return the part of a message that a reader uses, in a form that both share."""
    if message.value is None:
        return message
    event: dict[str, Any] = message.value
    source = {name: event["source"][name] for name in ("connector", "schema", "table", "lsn", "txId", "ts_us")}
    before = event["before"]
    if before and event["op"] == "d" and "m" in before and before["m"] is None:
        # Without REPLICA IDENTITY FULL, only the key is known.
        before = message.key
    return Message(
        message.key,
        {"op": event["op"], "before": before, "after": event["after"], "source": source}
        | {"change": json.loads(event["source"]["sequence"])[1]},
        message.headers,
    )
