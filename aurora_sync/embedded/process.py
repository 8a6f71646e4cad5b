"""Start, find and stop the server processes of the local stack, and find free ports."""

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
    """The operating-system user that runs PostgreSQL if this process is root: PostgreSQL refuses to run as root."""

    uid: int
    gid: int

    @classmethod
    def for_postgres(cls) -> Account | None:
        """Return the account; None if the server can run as the current user."""
        if os.geteuid() != 0:
            return None
        nobody = pwd.getpwnam("nobody")
        return cls(nobody.pw_uid, nobody.pw_gid)

    def own(self, path: Path) -> None:
        """Make the account the owner of a file or folder, but not of the contents of the folder."""
        os.chown(path, self.uid, self.gid)

    def reaches(self, path: Path) -> bool:
        """True if the account may enter the folder or run the file, and may enter all folders above."""
        return run(["test", "-x", str(path)], Path("/"), account=self).returncode == 0


def run(
    command: Sequence[str],
    directory: Path,
    *,
    environment: Mapping[str, str] | None = None,
    account: Account | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as ``account``, and return its status and output.

    The command has no terminal, its own session, and none of the caller's variables except PATH. Files that it writes
    are readable by their owner only.
    """
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
    """Start a server as an orphan in its own session, so that a Ctrl-C does not reach it.

    The log file is emptied first. Returns None if the server has ended already. Raises OSError.
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
    """Return the process of ``program`` with this argument, a path that only our server has; None if there is none.

    No pid is stored, because a stored pid may be old, reused, or missing after an interrupted start.
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
    """True if the process runs. Zombies do not count: without an init process they stay for ever."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process is not None and process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def stop(process: psutil.Process | None, number: signal.Signals, seconds: float) -> None:
    """Stop the process by the signal, and after ``seconds`` by SIGKILL. The data of both servers survive a kill."""
    began = time.monotonic()
    while process is not None and is_alive(process):
        waited = time.monotonic() - began
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number if waited < seconds else signal.SIGKILL)
        # The signal is repeated every second, because a server that is starting ignores signals.
        _wait(process, 1)


def _wait(process: psutil.Process, seconds: float) -> None:
    """Wait at most ``seconds`` for the end of a process. psutil's wait() would wait for zombies as well."""
    deadline = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.02)


def tail(log: Path, lines: int = 15) -> str:
    """Return the last lines of a server's log for an error message, without Go's stack traces."""
    if not log.exists():
        return ""
    with log.open(encoding="utf-8", errors="replace") as text:
        said = itertools.takewhile(lambda line: not line.startswith("goroutine "), text)
        return "".join(deque(said, maxlen=lines)).strip()


def with_log(error: Failed, log: Path) -> Failed:
    """Add the last lines of a server's log to the error as notes, and return the error."""
    for line in tail(log).splitlines():
        error.add_note(line)
    return error


def is_free(port: int) -> bool:
    """True if the loopback port can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


# Not seeded: processes with the same seed, such as workers of a test suite, would try the same ports.
_DICE = random.SystemRandom()


def free_block(offsets: Sequence[int]) -> int:
    """Return a base such that ``base + offset`` is a free loopback port for every offset.

    Bases are between 12000 and 21999. SeaweedFS adds up to 10000, so all ports stay below 32768, where the ports of
    outgoing connections begin on Linux. So no such connection can take a free port before the server binds it.
    """
    while True:
        base = _DICE.randrange(12000, 22000)
        if all(is_free(base + offset) for offset in offsets):
            return base
