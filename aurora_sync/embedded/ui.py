"""``aurora-sync ui``: run Dagster's webserver, daemon and code location until Ctrl-C or another signal.

Two processes make sure that everything stops. The *keeper* runs in its own session. It starts Dagster, and the local
stack if necessary, and stops both. The *guard* is the process that the user starts and sends signals to. It holds a
pipe to the keeper: when the guard ends in any way, the keeper reads the end of the pipe and stops everything. If the
keeper is killed, the guard stops everything.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

import psutil  # type: ignore[import-untyped]

from aurora_sync.config.settings import Settings
from aurora_sync.embedded import legacy
from aurora_sync.embedded.process import is_alive
from aurora_sync.embedded.stack import Stack
from aurora_sync.engine.selection import all_tables
from aurora_sync.errors import ConfigError
from aurora_sync.provisioning import replication
from aurora_sync.source.database import Source

# Time for a run to end, for example its merge, when the UI is stopped.
STOP_SECONDS = 30
_STATUS = "AURORA_SYNC_DEFAULT_STATUS"
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(directory: Path, *, port: int) -> int:
    """Serve the project in the current folder on 127.0.0.1, and wait for the end. Raises ConfigError.

    Without AURORA_DSN, the source is the sample database of the stack in ``directory``, and schedules and sensor run.
    Returns the exit status: 0 after Ctrl-C, 128 + n after another signal n, and Dagster's status, at least 1, if
    Dagster ended by itself. All started processes have ended then. The function forks and returns in both processes,
    the guard and the keeper.
    """
    home = Path.cwd()
    missing = [name for name in ("dagster.yaml", "workspace.yaml") if not (home / name).exists()]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not found",
            where=str(home),
            hint="run `aurora-sync ui` in the folder of the project",
        )
    _try_port(port)
    with _only_one(directory):
        sys.stdout.flush()
        ended, held = os.pipe()
        session = os.fork()
        if session == 0:
            os.close(held)
            os.setsid()
            return _keep(directory, home, port, ended)
        os.close(ended)
        return _guard(directory, session, held)


def _try_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not a port number"
            raise ConfigError(f"port {port} cannot be used: {why}", hint="set another port with --port") from error


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the lock of the folder, because two daemons on one Dagster instance would start every run twice."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock: IO[bytes]
    with (directory / "ui.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another `aurora-sync ui` serves this folder",
                where=str(directory.absolute()),
                hint="stop that process first",
            ) from error
        yield


def _guard(directory: Path, session: int, held: int) -> int:
    """Wait for the keeper, and let it stop after the first signal. Return the exit status."""
    heard: list[int] = []
    _at_first_signal(heard.append)
    try:
        status = _wait(session)
    except SystemExit:
        os.close(held)
        status = _wait(session)
    if os.WIFSIGNALED(status):
        _stop(session)
        if not os.environ.get("AURORA_DSN"):
            Stack(directory).stop()
    if heard:
        return 0 if heard[0] == signal.SIGINT else 128 + heard[0]
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1


def _wait(process: int) -> int:
    return os.waitpid(process, 0)[1]


def _keep(directory: Path, home: Path, port: int, ended: int) -> int:
    """Run Dagster until a signal comes or the guard ends. Return Dagster's exit status, at least 1."""
    _at_first_signal(lambda _: None, inherited=False)
    threading.Thread(target=_end_with_the_guard, args=(ended,), daemon=True).start()
    with _source(directory):
        environment = {"DAGSTER_HOME": str(_home(directory, home / "dagster.yaml")), **os.environ}
        options = ["-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
        command = [sys.executable, "-m", "aurora_sync.embedded.dagster_dev", "dev", *options]
        print(f"Dagster starts at http://127.0.0.1:{port} (about 15 s); Ctrl-C stops it")
        print(_automation(), flush=True)
        dagster = subprocess.Popen(command, env=environment, umask=0o077)
        try:
            return max(dagster.wait(), 1)  # its status is 0 even if the webserver or the daemon died
        finally:
            _stop(os.getpid())


def _automation() -> str:
    """Return what runs by itself, in one line."""
    if os.environ.get(_STATUS, "").strip() == "RUNNING":
        return (
            f"schedules and change sensor: on ({_STATUS}=RUNNING), except those that were turned off under Automation"
        )
    return (
        f"schedules and change sensor: off, except those that were turned on under Automation; {_STATUS}=RUNNING turns"
        " on all"
    )


def _end_with_the_guard(ended: int) -> None:
    os.read(ended, 1)  # returns when the guard has closed the pipe
    os.kill(os.getpid(), signal.SIGTERM)


def _at_first_signal(note: Callable[[int], object], *, inherited: bool = True) -> None:
    """Raise SystemExit at the first signal that ends a program, and ignore later ones, so that the stop is complete.

    With ``inherited``, SIGHUP and SIGINT stay ignored if the program was started so (by nohup, as a background job).
    The keeper must not ignore them: its children would inherit that, and could not be stopped.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        note(number)
        raise SystemExit(128 + number)

    for each in _ENDING:
        if each is signal.SIGTERM or not inherited or signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, end)


def _stop(session: int) -> None:
    """Stop every other process of the session: by SIGINT, and after STOP_SECONDS by SIGKILL."""
    for sent, patience in ((signal.SIGINT, STOP_SECONDS), (signal.SIGKILL, STOP_SECONDS)):
        for process in _members(session):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(sent)
        deadline = time.monotonic() + patience
        while _members(session):
            if time.monotonic() > deadline:
                break
            time.sleep(0.05)
        else:
            return


def _members(session: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if process.pid != os.getpid() and os.getsid(process.pid) == session and is_alive(process):
                found.append(process)
    return found


def _home(directory: Path, configuration: Path) -> Path:
    """Create a DAGSTER_HOME with a copy of the project's configuration. Dagster creates folders in it."""
    home = directory.absolute() / "dagster"
    home.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(configuration, home / "dagster.yaml")
    return home


@contextmanager
def _source(directory: Path) -> Iterator[None]:
    if os.environ.get("AURORA_DSN"):
        yield
        return
    with Stack(directory) as stack:
        os.environ.update(stack.environment())
        os.environ.setdefault(_STATUS, "RUNNING")  # the local stack has sample data only
        settings = Settings.from_environment(os.environ)
        legacy.create(settings.dsn)
        replication.set_up_all(settings.dsn, all_tables(settings, Source(settings.dsn)))
        yield
