"""The local stack: PostgreSQL, an S3 server and a DuckDB file, all in one directory, on loopback ports.

::

    <directory>/state.json        ports, credentials, server processes (mode 0600)
    <directory>/postgres/, s3/    data and log of each server (postgres/ elsewhere: see Stack.start)
    <directory>/warehouse.duckdb  the warehouse
    <directory>/lock, in-use      flock: one starter or stopper at a time; held shared by every user
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

import psycopg2
from psycopg2 import sql

from aurora_sync.embedded import s3
from aurora_sync.embedded.postgres import SUPERUSER, PostgresServer
from aurora_sync.embedded.process import Account, ServerProcess, free_block, is_free
from aurora_sync.errors import Kind, SourceError

BUCKET = "aurora-sync"
DATABASE = "legacy"
ROLE = "aurora_sync"
POSTGRES_PORT_OFFSET = len(s3.PORTS)
S3_PORT_OFFSETS = [offset + more for offset in range(len(s3.PORTS)) for more in (0, s3.GRPC_OFFSET)]
# A fast shutdown of PostgreSQL writes a checkpoint first; SeaweedFS takes about a second.
STOP_SECONDS = 60


@dataclass
class State:
    base_port: int
    postgres_home: str
    superuser_password: str
    password: str
    access_key: str
    secret_key: str
    postgres: ServerProcess | None = None
    s3: ServerProcess | None = None

    @classmethod
    def from_json(cls, text: str) -> State:
        document = json.loads(text)
        for server in ("postgres", "s3"):
            document[server] = ServerProcess(**document[server]) if document[server] else None
        return cls(**document)


class Stack:
    """A context manager over the servers in ``directory``, which belongs to the stack as a whole.

    Data stay between runs. Several processes may use one stack: the first starts the servers, the last one
    that leaves stops them. ``durable=False`` (tests only) lets PostgreSQL skip fsync. Errors: SourceError
    and StageError, with the end of the server's log.
    """

    def __init__(self, directory: Path, postgres_bin: Path | None = None, *, durable: bool = True) -> None:
        self.directory = directory.absolute()
        self.warehouse = self.directory / "warehouse.duckdb"
        self._given_binaries = postgres_bin
        self._durable = durable
        self._state_file = self.directory / "state.json"
        self._state: State | None = None
        self._postgres: PostgresServer | None = None
        self._in_use: IO[bytes] | None = None
        self._previous_handler: Any = None

    def start(self) -> None:
        """Both servers run, with role, database and bucket, when it returns. Idempotent.

        Servers of this stack that still run are used as they are; those that died are started again on
        their data. As root PostgreSQL runs as ``nobody``, and where that user cannot enter ``directory``
        its files lie in a folder below /var/tmp that the state file names.
        """
        self.directory.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with self._alone():
            if self._in_use is None:
                self._in_use = (self.directory / "in-use").open("wb")
                fcntl.flock(self._in_use, fcntl.LOCK_SH)
            try:
                self._start_servers()
            except BaseException:
                self._leave()
                raise

    def stop(self) -> None:
        """Stop the servers cleanly, unless another process uses them. Data stay. Idempotent."""
        if self.directory.exists():
            with self._alone():
                self._leave()

    def remove(self) -> None:
        """Stop the servers, whoever uses them, and delete the directory with all data. Idempotent."""
        if not self.directory.exists():
            return
        with self._alone():
            if state := self._load():
                self._stop_servers(state)
                shutil.rmtree(state.postgres_home, ignore_errors=True)
                home = Path(state.postgres_home).parent
                if home != self.directory:
                    shutil.rmtree(home, ignore_errors=True)
            self._release()
            shutil.rmtree(self.directory)
            self._state = self._postgres = None

    def environment(self) -> dict[str, str]:
        """The settings that the rest of the project reads, for this stack. Only after :meth:`start`."""
        state = self._started()
        return {
            "AURORA_DSN": self._dsn(ROLE, state.password, DATABASE),
            "AURORA_SYNC_STAGE": f"s3://{BUCKET}/stage",
            "AURORA_SYNC_WAREHOUSE": f"duckdb:{self.warehouse}",
            "AWS_ACCESS_KEY_ID": state.access_key,
            "AWS_SECRET_ACCESS_KEY": state.secret_key,
            "AWS_REGION": s3.REGION,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{state.base_port}",
        }

    def superuser_dsn(self, database: str = SUPERUSER) -> str:
        return self._dsn(SUPERUSER, self._started().superuser_password, database)

    @property
    def postgres_bin(self) -> Path:
        """Where psql, pgbench and the other tools lie. Only after :meth:`start`."""
        self._started()
        assert self._postgres is not None
        return self._postgres.binaries

    @property
    def state(self) -> State:
        """Ports and processes. Only after :meth:`start`."""
        return self._started()

    def __enter__(self) -> Stack:
        # SIGTERM would end Python without a clean-up; as SystemExit it runs through __exit__.
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._previous_handler = signal.signal(signal.SIGTERM, _exit_on_signal)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    # -- below here everything runs under the lock ------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        path = self.directory / "lock"
        while True:
            self.directory.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # Removed while we waited: the lock that counts is the new file's.
                if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    yield
                    return

    def _start_servers(self) -> None:
        state = self._state = self._load() or self._new_state()
        running = [server for server in (state.postgres, state.s3) if server and server.alive]
        if not running and not all(is_free(state.base_port + offset) for offset in _all_offsets()):
            state.base_port = free_block(_all_offsets())
        self._postgres = PostgresServer.below(Path(state.postgres_home), self._given_binaries)
        self._postgres.initialise(state.superuser_password)
        objects = s3.S3Server(self.directory / "s3", state.access_key, state.secret_key)
        if state.s3 is None or not state.s3.alive:
            state.s3 = objects.launch(state.base_port)
            self._save(state)
        if state.postgres is None or not state.postgres.alive:
            state.postgres = self._postgres.start(state.base_port + POSTGRES_PORT_OFFSET, durable=self._durable)
            self._save(state)
        _make_role_and_database(self.superuser_dsn(), state.password)
        objects.make_bucket(BUCKET, state.base_port, state.s3)

    def _new_state(self) -> State:
        account = Account.for_postgres()
        home = self.directory
        if account and not account.reaches(home):
            home = Path(tempfile.mkdtemp(prefix="aurora_sync-", dir="/var/tmp"))
            home.chmod(0o711)
        state = State(
            base_port=free_block(_all_offsets()),
            postgres_home=str(home / "postgres"),
            superuser_password=secrets.token_urlsafe(24),
            password=secrets.token_urlsafe(24),
            access_key=secrets.token_hex(10).upper(),
            secret_key=secrets.token_urlsafe(30),
        )
        self._save(state)
        return state

    def _leave(self) -> None:
        """Stop the servers if nobody else holds the stack in use."""
        self._release()
        with (self.directory / "in-use").open("wb") as others:
            try:
                fcntl.flock(others, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if state := self._load():
                self._stop_servers(state)

    def _stop_servers(self, state: State) -> None:
        servers = [server for server in (state.postgres, state.s3) if server]
        for server in servers:
            server.signal(signal.SIGINT)  # PostgreSQL: fast shutdown; SeaweedFS: the same as SIGTERM
        for server in servers:
            server.wait(STOP_SECONDS)
        s3.remove_sockets(state.base_port)
        state.postgres = state.s3 = None
        self._save(state)

    def _release(self) -> None:
        if self._in_use is not None:
            self._in_use.close()
            self._in_use = None

    def _load(self) -> State | None:
        if not self._state_file.exists():
            return None
        try:
            return State.from_json(self._state_file.read_text(encoding="utf-8"))
        except (ValueError, TypeError, KeyError) as error:
            raise SourceError(
                f"the state of the local stack cannot be read ({error})",
                where=str(self._state_file),
                hint=f"stop its servers and delete {self.directory}",
                kind=Kind.USER,
            ) from error

    def _save(self, state: State) -> None:
        aside = self._state_file.with_suffix(".new")
        aside.unlink(missing_ok=True)
        aside.touch(mode=0o600)
        aside.write_text(json.dumps(dataclasses.asdict(state), indent=1), encoding="utf-8")
        aside.rename(self._state_file)

    def _started(self) -> State:
        if self._state is None:
            raise SourceError("the local stack is not started", where=str(self.directory), kind=Kind.DEFECT)
        return self._state

    def _dsn(self, user: str, password: str, database: str) -> str:
        port = self._started().base_port + POSTGRES_PORT_OFFSET
        return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"


def _all_offsets() -> list[int]:
    return [*S3_PORT_OFFSETS, POSTGRES_PORT_OFFSET]


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _make_role_and_database(superuser_dsn: str, password: str) -> None:
    """As on Aurora: not a superuser, owns its database, sees everyone's transactions. Idempotent."""
    with contextlib.closing(psycopg2.connect(superuser_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            role = sql.Identifier(ROLE)
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,))
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE ROLE {}").format(role))
            cursor.execute(
                sql.SQL("ALTER ROLE {} LOGIN CREATEDB CREATEROLE REPLICATION PASSWORD %s").format(role),
                (password,),
            )
            cursor.execute(sql.SQL("GRANT pg_monitor TO {}").format(role))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,))
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), role))
