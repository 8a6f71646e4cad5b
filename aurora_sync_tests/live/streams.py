"""A slot's changes, and the files of a DMS task, through real places; leaves nothing behind on either side."""

from __future__ import annotations

import dataclasses
import secrets
from typing import Any

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.model.dms_columns import BEFORE, NULL, OP, SEQUENCE, TIMESTAMP, UNCHANGED
from aurora_sync.model.receipt import Receipt
from aurora_sync.provisioning import replication
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync.warehouse.ddl import target_name
from aurora_sync_tests.live.roundtrip import execute, scratch

TABLE = """
CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz, doc text);
ALTER TABLE t ALTER doc SET STORAGE EXTERNAL;
INSERT INTO t SELECT g, 'a', now(), repeat('x', 9000) || g FROM generate_series(1, 20) g;
"""
# One transaction each.
CHANGES = (
    "UPDATE t SET v = 'b' WHERE id < 5",
    "UPDATE t SET id = 100 WHERE id = 1",
    "UPDATE t SET v = NULL WHERE id = 100",
    "DELETE FROM t WHERE id = 20",
    "INSERT INTO t VALUES (20, '', NULL, 'größe')",
)


def slot_stream(places: Places) -> None:
    """The first read, changes, a history, a truncate."""
    places, name = _own(places)
    config = TableConfig.model_validate(
        {"schema": name, "table_name": "t", "watermark_type": "logical", "slot": name, "history": True}
    )
    with scratch(places, [config], name) as connection:
        execute(connection, TABLE)
        try:
            replication.set_up(places.source.dsn, [config], timeout="60s")
            assert _run(config, places).inserted == 20
            for change in CHANGES:
                execute(connection, change)
            receipt = _run(config, places)
            assert receipt.method.startswith("stream")
            _assert_equal(connection, places, config)
            with places.warehouse.session() as session:
                history = f'"{target_name(config).schema}"."T_HISTORY"'
                found = session.query(f'SELECT "_OP", COUNT(*) FROM {history} GROUP BY "_OP" ORDER BY "_OP"')
            assert [(operation, int(count)) for operation, count in found] == [("D", 1), ("I", 1), ("R", 20), ("U", 6)]
            execute(connection, "TRUNCATE t; INSERT INTO t VALUES (1)")
            assert _run(config, places).target_rows == 1
            _assert_equal(connection, places, config)
        finally:
            with connect(places.source.dsn) as other:
                if slot.look(other, name):
                    slot.drop(other, name)
            execute(connection, f"DROP PUBLICATION IF EXISTS {name}")


def dms_files(places: Places) -> None:
    """Written as a task does; the folder is the stage, so that the stage's own URL shows it."""
    places, name = _own(places)
    store = places.stage.store
    folder = f"s3://{store.bucket}/{store.prefix}".rstrip("/")
    config = TableConfig.model_validate(
        {"schema": name, "table_name": "t", "watermark_type": "dms", "files": folder, "primary_key": "id"}
    )
    header = [OP, "id", "v", "at", "doc", f"{BEFORE}id", TIMESTAMP, SEQUENCE]
    written: list[str] = []

    def put(file: str, *rows: list[str]) -> None:
        written.append(f"{store.prefix}{name}/t/{file}.csv")
        text = "".join(",".join(row) + "\n" for row in [header, *rows])
        store.put_new(written[-1], text.encode())

    moment, no_key = "2026-01-01 00:00:00.000000", NULL
    with scratch(places, [config], name) as connection:
        execute(connection, "CREATE TABLE t (id int PRIMARY KEY, v text, at timestamptz, doc text)")
        execute(
            connection,
            "INSERT INTO t VALUES (10, NULL, '2024-02-29 12:00:00.5+00', 'long 1'), (2, 'NULL', NULL, ''),"
            " (4, E'a,\"b\\nc', NULL, NULL)",
        )
        try:
            put(
                "LOAD00000001",
                ["I", "1", "a", "2024-02-29 12:00:00.500000", "long 1", no_key, moment, ""],
                ["I", "2", "NULL", NULL, '""', no_key, moment, ""],
                ["I", "3", "gone", NULL, NULL, no_key, moment, ""],
            )
            put(
                "20260101-000000001",
                ["U", "1", NULL, "2024-02-29 12:00:00.500000", UNCHANGED, "1", moment, f"{1:035}"],
                ["U", "10", NULL, "2024-02-29 12:00:00.500000", UNCHANGED, "1", moment, f"{2:035}"],
                ["D", "3", NULL, NULL, NULL, no_key, moment, f"{3:035}"],
                ["I", "4", '"a,""b\nc"', NULL, NULL, no_key, moment, f"{4:035}"],
            )
            receipt = _run(config, places)
            assert receipt.method.startswith("files")
            _assert_equal(connection, places, config)
            assert not _run(config, places).changed
        finally:
            store.delete(written)


def _own(places: Places) -> tuple[Places, str]:
    name = f"aurora_sync_live_{secrets.token_hex(4)}"
    return dataclasses.replace(places, log_schema=f"_{name}".upper()), name


def _run(config: TableConfig, places: Places) -> Receipt:
    return batch.run_one(config, places)


def _assert_equal(connection: Any, places: Places, config: TableConfig) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text, v, (extract(epoch FROM at) * 1000000)::bigint::text, md5(doc) FROM t")
        expected = sorted(cursor.fetchall(), key=repr)
    target = 'CAST("ID" AS VARCHAR), "V", CAST(DATE_PART(EPOCH_MICROSECOND, "AT") AS VARCHAR), MD5("DOC")'
    with places.warehouse.session() as session:
        found = sorted(session.query(f"SELECT {target} FROM {target_name(config).sql}"), key=repr)
    assert found == expected
