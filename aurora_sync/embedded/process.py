"""Server processes of the local stack: start apart from the terminal, recognise again, stop; free ports."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import random
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil  # type: ignore[import-untyped]

Failed = TypeVar("Failed", bound=BaseException)


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
        return run(["test", "-x", str(path)], Path("/"), account=self).returncode == 0


def run(
    command: Sequence[str],
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run to the end, as ``account``, out of reach of the terminal and of the caller's PG* and AWS_*. What it, and what
    it starts, writes is its owner's only."""
    return subprocess.run(
        command,
        cwd=directory,
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        umask=0o077,
        start_new_session=True,
    )


def launch(
    command: Sequence[str],
    directory: Path,
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
) -> psutil.Process | None:
    """Start a server as an orphan in a session of its own, so that a Ctrl-C does not reach it.

    Its log starts anew. None: it has ended already.
    """
    script = 'log=$1; shift; : >"$log" && { "$@" >"$log" 2>&1 & echo $!; }'
    shell = run(
        ["/bin/sh", "-c", script, "sh", str(log), *command],
        directory,
        environment=environment,
        account=account,
    )
    if shell.returncode != 0:
        raise OSError(shell.stdout.strip())
    try:
        return psutil.Process(int(shell.stdout))
    except psutil.NoSuchProcess:
        return None


def find(program: str, argument: str) -> psutil.Process | None:
    """The server that was started with this argument, which holds a path that only our server has.

    No pid is stored, so none can be stale, recycled, or missing because a start was interrupted.
    """
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if words and Path(words[0]).name == program and argument in words:
            return process
    return None


def is_alive(process: psutil.Process | None) -> bool:
    """It runs; a zombie, which lasts where no init process collects orphans, does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def stop(process: psutil.Process | None, number: signal.Signals, seconds: float) -> None:
    """Make it end by the signal, and when it has not after ``seconds`` by a kill, which both servers' data survive."""
    began = time.monotonic()
    while process is not None and is_alive(process):
        waited = time.monotonic() - began
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number if waited < seconds else signal.SIGKILL)
        # Again after a second: a server that is only starting does not listen to its signals yet.
        _wait(process, 1)


def _wait(process: psutil.Process, seconds: float) -> None:
    """psutil's own wait() takes a zombie that nobody collects for alive."""
    deadline = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)


def tail(log: Path, lines: int = 15) -> str:
    """The end of a server's log, for an error message; without Go's stack traces."""
    if not log.exists():
        return ""
    with log.open(encoding="utf-8", errors="replace") as text:
        said = itertools.takewhile(lambda line: not line.startswith("goroutine "), text)
        return "".join(deque(said, maxlen=lines)).strip()


def with_log(error: Failed, log: Path) -> Failed:
    """The error, with the end of a server's log as its notes, a line each."""
    for line in tail(log).splitlines():
        error.add_note(line)
    return error


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# Two processes with one seed, such as workers of a test suite, would try the same ports at the same time.
_DICE = random.SystemRandom()


def free_block(offsets: Sequence[int]) -> int:
    """A base such that ``base + offset`` is a free loopback port for every offset.

    Bases lie in 12000 to 21999: with SeaweedFS's +10000 all ports stay below 32768, where Linux starts to
    give out ports to outgoing connections, so a port found free is not taken by chance before it is bound.
    """
    while True:
        base = _DICE.randrange(12000, 22000)
        if all(is_free(base + offset) for offset in offsets):
            return base
