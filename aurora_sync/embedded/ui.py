"""``aurora-sync ui``: webserver, daemon and code location of Dagster, until Ctrl-C or another signal ends it.

Two processes own what runs. The *keeper* starts Dagster, and the local stack where it is needed, in a session of its
own, and stops them. The *guard*, which the user started and signals, holds a pipe to the keeper: when the guard ends,
however it ends, the keeper reads the end of the pipe and stops all. When the keeper is killed, the guard does it.
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

# A run in the middle of its merge gets this long to end when the UI is closed.
STOP_SECONDS = 30
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def serve(directory: Path, *, port: int) -> int:
    """Serve the project in the current folder on 127.0.0.1 and wait. Without AURORA_DSN, on the stack in
    ``directory``, with its sample database. Returns the exit status: 0 after Ctrl-C, 128 and the number of another
    signal, and what Dagster returned, but not 0, where it ended by itself.

    Nothing that was started is left when this returns. Returns in two processes, the guard and the keeper.
    """
    home = Path.cwd()
    missing = [name for name in ("dagster.yaml", "workspace.yaml") if not (home / name).exists()]
    if missing:
        raise ConfigError(
            f"{' and '.join(missing)} not found", where=str(home), hint="start the UI in the project's folder"
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
            why = error.strerror if isinstance(error, OSError) else "no such port"
            raise ConfigError(f"port {port} cannot be used: {why}", hint="name another one with --port") from error


@contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Hold the lock of the folder: two daemons on one Dagster instance would both start its runs."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock: IO[bytes]
    with (directory / "ui.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another `aurora-sync ui` serves this folder",
                where=str(directory.absolute()),
                hint="end that one first",
            ) from error
        yield


def _guard(directory: Path, session: int, held: int) -> int:
    """Wait for the keeper; tell it to stop at the first signal."""
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
    """Run Dagster until a signal comes, or the guard is gone."""
    _at_first_signal(lambda _: None, inherited=False)
    threading.Thread(target=_end_with_the_guard, args=(ended,), daemon=True).start()
    with _source(directory):
        environment = {"DAGSTER_HOME": str(_home(directory, home / "dagster.yaml")), **os.environ}
        command = [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)]
        print(f"Dagster starts at http://127.0.0.1:{port} (about 15 s); Ctrl-C stops it", flush=True)
        dagster = subprocess.Popen(command, env=environment, umask=0o077)
        try:
            return max(dagster.wait(), 1)  # it returns 0 as well when its webserver or its daemon died
        finally:
            _stop(os.getpid())


def _end_with_the_guard(ended: int) -> None:
    os.read(ended, 1)  # returns at the end of the pipe
    os.kill(os.getpid(), signal.SIGTERM)


def _at_first_signal(note: Callable[[int], object], *, inherited: bool = True) -> None:
    """Raise SystemExit at the first of the signals that end a program, and ignore all that follow: what is stopped
    then is stopped as a whole. With ``inherited``, SIGHUP (nohup) and SIGINT (a background job) stay ignored where the
    program was started so; a child would inherit that, and could not be told to end."""

    def end(number: int, _frame: FrameType | None) -> None:
        for each in _ENDING:
            signal.signal(each, signal.SIG_IGN)
        note(number)
        raise SystemExit(128 + number)

    for each in _ENDING:
        if each is signal.SIGTERM or not inherited or signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, end)


def _stop(session: int) -> None:
    """End every process of the session but this one: as Ctrl-C does, and what is left after a while by a kill."""
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
    """A home in which Dagster may leave folders of its own, with this project's configuration in it."""
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
        settings = Settings.from_environment(os.environ)
        legacy.create(settings.dsn)
        replication.set_up_all(settings.dsn, all_tables(settings, Source(settings.dsn)))
        yield
