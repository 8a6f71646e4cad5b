"""Compare a first load from PostgreSQL into DuckDB with dlt and connectorx, and measure an increment after it.

    python -m benchmarks.first_load [--rows 2000000] [--pairs 3] [--peer-python DIR/bin/python]

Both programs load the same warm table into a new DuckDB file, in turn, each in a new process. Ours is
``aurora-sync sync``: COPY to S3, checks, insert. The peer runs in an environment of its own, which this program makes
in a temporary folder with ``venv`` and ``pip``, unless --peer-python names one. PostgreSQL and the S3 server share the
machine with the measured process, so nothing else may run. After each load, 10,000 random rows are updated, and
``aurora-sync sync`` runs again.

The output is one line of JSON. ``seconds`` is the time of a whole process, ``cpu`` its user and system time, and
``peak_rss_mb`` the memory of the process and its children, without servers. ``ratio`` is the median over the pairs of
ours / peer. ``phases`` are those of the receipt. All but ``ratio`` are medians too.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg2

from aurora_sync.embedded import s3
from aurora_sync.embedded.stack import Stack
from benchmarks.export import prepare

PEER = ("dlt[duckdb]==1.31.0", "connectorx==0.4.6", "duckdb==2.0.0", "pyarrow==26.0.1", "sqlalchemy==2.1.9",
        "psycopg2-binary==2.9.13")  # fmt: skip
# What a user of dlt writes, with the fastest of its backends.
PEER_PROGRAM = """
import sys
import dlt
from dlt.sources.sql_database import sql_table
url, path, folder = sys.argv[1:]
table = sql_table(url, table="orders", schema="public", backend="connectorx", reflection_level="full_with_precision")
target = dlt.destinations.duckdb(path)
pipeline = dlt.pipeline("orders", pipelines_dir=folder, destination=target, dataset_name="public")
pipeline.run(table, write_disposition="replace")
"""
TABLES = "tables:\n  - {table_name: orders, watermark_type: xmin}\n"
UPDATES = 10_000
# More often would cost the measured process time.
SAMPLE_SECONDS = 0.02


def measure(command: list[str], environment: dict[str, str]) -> tuple[dict[str, float], str]:
    """Run a command. Return its seconds, processor time and memory, and what it printed."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as printed:
        process = subprocess.Popen(command, env=environment, stdout=printed)
        peak, ended = [0.0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, ended))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        ended.set()
        watcher.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        text = printed.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}: {text}")
    rss = max(peak[0], usage.ru_maxrss / 1024)
    return {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "peak_rss_mb": rss}, text


def _watch(pid: int, peak: list[float], ended: threading.Event) -> None:
    """Keep the largest resident memory of a process and its children together, in MB."""
    while not ended.wait(SAMPLE_SECONDS):
        try:
            process = psutil.Process(pid)
            tree = [process, *process.children(recursive=True)]
            peak[0] = max(peak[0], sum(each.memory_info().rss for each in tree) / 2**20)
        except psutil.Error:
            continue


def load_ours(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    """Sync once. Return the figures, with the phases of the receipt."""
    places = {
        "AURORA_SYNC_TABLES": str(folder / "tables.yaml"),
        "AURORA_SYNC_WAREHOUSE": f"duckdb:{folder / 'ours.duckdb'}",
        "AURORA_SYNC_STAGE": f"{environment['AURORA_SYNC_STAGE']}/{folder.name}",
    }
    (folder / "tables.yaml").write_text(TABLES, encoding="utf-8")
    command = [sys.executable, "-m", "aurora_sync.cli.main", "sync", "--json"]
    figures, text = measure(command, environment | places)
    (receipt,) = json.loads(text)["receipts"]
    return figures | {"rows": receipt["rows_exported"], "phases": receipt["seconds"]}


def load_peer(folder: Path, environment: dict[str, str], python: str) -> dict[str, Any]:
    """Load once with the peer. Return the figures."""
    (folder / "peer.py").write_text(PEER_PROGRAM, encoding="utf-8")
    private = {"HOME": str(folder), "RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    url = environment["AURORA_DSN"].replace("postgresql:", "postgresql+psycopg2:")
    command = [python, str(folder / "peer.py"), url, str(folder / "peer.duckdb"), str(folder)]
    return measure(command, environment | private)[0]


def update_rows(dsn: str) -> None:
    """Update random rows of the table."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            "UPDATE orders SET quantity = quantity + 1 WHERE id IN"
            " (SELECT 1 + (random() * (SELECT max(id) - 1 FROM orders))::bigint FROM generate_series(1, %s))",
            (UPDATES,),
        )


@contextmanager
def peer_python(given: str | None) -> Iterator[str]:
    """Return the Python of the peer's environment, and make the environment unless it is given."""
    if given:
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = f"{folder}/bin/python"
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEER], check=True, stdout=sys.stderr)
        yield python


def compare(environment: dict[str, str], pairs: int, python: str) -> dict[str, Any]:
    """Run both programs ``pairs`` times; the first of a pair alternates. Return the figures."""
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": [], "increment": []}
    for pair in range(pairs):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for side in ("ours", "peer") if pair % 2 == 0 else ("peer", "ours"):
                load = load_ours if side == "ours" else load_peer
                found[side].append(load(folder, environment, *([python] if side == "peer" else [])))
            update_rows(environment["AURORA_DSN"])
            found["increment"].append(load_ours(folder, environment))
        last = {side: round(runs[-1]["seconds"], 2) for side, runs in found.items()}
        print(f"pair {pair + 1}: {last}", file=sys.stderr, flush=True)
    return {
        "ratio": _ratio(found, "seconds"),
        "ratio_cpu": _ratio(found, "cpu"),
        "ratio_rss": _ratio(found, "peak_rss_mb"),
        **{side: _median(runs) for side, runs in found.items()},
    }


def _ratio(found: dict[str, list[dict[str, Any]]], what: str) -> float:
    pairs = zip(found["ours"], found["peer"], strict=True)
    return round(statistics.median(float(ours[what] / peer[what]) for ours, peer in pairs), 3)


def _median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure."""
    return {
        name: _median([run[name] for run in runs]) if isinstance(value, dict)
        else round(statistics.median(run[name] for run in runs), 2)
        for name, value in runs[0].items()
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--peer-python", metavar="PATH", help="Python of an environment that has the peer")
    arguments = parser.parse_args()
    # With memory limits, the S3 server uses a second core for garbage collection. A real bucket uses no core here.
    s3.MEMORY_LIMITS.clear()
    with (
        peer_python(arguments.peer_python) as python,
        tempfile.TemporaryDirectory() as directory,
        Stack(Path(directory) / "stack") as stack,
    ):
        environment = os.environ | stack.environment()
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        prepare(environment["AURORA_DSN"], arguments.rows)
        with closing(psycopg2.connect(environment["AURORA_DSN"])) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_table_size('orders') / 1e6, current_setting('server_version')")
            size, server = cursor.fetchone() or (0, "")
        figures = compare(environment, arguments.pairs, python)
    ours = {name: importlib.metadata.version(name) for name in ("duckdb", "psycopg2-binary", "zstandard")}
    print(
        json.dumps(
            {
                **figures,
                "heap_mb": round(float(size)),
                "pairs": arguments.pairs,
                "versions": {"python": sys.version.split()[0], "postgresql": server, **ours, "peer": list(PEER)},
                "cpus": os.cpu_count(),
                "load_average": round(os.getloadavg()[0], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
