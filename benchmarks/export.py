"""Measure the export of one table to S3, as a ratio to draining the same COPY … csv.

    python benchmarks/export.py --rows 2000000 [--pairs 5] [--discard] [--json]

Both sides run the same statement on the same warm table, in turn, each run in a new process. The drain passes every
row to a C function that does nothing. The export compresses, uploads and commits a manifest. PostgreSQL and the S3
server share the machine with the measured process: on 2 cores, nothing else may run. With ``--discard``, the uploads go
to an endpoint that discards them, because a real bucket uses no core here. The time runs from the open
connection to the last byte received (drain) or to the written manifest (export). ``ratio`` is the median over the
pairs of export rate / drain rate. ``peak_rss_mb`` is the largest ru_maxrss of any export.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import boto3  # noqa: F401  # imported before the clock starts, like every other module
import psycopg2

from aurora_sync.model.certificate import Certificate, Level
from aurora_sync.model.column import Column
from aurora_sync.model.manifest import Disposition, Manifest
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Snapshot, Token, Watermark
from aurora_sync.objects.store import Store
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import copy_out, select_statement
from aurora_sync.source.exporter import ClientCopy
from aurora_sync.stage.layout import new_load_id
from aurora_sync.stage.writer import Stage

# About 170 bytes of CSV per row: keys, times, money, names, some NULLs, a sentence.
CREATE = """
CREATE TABLE orders (
    id bigint PRIMARY KEY, customer_id integer NOT NULL, status text NOT NULL, currency char(3) NOT NULL,
    amount numeric(12,2) NOT NULL, quantity integer NOT NULL, paid boolean NOT NULL,
    created_at timestamptz NOT NULL, shipped_at timestamptz, email text NOT NULL, city text, note text
)
"""
FILL = """
INSERT INTO orders
SELECT n, customer, (ARRAY['new','paid','packed','shipped','returned'])[1 + (random() * 4)::int],
       (ARRAY['EUR','USD','CHF'])[1 + (random() * 2)::int], (random() * 10000)::numeric(12,2),
       1 + (random() * 20)::int, random() < 0.8, created,
       CASE WHEN random() < 0.7 THEN created + random() * interval '5 days' END,
       'customer.' || customer || '@example.com',
       (ARRAY['Zürich','Berlin','Lyon','San José',NULL])[1 + (random() * 4)::int],
       CASE WHEN random() < 0.5 THEN format('leave with the neighbour at number %%s, ring "%%s"',
                                            (random() * 300)::int, chr(65 + (random() * 25)::int)) END
  FROM (SELECT n, (random() * 200000)::int AS customer,
               timestamptz '2024-01-01' + (n + random()) * interval '30 seconds' AS created
          FROM generate_series(1, %s) n) ordered
"""
COLUMNS = (
    "id", "customer_id", "status", "currency", "amount", "quantity", "paid", "created_at", "shipped_at",
    "email", "city", "note",
)  # fmt: skip
TABLE = SourceTable(
    schema="public",
    name="orders",
    oid=0,
    kind="r",
    columns=tuple(Column(name, number, "text", "text") for number, name in enumerate(COLUMNS, 1)),
    indexes=(),
    member_kinds=("r",),
)


def drain(connection: psycopg2.extensions.connection) -> tuple[int, int]:
    """Drain the table. Return the number of rows, and 0 bytes staged."""
    return copy_out(connection, TABLE, TABLE.columns, None, SimpleNamespace(write=len)), 0


def export(connection: psycopg2.extensions.connection) -> tuple[int, int]:
    """Export the table. Return the numbers of rows and of bytes staged."""
    stage = Stage(Store.from_url(os.environ["AURORA_SYNC_STAGE"]))
    load_id = new_load_id()
    with stage.attempt(TABLE.qualified_name, load_id) as attempt:
        statement = select_statement(TABLE, TABLE.columns, None)
        exported = ClientCopy().export(connection, TABLE, statement, attempt, lambda _: None)
    token = Token("", 0, 0, 0, "", False, 0, {})
    watermark = Watermark("full_snapshot", {}, Snapshot(0, 0, datetime.now(UTC)), token)
    manifest = Manifest(
        table=TABLE.qualified_name,
        load_id=load_id,
        prefix=attempt.prefix,
        disposition=Disposition.REPLACE,
        files=attempt.files,
        columns=TABLE.columns,
        key=("id",),
        watermark_before=None,
        watermark_after=watermark,
        expected_sequence=0,
        certificate=Certificate(Level.CERTIFIED, (), "a benchmark"),
    )
    stage.commit(manifest)
    return exported.rows, manifest.bytes


def run_worker(side: str) -> None:
    """Run one side once in this process. Print its figures as one line of JSON."""
    work = {"drain": drain, "export": export}[side]
    with connect(os.environ["AURORA_DSN"]) as connection:
        begin = time.perf_counter()
        rows, staged = work(connection)
        seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"rows": rows, "seconds": seconds, "peak_rss_mb": peak, "megabytes": staged / 1e6}))


def measure(side: str, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--worker", side]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def compare(environment: dict[str, str], pairs: int) -> dict[str, object]:
    """Run drain and export ``pairs`` times. Which one is first alternates. Return the figures."""
    measure("drain", environment)  # warms the cache
    drains, exports = [], []
    for pair in range(pairs):
        sides = ("drain", "export") if pair % 2 == 0 else ("export", "drain")
        figures = {side: measure(side, environment) for side in sides}
        drains.append(figures["drain"]["seconds"])
        exports.append(figures["export"])
        print(f"pair {pair + 1}: drain {drains[-1]:.2f} s, export {exports[-1]['seconds']:.2f} s", flush=True)
    rows = exports[0]["rows"]
    return {
        "ratio": round(statistics.median(d / e["seconds"] for d, e in zip(drains, exports, strict=True)), 3),
        "peak_rss_mb": round(max(export["peak_rss_mb"] for export in exports), 1),
        "rows": rows,
        "rows_per_second": round(rows / statistics.median(export["seconds"] for export in exports)),
        "drain_rows_per_second": round(rows / statistics.median(drains)),
        "megabytes_staged": round(exports[0]["megabytes"], 1),
        "pairs": pairs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--discard", action="store_true", help="discard the uploads, in place of the local S3 server")
    parser.add_argument("--json", action="store_true", help="the figures as one object on the last line")
    parser.add_argument("--worker", choices=("drain", "export"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        run_worker(arguments.worker)
        return
    from aurora_sync.embedded import s3  # the workers do not import these
    from aurora_sync.embedded.stack import Stack
    from benchmarks.discarding_s3 import discarding_s3

    # With memory limits, the S3 server uses a second core for garbage collection. A real bucket uses no core here.
    s3.MEMORY_LIMITS.clear()
    with (
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory) / "stack") as stack,
        discarding_s3() as endpoint,
    ):
        environment = os.environ | stack.environment()
        if arguments.discard:
            environment["AWS_ENDPOINT_URL_S3"] = endpoint
        prepare(environment["AURORA_DSN"], arguments.rows)
        figures = compare(environment, arguments.pairs)
    print(
        f"export {figures['rows_per_second']:,} rows/s, drain {figures['drain_rows_per_second']:,} rows/s: "
        f"ratio {figures['ratio']}, peak {figures['peak_rss_mb']} MB"
    )
    if arguments.json:
        print(json.dumps(figures))


def prepare(dsn: str, rows: int) -> None:
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(CREATE)
            cursor.execute(FILL, (rows,))
            cursor.execute("VACUUM (FREEZE, ANALYZE) orders")


if __name__ == "__main__":
    main()
