"""Load a table over a slow connection, by one process and by several.

    python benchmarks/parallel_load.py [--rows 1200000] [--processes 4] [--mb-per-second 5]

A proxy limits each connection to PostgreSQL, as a distant or throttled one is limited. Prints one line of JSON with the
seconds of one process and of several, and their ratio: of the exports of all chunks alone, and of `aurora-sync sync`,
which includes their load into DuckDB, one chunk at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

from aurora_sync.config.settings import Settings
from aurora_sync.engine import load, one_chunk
from aurora_sync.engine.look import looking
from aurora_sync.engine.places import Places
from aurora_sync.engine.plan import RunOptions
from aurora_sync.engine.selection import all_tables
from aurora_sync_tests.fixtures.local_stack import throwaway_stack

_CREATE = "CREATE TABLE wide (id bigint PRIMARY KEY, a text, b text)"
_FILL = (
    "INSERT INTO wide SELECT n, repeat(md5(n::text), 2), repeat(md5((n + 1)::text), 3) FROM generate_series(1, %s) n"
)
_PIECE = 65_536


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_200_000)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--mb-per-second", type=float, default=5.0, help="of each connection")
    options = parser.parse_args()
    with throwaway_stack() as stack, tempfile.TemporaryDirectory() as folder:
        dsn = stack.superuser_dsn()
        connection = psycopg2.connect(dsn)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(_CREATE)
            cursor.execute(_FILL, (options.rows,))
            cursor.execute("SELECT pg_table_size('wide')")
            ((size,),) = cursor.fetchall()
        connection.close()
        tables = Path(folder, "tables.yaml")
        chunk = f"{{chunk_bytes: {size // (options.processes * 4)}}}"
        tables.write_text(f"tables:\n  - {{table_name: wide, watermark_type: xmin, load: {chunk}}}\n", encoding="utf-8")
        with _throttled(dsn, options.mb_per_second * 1e6) as slow:
            environment = {**os.environ, **stack.environment(), "AURORA_DSN": slow, "AURORA_SYNC_TABLES": str(tables)}
            measured = {"rows": options.rows, "heap_mb": round(size / 1e6), "processes": options.processes}
            for name, seconds in (("export", _export_seconds), ("sync", _sync_seconds)):
                one, several = (seconds(environment, folder, number) for number in (1, options.processes))
                measured[f"{name}_seconds"] = [round(one, 1), round(several, 1)]
                measured[f"{name}_ratio"] = round(several / one, 2)
        print(json.dumps(measured))


def _export_seconds(environment: dict[str, str], folder: str, processes: int) -> float:
    os.environ.update(environment, AURORA_SYNC_WAREHOUSE=f"duckdb:{folder}/export{processes}.duckdb")
    settings = Settings.from_environment(os.environ)
    places = Places.from_settings(settings)
    (config,) = all_tables(settings, places.source)
    with looking(config, places, RunOptions()) as found:
        load.begin(found, places, load.chunk_bounds(found, RunOptions()))
    state = one_chunk.loading_state(config, places)
    assert state
    assert state.watermark
    assert state.watermark.load
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(time.sleep, [0.5] * processes))  # the processes have started and imported
        started = time.monotonic()
        for done in [pool.submit(one_chunk.export_chunk, config, places, state, n) for n in state.watermark.load.left]:
            done.result()
        return time.monotonic() - started


def _sync_seconds(environment: dict[str, str], folder: str, processes: int) -> float:
    warehouse = f"duckdb:{folder}/{processes}.duckdb"
    command = [sys.executable, "-m", "aurora_sync.cli.main", "sync", "--parallel", str(processes), "--json"]
    started = time.monotonic()
    subprocess.run(
        command, env={**environment, "AURORA_SYNC_WAREHOUSE": warehouse}, check=True, stdout=subprocess.DEVNULL
    )
    return time.monotonic() - started


@contextmanager
def _throttled(dsn: str, bytes_per_second: float) -> Iterator[str]:
    """Yield a DSN of the same database, through which each connection receives at most so many bytes per second."""
    parts = parse_dsn(dsn)
    ready, port = threading.Event(), 0
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(parts["host"], int(parts["port"]))
        await asyncio.gather(_pass(reader, back, None), _pass(there, writer, bytes_per_second))

    async def listen() -> None:
        nonlocal port
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        ready.set()

    listening = loop.create_task(listen())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    ready.wait()
    assert listening.done()
    yield make_dsn(dsn, host="127.0.0.1", port=port)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: float | None) -> None:
    begun, passed = time.monotonic(), 0
    while data := await reader.read(_PIECE):
        writer.write(data)
        await writer.drain()
        passed += len(data)
        if limit:
            if passed / limit < time.monotonic() - begun - 1:  # it was idle: what was not used is not saved up
                begun, passed = time.monotonic(), len(data)
            await asyncio.sleep(max(0.0, passed / limit - (time.monotonic() - begun)))
    writer.close()


if __name__ == "__main__":
    main()
