"""Load a large table in chunks through dagster-celery and Redis, and kill workers in the middle of chunks.

    python benchmarks/celery_load.py [--rows 300000] [--chunk-mb 4] [--visibility-seconds 30]

Two Celery workers on this machine, each with a DAGSTER_HOME and a folder for artifacts of its own, run the steps of the
job. While a chunk is copied out of the source, the script kills

1. the child of the first worker, which executes the chunk,
2. the parent of the second worker, and its child, which executes another chunk: that worker does not come back.

Prints one line of JSON: the kills with the time until the chunk was loaded, the steps that were executed again, whether
target and source are equal, and the peak memory of a worker. Exits with 1 if they are not equal, or if a kill came too
late: then load more rows.

dagster-celery is no dependency of aurora_sync. The script needs an environment of its own, and redis-server:

    apt-get install redis-server
    uv venv celery-venv
    export VIRTUAL_ENV=celery-venv
    uv pip install --no-deps --require-hashes -r requirements.lock
    uv pip install --no-deps -e .
    uv pip install dagster==1.13.27 dagster-celery==0.29.27 redis
    celery-venv/bin/python benchmarks/celery_load.py
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import psutil  # type: ignore[import-untyped]
import psycopg2
import yaml

from aurora_sync.config.loader import expand
from aurora_sync.config.loader import load as load_config
from aurora_sync.config.settings import Settings
from aurora_sync.embedded.process import free_block
from aurora_sync.embedded.stack import Stack
from aurora_sync.engine import batch
from aurora_sync.engine.places import Places
from aurora_sync.orchestration.factory import build_definitions
from aurora_sync.orchestration.project import Executors

JOB = "aurora_sync_load_large_table"
BROKER = "CELERY_LOAD_BROKER"
VISIBILITY = "CELERY_LOAD_VISIBILITY"
WORKERS = ("one", "two")
LIMIT_SECONDS = 900.0  # a load that takes longer hangs


def celery_settings() -> dict[str, Any]:
    """Return the settings that executor and workers share (docs/deployment.md)."""
    return {
        "broker": os.environ[BROKER],
        "backend": os.environ[BROKER],
        "config_source": {
            "task_acks_late": True,  # a chunk leaves the queue when it is loaded
            "task_reject_on_worker_lost": True,  # back into the queue if its process died
            "worker_prefetch_multiplier": 1,  # no worker holds a chunk that another one could load
            "broker_transport_options": {"visibility_timeout": int(os.environ[VISIBILITY])},
        },
    }


def celery_job() -> dg.JobDefinition:
    """Return the job. Every process of Dagster and of Celery builds it."""
    from dagster_celery import celery_executor  # type: ignore[import-not-found]

    executor = celery_executor.configured(celery_settings())
    return build_definitions(load_config(Path("tables.yaml")), executor=Executors(load=executor)).resolve_job_def(JOB)


@dataclass
class Kill:
    """``seconds`` passed until the chunk was loaded by another process."""

    what: str
    chunk: str
    seconds: float | None = None


@dataclass(frozen=True)
class Worker:
    name: str
    process: subprocess.Popen[bytes]

    @property
    def parent(self) -> psutil.Process:
        """The main process of Celery, below the command of dagster-celery."""
        (parent,) = psutil.Process(self.process.pid).children()
        return parent

    @property
    def child(self) -> psutil.Process:
        (child,) = self.parent.children()
        return child


@contextlib.contextmanager
def servers(folder: Path, visibility: int) -> Iterator[Stack]:
    """Start PostgreSQL, S3 and Redis, and put their settings into the environment."""
    with Stack(folder / "stack", durable=False) as stack:
        port = free_block([0])
        redis = subprocess.Popen(
            ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
            stdout=subprocess.DEVNULL,
        )
        try:
            os.environ.update(stack.environment())
            os.environ[BROKER] = f"redis://127.0.0.1:{port}/0"
            os.environ[VISIBILITY] = str(visibility)
            yield stack
        finally:
            redis.terminate()
            redis.wait()


def dagster_home(folder: Path, name: str, database: str) -> dict[str, str]:
    """Return the environment of a process with a DAGSTER_HOME of its own. All have one event log, in PostgreSQL."""
    home = folder / f"home-{name}"
    home.mkdir()
    storage = {"postgres": {"postgres_url": database}}
    local = {"base_dir": {"env": "ARTIFACTS"}}
    document = {
        "telemetry": {"enabled": False},
        "storage": storage,
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": local,
        },
        "compute_logs": {
            "module": "dagster._core.storage.local_compute_log_manager",
            "class": "LocalComputeLogManager",
            "config": {"base_dir": {"env": "LOGS"}},
        },
    }
    (home / "dagster.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return {
        "DAGSTER_HOME": str(home),
        "ARTIFACTS": str(folder / f"artifacts-{name}"),
        "LOGS": str(folder / f"logs-{name}"),
    }


def start_worker(folder: Path, name: str, database: str) -> Worker:
    settings = folder / f"celery-{name}.yaml"
    settings.write_text(yaml.safe_dump({"execution": {"config": celery_settings()}}), encoding="utf-8")
    programs = Path(sys.executable).parent
    command = [str(programs / "dagster-celery"), "worker", "start", "-A", "dagster_celery.app", "-n", name]
    more = ["--", "--concurrency", "1"]
    process = subprocess.Popen(
        [*command, "-y", str(settings), *more],
        cwd=folder,
        env=os.environ | dagster_home(folder, name, database) | {"PATH": f"{programs}:{os.environ['PATH']}"},
        stdout=(folder / f"worker-{name}.log").open("wb"),
        stderr=subprocess.STDOUT,
    )
    return Worker(name, process)


def make_table(rows: int) -> None:
    with contextlib.closing(psycopg2.connect(os.environ["AURORA_DSN"])) as connection, connection:
        connection.cursor().execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, status text, note text);"
            f"INSERT INTO orders SELECT n, 'paid', repeat(md5(n::text), 3) FROM generate_series(1, {rows}) n"
        )


class Killer(threading.Thread):
    """Kills the child of the first worker and then all of the second, each while it copies a chunk."""

    def __init__(self, workers: list[Worker], instance: dg.DagsterInstance) -> None:
        super().__init__(daemon=True)
        self._workers, self._instance = workers, instance
        self.kills: list[Kill] = []
        self._began: list[float] = []  # of the kills
        self._given_up = time.monotonic() + LIMIT_SECONDS

    def run(self) -> None:
        one, two = self._workers
        with contextlib.closing(psycopg2.connect(os.environ["AURORA_DSN"])) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            child = self._copying(one, cursor)
            child.kill()
            self._killed(f"child of worker {one.name}", one)
            child, parent = self._copying(two, cursor), two.parent
            parent.kill()
            child.kill()
            self._killed(f"parent of worker {two.name}, and its child", two)
        while time.monotonic() < self._given_up and any(kill.seconds is None for kill in self.kills):
            loaded = steps(self._instance, dg.DagsterEventType.STEP_SUCCESS)
            for kill, began in zip(self.kills, self._began, strict=True):
                if kill.seconds is None and kill.chunk in loaded:
                    kill.seconds = round(time.monotonic() - began, 1)
            time.sleep(0.2)

    def _copying(self, worker: Worker, cursor: Any) -> psutil.Process:
        """Wait until the child of a worker copies rows of a chunk out of the source."""
        while time.monotonic() < self._given_up:
            with contextlib.suppress(psutil.Error, ValueError):
                child = worker.child
                ports = [each.laddr.port for each in child.net_connections("tcp")]
                cursor.execute(
                    "SELECT 1 FROM pg_stat_activity"
                    " WHERE client_port = ANY(%s) AND state = 'active' AND query ~ '^COPY'",
                    (ports,),
                )
                if cursor.fetchone() and self._step_of(worker).startswith("load_chunk"):
                    return child
            time.sleep(0.01)
        raise RuntimeError(f"worker {worker.name} copied no chunk")

    def _killed(self, what: str, worker: Worker) -> None:
        self.kills.append(Kill(what, self._step_of(worker)))
        self._began.append(time.monotonic())
        print(f"killed the {what}, which loaded {self.kills[-1].chunk}", file=sys.stderr)

    def _step_of(self, worker: Worker) -> str:
        """Return the step that the worker began last."""
        (run,) = self._instance.get_runs(limit=1)
        events = [record.dagster_event for record in self._instance.all_logs(run.run_id)]
        begun = [
            str(event.step_key)
            for event in events
            if event and event.is_engine_event
            if worker.name in str(event.engine_event_data.metadata.get("Celery worker", ""))
        ]
        return begun[-1] if begun else ""


def steps(instance: dg.DagsterInstance, kind: dg.DagsterEventType) -> list[str]:
    """Return the steps that have an event of this kind in the newest run, once for each event."""
    (run,) = instance.get_runs(limit=1)
    events = [record.dagster_event for record in instance.all_logs(run.run_id, of_type=kind)]
    return [str(event.step_key) for event in events if event]


def run(folder: Path, rows: int, chunk_mb: float) -> dict[str, Any]:
    """Run the load, and return the figures."""
    make_table(rows)
    table = {"table_name": "orders", "watermark_type": "xmin"}
    document = {"defaults": {"load": {"chunk_bytes": int(chunk_mb * 1e6)}}, "tables": [table]}
    (folder / "tables.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    os.chdir(folder)
    database = os.environ["AURORA_DSN"].replace("postgresql://", "postgresql+psycopg2://")
    os.environ.update(dagster_home(folder, "run", database))
    with dg.DagsterInstance.get() as instance:
        workers = [start_worker(folder, name, database) for name in WORKERS]
        killer = Killer(workers, instance)
        killer.start()
        began = time.monotonic()
        try:
            result = dg.execute_job(
                dg.reconstructable(celery_job),
                instance,
                run_config={"ops": {"begin": {"config": {"table": "public.orders"}}}},
            )
            seconds = time.monotonic() - began
            executed = Counter(steps(instance, dg.DagsterEventType.STEP_START))
            peak = peak_mb(workers[0].child)
        finally:
            for worker in workers:
                stop(worker)
    (config,) = expand(load_config(Path("tables.yaml")), [])
    verification = batch.verify(config, Places.from_settings(Settings.from_environment(os.environ))).verification
    assert verification
    chunks = {step: count for step, count in executed.items() if step.startswith("load_chunk")}
    artifacts = [path for path in folder.glob("artifacts-*/**/*") if path.is_file() and "storage" in path.parts]
    return {
        "rows": rows,
        "chunks": len(chunks),
        "success": result.success,
        "equal": verification.equal,
        "rows_compared": verification.source_rows,
        "seconds": round(seconds, 1),
        "kills": [asdict(kill) for kill in killer.kills],
        "executed_more_than_once": {step: count for step, count in executed.items() if count > 1},
        "values_on_local_disks": len(artifacts),
        "peak_mb": peak,
    }


def peak_mb(process: psutil.Process) -> int:
    """Return the largest resident memory of a process so far, with DuckDB in it."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) // 1024


def stop(worker: Worker) -> None:
    with contextlib.suppress(psutil.Error):
        for process in psutil.Process(worker.process.pid).children(recursive=True):
            process.send_signal(signal.SIGKILL)
    worker.process.kill()
    worker.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--chunk-mb", type=float, default=4.0)
    parser.add_argument("--visibility-seconds", type=int, default=30)
    parser.add_argument("--folder", type=Path, help="keep the files here, with the logs of the workers")
    arguments = parser.parse_args()
    missing = [name for name in ("dagster_celery", "redis") if importlib.util.find_spec(name) is None]
    missing += [] if shutil.which("redis-server") else ["redis-server"]
    if missing:
        print(f"not run: {', '.join(missing)} not installed; see --help", file=sys.stderr)
        sys.exit(2)
    with contextlib.ExitStack() as stack:
        folder = (arguments.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))).absolute()
        folder.mkdir(exist_ok=True)
        stack.enter_context(servers(folder, arguments.visibility_seconds))
        figures = run(folder, arguments.rows, arguments.chunk_mb)
    print(json.dumps(figures))
    recovered = [kill["seconds"] is not None for kill in figures["kills"]]
    sys.exit(0 if figures["success"] and figures["equal"] and recovered == [True, True] else 1)


if __name__ == "__main__":
    main()
