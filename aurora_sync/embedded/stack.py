"""The local stack: PostgreSQL, an S3 server and a DuckDB file in one directory, on loopback ports.

::

    <directory>/state.json        ports and credentials (mode 0600)
    <directory>/postgres/, s3/    data and log of each server (for root, postgres/ is elsewhere: see Stack.start)
    <directory>/warehouse.duckdb  the warehouse
    <directory>/lock              flock, exclusive: held during start and stop
    <directory>/in-use            flock, shared: held by every process that uses the stack

All files are readable only by their owner: the current user, or the account that runs PostgreSQL.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import IO, Any

from aurora_sync.embedded import s3
from aurora_sync.embedded.postgres import SUPERUSER, PostgresServer, make_role_and_database
from aurora_sync.embedded.process import Account, free_block, is_free, stop
from aurora_sync.embedded.state import StackState
from aurora_sync.errors import Kind, SourceError

BUCKET = "aurora-sync"
DATABASE = "legacy"
ROLE = "aurora_sync"
POSTGRES_OFFSET = len(s3.PORTS)
OFFSETS = [POSTGRES_OFFSET] + [offset + more for offset in range(len(s3.PORTS)) for more in (0, s3.GRPC_OFFSET)]
# Place for PostgreSQL's data if it runs as another user, who cannot enter the stack's directory. Survives a reboot.
ELSEWHERE = Path("/var/tmp")
# A fast shutdown of PostgreSQL writes a checkpoint. SeaweedFS stops in about two seconds.
STOP_SECONDS = 60


class Stack:
    """A context manager that starts and stops the servers in ``directory``, a folder for the stack only.

    Data stay between runs. Several processes may use one stack: the first process starts the servers, and the last one
    stops them. With ``durable=False`` (tests only), PostgreSQL skips fsync. Methods raise SourceError and StageError,
    with the last lines of the server's log.
    """

    def __init__(self, directory: Path, postgres_bin: Path | None = None, *, durable: bool = True) -> None:
        self.directory = directory.resolve()
        self.warehouse = self.directory / "warehouse.duckdb"
        self._given_programs = postgres_bin
        self._durable = durable
        self._state_file = self.directory / "state.json"
        self._state: StackState | None = None
        self._in_use: IO[bytes] | None = None
        self._previous_handler: Any = None
        self._previous_umask: int | None = None

    def start(self) -> None:
        """Start both servers, and create role, database and bucket. Idempotent.

        A server that still runs is used as it is, and one that died is started again on its data. If the current user
        is root, PostgreSQL runs as ``nobody``, who cannot enter ``directory``. Its files are then in a folder below
        /var/tmp, which the state file names.
        """
        try:
            with self._alone():
                if self._in_use is None:
                    self._in_use = (self.directory / "in-use").open("wb")
                    fcntl.flock(self._in_use, fcntl.LOCK_SH)
                try:
                    self._start_servers()
                except BaseException:
                    self._leave()
                    raise
        except OSError as error:
            raise SourceError(
                f"the local stack cannot be started: {error}",
                where=str(self.directory),
                hint="check whether the disk is full, and whether another user owns the directory",
            ) from error

    def stop(self) -> None:
        """Stop the servers cleanly, unless another process uses them. Data stay. Idempotent."""
        if self.directory.exists():
            with self._alone():
                self._leave()

    def remove(self) -> None:
        """Stop the servers, even if others use them, and delete the directory with all data. Idempotent."""
        if not self.directory.exists():
            return
        with self._alone():
            state = self._load()
            if state:
                self._stop_servers(state, signal.SIGKILL)
                if state.elsewhere:
                    shutil.rmtree(state.elsewhere, ignore_errors=True)
            self._release()
            shutil.rmtree(self.directory)
            self._state = None

    def environment(self) -> dict[str, str]:
        """Return the settings that select this stack: environment variables. Only after :meth:`start`."""
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
        """Return the connection string of the superuser. Only after :meth:`start`."""
        return self._dsn(SUPERUSER, self._started().superuser_password, database)

    @property
    def postgres_bin(self) -> Path:
        """The folder of psql, pgbench and the other programs. Only after :meth:`start`."""
        return self._postgres(self._started()).programs

    def __enter__(self) -> Stack:
        # SIGTERM would end Python without a clean-up. As SystemExit, it runs __exit__.
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._previous_handler = signal.signal(signal.SIGTERM, _exit_on_signal)
        # DuckDB creates files beside the warehouse while this program uses it.
        self._previous_umask = os.umask(0o077)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if self._previous_umask is not None:
            os.umask(self._previous_umask)
            self._previous_umask = None
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the lock of the directory, which is created if it is missing. Private methods below need this lock."""
        path = self.directory / "lock"
        while True:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("wb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                # The file may have been removed while this process waited: only a lock on the new file counts.
                if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                    yield
                    return

    def _start_servers(self) -> None:
        state = self._load() or StackState.new(free_block(OFFSETS))
        self._choose_place(state)
        if self.warehouse.exists():
            self.warehouse.chmod(0o600)  # older releases created it with the umask of the program
        server, objects = self._postgres(state), self._objects(state)
        none_runs = server.process() is None and objects.process() is None
        if none_runs and not all(is_free(state.base_port + offset) for offset in OFFSETS):
            state.base_port = free_block(OFFSETS)
        state.save(self._state_file)
        self._state = state
        objects.launch(state.base_port)
        server.initialise(state.superuser_password)
        server.start(state.base_port + POSTGRES_OFFSET, durable=self._durable)
        make_role_and_database(self.superuser_dsn(), ROLE, state.password, DATABASE)
        objects.make_bucket(BUCKET, state.base_port)

    def _choose_place(self, state: StackState) -> None:
        """Choose the folder of PostgreSQL's files.

        For root, older releases kept the files in the directory, too. Such files stay there, and the directory keeps
        its mode, which lets other users pass through.
        """
        account = Account.for_postgres()
        if account is None or (self.directory / "postgres").exists():
            return
        if state.elsewhere is None or not Path(state.elsewhere).exists():
            state.elsewhere = tempfile.mkdtemp(prefix="aurora_sync-", dir=ELSEWHERE)
            account.own(Path(state.elsewhere))
        self.directory.chmod(0o700)

    def _postgres(self, state: StackState) -> PostgresServer:
        return PostgresServer(Path(state.elsewhere or self.directory) / "postgres", self._given_programs)

    def _objects(self, state: StackState) -> s3.S3Server:
        return s3.S3Server(self.directory / "s3", state.access_key, state.secret_key)

    def _leave(self) -> None:
        """Stop the servers if no other process uses the stack."""
        self._release()
        with (self.directory / "in-use").open("wb") as others:
            try:
                fcntl.flock(others, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            if state := self._load():
                self._stop_servers(state, signal.SIGTERM)

    def _stop_servers(self, state: StackState, objects_signal: signal.Signals) -> None:
        stop(self._postgres(state).process(), signal.SIGINT, STOP_SECONDS)  # a fast shutdown
        stop(self._objects(state).process(), objects_signal, STOP_SECONDS)
        s3.remove_sockets(state.base_port)

    def _release(self) -> None:
        if self._in_use is not None:
            self._in_use.close()
            self._in_use = None

    def _load(self) -> StackState | None:
        return StackState.load(self._state_file)

    def _started(self) -> StackState:
        if self._state is None:
            raise SourceError("the local stack is not started", where=str(self.directory), kind=Kind.DEFECT)
        return self._state

    def _dsn(self, user: str, password: str, database: str) -> str:
        port = self._started().base_port + POSTGRES_OFFSET
        return f"postgresql://{user}:{password}@127.0.0.1:{port}/{database}"


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
