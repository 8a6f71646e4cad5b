"""``aurora-sync ui``: webserver, daemon and code location of Dagster, until Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aurora_sync.advisor import provision
from aurora_sync.config.settings import Settings
from aurora_sync.embedded import legacy
from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import ConfigError
from aurora_sync.project import all_tables
from aurora_sync.source.source import Source

# A run in the middle of its merge gets this long to end when the UI is closed.
STOP_SECONDS = 30


def serve(directory: Path, *, port: int) -> int:
    """Serve the project in the current folder on 127.0.0.1 and wait. Without AURORA_DSN, on the stack in
    ``directory``, with its sample database. Returns Dagster's exit status, 0 after Ctrl-C."""
    home = Path.cwd()
    missing = [name for name in ("dagster.yaml", "workspace.yaml") if not (home / name).exists()]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not found", where=str(home), hint="start the UI in the project's folder"
        )
    with _source(directory):
        environment = {"DAGSTER_HOME": str(_home(directory, home / "dagster.yaml")), **os.environ}
        command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
        print(f"Dagster starts at http://127.0.0.1:{port} (about 15 s); Ctrl-C stops it", flush=True)
        # A process group of its own: Ctrl-C reaches this process first, which then stops Dagster as a whole.
        dagster = subprocess.Popen(command, env=environment, start_new_session=True)
        try:
            return dagster.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            _stop(dagster)


def _home(directory: Path, configuration: Path) -> Path:
    """A home in which Dagster may leave folders of its own, with this project's configuration in it."""
    home = directory.absolute() / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(configuration, home / "dagster.yaml")
    return home


@contextmanager
def _source(directory: Path) -> Iterator[None]:
    if os.environ.get("AURORA_DSN"):
        yield
        return
    with Stack(directory) as stack:
        os.environ.update(stack.environment())
        settings = Settings.from_environment(os.environ)
        legacy.create(settings.dsn)
        provision.apply_all(settings.dsn, all_tables(settings, Source(settings.dsn)))
        yield


def _stop(dagster: subprocess.Popen[bytes]) -> None:
    for sent, patience in ((signal.SIGINT, STOP_SECONDS), (signal.SIGKILL, None)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(dagster.pid, sent)
        try:
            dagster.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue
