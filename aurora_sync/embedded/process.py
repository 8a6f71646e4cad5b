"""Server processes of the local stack: start apart from the terminal, recognise again, stop; free ports."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

# psutil derives a start time from the boot time, which the kernel gives to the second and may correct.
START_TIME_TOLERANCE = 2.0


@dataclass(frozen=True)
class ServerProcess:
    """A process as recorded in the state file: pid and start time, so that a recycled pid is a stranger."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ServerProcess:
        return cls(pid, psutil.Process(pid).create_time())

    def find(self) -> psutil.Process | None:
        """The process, if it still is the recorded one and not a zombie."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < START_TIME_TOLERANCE
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        return self.find() is not None

    def signal(self, number: signal.Signals) -> None:
        """Send it; nothing happens when the process is gone."""
        if process := self.find():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def wait(self, seconds: float) -> None:
        """Wait for its end; kill it after ``seconds``, which both servers' data survive."""
        if process := self.find():
            try:
                process.wait(seconds)
            except psutil.TimeoutExpired:
                self.signal(signal.SIGKILL)
                process.wait()


@dataclass(frozen=True)
class Account:
    """The operating-system user that PostgreSQL, which refuses to be root, runs as when we are root."""

    uid: int
    gid: int

    @classmethod
    def for_postgres(cls) -> Account | None:
        """None: the server runs as the user we are."""
        if os.geteuid() != 0:
            return None
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    def own(self, path: Path) -> None:
        """Give the account a file or folder (without what is in it)."""
        os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """The account may enter the folder, or run the file, and everything above it."""
        return run(["test", "-x", str(path)], Path("/"), self).returncode == 0


def run(command: Sequence[str], directory: Path, account: Account | None = None) -> subprocess.CompletedProcess[str]:
    """Run to the end, as ``account``, with an environment free of the caller's PG* variables."""
    return subprocess.run(
        command,
        cwd=directory,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        start_new_session=True,
    )


def launch(command: Sequence[str], directory: Path, log: Path, environment: Mapping[str, str]) -> ServerProcess:
    """Start a server in a session of its own, as an orphan: a Ctrl-C at our terminal does not reach it."""
    shell = subprocess.run(
        ["/bin/sh", "-c", 'log=$1; shift; "$@" </dev/null >"$log" 2>&1 & echo $!', "sh", str(log), *command],
        cwd=directory,
        env={"PATH": os.environ.get("PATH", os.defpath), **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        start_new_session=True,
    )
    return ServerProcess.of(int(shell.stdout))


def tail(log: Path, lines: int = 15) -> str:
    """The end of a server's log, for an error message."""
    if not log.exists():
        return ""
    with log.open(encoding="utf-8", errors="replace") as text:
        return "".join(deque(text, maxlen=lines)).strip()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_block(offsets: Sequence[int]) -> int:
    """A base such that ``base + offset`` is a free loopback port for every offset.

    Bases lie in 12000 to 21999: with SeaweedFS's +10000 all ports stay below 32768, where Linux starts to
    give out ports to outgoing connections, so a port found free is not taken by chance before it is bound.
    """
    while True:
        base = random.randrange(12000, 22000)
        if all(is_free(base + offset) for offset in offsets):
            return base
