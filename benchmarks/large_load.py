"""Load a large table in chunks, kill the load again and again, and compare the result.

    python benchmarks/large_load.py --rows 20000000 --kills 20 [--chunk-mb 32]

Each run is a process of `aurora-sync sync`, killed with SIGKILL a random time after it staged two chunks. Between two
runs, a writer updates, inserts and deletes rows anywhere in the table. After the kills, one run finishes the load, and
`aurora-sync verify` compares every row. Prints one line of JSON; ``repeated`` is the number of chunks that were
staged more than once, which must be at most one for each kill. With ``--kills 0`` one run loads the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2

from aurora_sync.config.settings import Settings
from aurora_sync.engine.places import Places
from aurora_sync.stage import layout
from aurora_sync_tests.fixtures.local_stack import throwaway_stack

_MAKE = """
CREATE TABLE big (id bigint PRIMARY KEY, customer int, amount numeric(12,2), note text, at timestamptz)
"""
_FILL = """
INSERT INTO big SELECT n, n % 100000, (n % 9999999) / 100.0, 'note ' || md5(n::text), now() - n * interval '1 second'
  FROM generate_series({first}, {last}) n
"""
_WRITE = (
    "UPDATE big SET note = 'changed ' || note"
    " WHERE id IN (SELECT 1 + (random() * {rows})::bigint FROM generate_series(1, 2000))",
    "DELETE FROM big WHERE id IN (SELECT 1 + (random() * {rows})::bigint FROM generate_series(1, 500))",
    "INSERT INTO big SELECT {rows} + {number} * 1000 + n, n, n, 'new', now() FROM generate_series(1, 500) n",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--chunk-mb", type=int, default=32)
    options = parser.parse_args()
    with throwaway_stack() as stack, tempfile.TemporaryDirectory() as folder:
        dsn = stack.superuser_dsn()
        with psycopg2.connect(dsn) as connection, connection.cursor() as cursor:
            cursor.execute(_MAKE)
            for first in range(1, options.rows + 1, 1_000_000):
                cursor.execute(_FILL.format(first=first, last=min(options.rows, first + 999_999)))
        connection.close()
        tables = Path(folder, "tables.yaml")
        chunk = options.chunk_mb * 1_000_000
        tables.write_text(
            f"tables:\n  - table_name: big\n    watermark_type: xmin\n    load: {{chunk_bytes: {chunk}}}\n",
            encoding="utf-8",
        )
        environment = {
            **os.environ,
            **stack.environment(),
            "AURORA_DSN": dsn,
            "AURORA_SYNC_WAREHOUSE": f"duckdb:{folder}/warehouse.duckdb",
            "AURORA_SYNC_TABLES": str(tables),
        }
        print(json.dumps(_load(environment, dsn, options)))


def _load(environment: dict[str, str], dsn: str, options: argparse.Namespace) -> dict[str, Any]:
    os.environ.update(environment)
    places = Places.from_settings(Settings.from_environment(environment))
    begun, kills, seconds = time.monotonic(), 0, 0.0
    while kills < options.kills:
        before, started = _staged(places), time.monotonic()
        run = subprocess.Popen(_command("sync"), env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        while run.poll() is None and _staged(places) < before + 2:  # the first of them is loaded, or is about to be
            time.sleep(0.1)
        time.sleep(random.uniform(0, 2))
        if run.poll() is not None:
            raise SystemExit(f"the load ended after {kills} kills: choose smaller chunks")
        run.kill()
        run.wait()
        seconds += time.monotonic() - started
        kills += 1
        _write(dsn, options.rows, kills)
    started = time.monotonic()
    last = _printed("sync", environment)
    seconds += time.monotonic() - started
    staged = _staged(places) - 1  # without what the last run read
    verified = _printed("verify", environment)
    receipt = last["receipts"][0]
    found = verified["receipts"][0]["verification"]
    return {
        "rows": found["source_rows"],
        "heap_mb": _heap_mb(dsn),
        "staged_mb": round(receipt["load"]["bytes"] / 1e6),
        "seconds_of_exports": round(receipt["load"]["seconds"], 1),
        "last_run": receipt["seconds"],
        "verify": verified["receipts"][0]["seconds"],
        "kills": kills,
        "chunks": len(receipt["load"]["bounds"]),
        "repeated": max(0, staged - len(receipt["load"]["bounds"])),
        "certificate": receipt["certificate"]["level"],
        "equal": not (found["missing"] or found["different"] or found["ghosts"]),
        "seconds_of_runs": round(seconds, 1),
        "seconds": round(time.monotonic() - begun, 1),
    }


def _printed(command: str, environment: dict[str, str]) -> Any:
    run = subprocess.run(_command(command, "--json"), env=environment, check=True, stdout=subprocess.PIPE)
    return json.loads(run.stdout)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "aurora_sync.cli.main", *arguments]


def _staged(places: Places) -> int:
    """Return the number of chunks whose manifest is in the stage: attempts with files."""
    keys = places.stage.store.list(places.stage.store.prefix)
    attempts = [found for key in keys if (found := layout.attempt_key(places.stage.store.prefix, key))]
    committed = {each.prefix for each in attempts if each.name == layout.MANIFEST}
    return len({each.prefix for each in attempts if each.name != layout.MANIFEST} & committed)


def _heap_mb(dsn: str) -> int:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_table_size('big')")
        ((size,),) = cursor.fetchall()
    return round(int(size) / 1e6)


def _write(dsn: str, rows: int, number: int) -> None:
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in _WRITE:
            cursor.execute(statement.format(rows=rows, number=number))
    connection.close()


if __name__ == "__main__":
    main()
