"""A source that disappears, refuses, fails in the middle of a COPY, or has no disk space left."""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.embedded.process import Account
from aurora_sync.embedded.stack import Stack
from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.source import connection
from aurora_sync.source.reading import Reading
from aurora_sync_tests.fixtures.private_server import PrivateServer
from aurora_sync_tests.scenarios.faults.conftest import mounted
from aurora_sync_tests.scenarios.faults.ordeal import Fault, Ordeal, environment
from aurora_sync_tests.scenarios.faults.tcp_proxy import Pair, TcpProxy
from aurora_sync_tests.scenarios.world import World, config

# More data than the buffers between server and client hold.
ROWS, WIDTH = 5_000, 2_000
MIDDLE = 1_000_000

OURS = (
    "pid <> pg_backend_pid() AND application_name LIKE 'aurora_sync%' AND datname = current_database()"
    " AND backend_type = 'client backend'"  # and not a parallel worker of the COPY
)


def through(proxy: TcpProxy, world: World, happens: Callable[[Pair], None], at_byte: int = MIDDLE) -> Fault:
    """Let runs connect through the proxy, which does this."""

    @contextmanager
    def fault() -> Iterator[None]:
        dsn = make_dsn(world.dsn, host="127.0.0.1", port=proxy.own_port)
        with environment(AURORA_DSN=dsn), proxy.doing(happens, at_byte):
            yield

    return fault


@pytest.mark.parametrize("how", [Pair.close, Pair.reset])
def test_connection_that_breaks_in_mid_copy_is_worth_another_try(
    ordeal: Ordeal, source_proxy: TcpProxy, how: Callable[[Pair], None]
) -> None:
    ordeal.begin(ROWS, WIDTH)
    fault = through(source_proxy, ordeal.world, how)
    ordeal.meet(fault, SourceError, Kind.TRANSIENT, "public.t", "connection")


@pytest.mark.parametrize("at_byte", [1, 400, 3_000], ids=str)
def test_connection_that_breaks_before_any_row_is_worth_another_try(
    ordeal: Ordeal, source_proxy: TcpProxy, at_byte: int
) -> None:
    ordeal.begin()
    fault = through(source_proxy, ordeal.world, Pair.close, at_byte)
    ordeal.meet(fault, SourceError, Kind.TRANSIENT, "connection")


def test_backend_that_is_terminated_in_mid_copy_is_worth_another_try(ordeal: Ordeal, source_proxy: TcpProxy) -> None:
    ordeal.begin(ROWS, WIDTH)

    def terminate(_: Pair) -> None:
        ordeal.world.terminate(OURS)

    fault = through(source_proxy, ordeal.world, terminate)
    ordeal.meet(fault, SourceError, Kind.TRANSIENT, "public.t", "connection")


def test_copy_that_is_cancelled_by_a_person_is_not_tried_again(ordeal: Ordeal, source_proxy: TcpProxy) -> None:
    ordeal.begin(ROWS, WIDTH)

    def cancel(_: Pair) -> None:
        assert ordeal.world.execute(f"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE {OURS}") == [(True,)]

    fault = through(source_proxy, ordeal.world, cancel)
    ordeal.meet(fault, SourceError, Kind.REFUSED, "public.t", "user request", "pg_cancel_backend")


def test_copy_that_stalls_for_a_while_goes_on(ordeal: Ordeal, source_proxy: TcpProxy) -> None:
    ordeal.begin(ROWS, WIDTH)
    with through(source_proxy, ordeal.world, lambda _: time.sleep(2))():
        assert ordeal.run().rows_exported == ROWS + 1
    ordeal.assert_equal()


def test_server_that_is_stopped_hard_in_mid_copy_is_worth_another_try(
    ordeal: Ordeal,
    mortal_server: PrivateServer,
    source_proxy: TcpProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mortal_server.execute("CREATE DATABASE mortal TEMPLATE template0")
    world = ordeal.world = World(mortal_server.dsn("mortal"), ordeal.world.stage_url, ordeal.world.warehouse_path)
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    source_proxy.port = mortal_server.port
    ordeal.begin(ROWS, WIDTH)

    def crash(_: Pair) -> None:
        mortal_server.crash()
        mortal_server.start()

    ordeal.meet(through(source_proxy, world, crash), SourceError, Kind.TRANSIENT, "public.t", "connection")


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"password": "wrong-and-secret"}, Kind.REFUSED, ("password authentication failed", "database in AURORA_DSN")),
        ({"user": "nobody_here"}, Kind.REFUSED, ("nobody_here", "AURORA_DSN")),
        ({"dbname": "nowhere"}, Kind.REFUSED, ('database "nowhere" does not exist', "AURORA_DSN")),
        ({"host": "nowhere.invalid"}, Kind.TRANSIENT, ("could not translate host name", "host")),
        ({"sslmode": "require"}, Kind.REFUSED, ("SSL", "AURORA_DSN")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_source_that_cannot_be_entered_says_why_and_what_to_check(
    ordeal: Ordeal, change: dict[str, str], kind: Kind, words: tuple[str, ...]
) -> None:
    ordeal.begin()
    dsn = make_dsn(ordeal.world.dsn, **change)
    error = ordeal.meet(lambda: environment(AURORA_DSN=dsn), SourceError, kind, "cannot connect", *words)
    assert "wrong-and-secret" not in str(error)


def test_closed_port_is_worth_another_try(ordeal: Ordeal) -> None:
    ordeal.begin()
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        dsn = make_dsn(ordeal.world.dsn, port=port)
        ordeal.meet(
            lambda: environment(AURORA_DSN=dsn), SourceError, Kind.TRANSIENT, str(port), "refused", "AURORA_DSN"
        )


@pytest.fixture
def reader(ordeal: Ordeal, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Let runs use a role that may only read, since limits do not apply to a superuser."""
    name, password = f"reader_{secrets.token_hex(4)}", secrets.token_hex(12)
    world = ordeal.world
    world.execute(
        f"CREATE ROLE {name} LOGIN PASSWORD '{password}'",
        f"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {name}",
    )
    monkeypatch.setenv("AURORA_DSN", make_dsn(world.dsn, user=name, password=password))
    yield name
    world.execute(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def between(world: World, *before: str, after: str) -> Fault:
    """Return a fault: ``before`` makes a run fail, ``after`` repairs the source."""

    @contextmanager
    def fault() -> Iterator[None]:
        world.execute(*before)
        try:
            yield
        finally:
            world.execute(after)

    return fault


def locked(world: World, name: str) -> Fault:
    """Return a fault: another session holds an exclusive lock on this table."""
    return lambda: world.open_transaction(f"LOCK TABLE {name} IN ACCESS EXCLUSIVE MODE")


def test_connection_limit_is_worth_another_try_and_named(ordeal: Ordeal, reader: str) -> None:
    ordeal.begin()
    fault = between(
        ordeal.world,
        f"ALTER ROLE {reader} CONNECTION LIMIT 0",
        after=f"ALTER ROLE {reader} CONNECTION LIMIT -1",
    )
    error = ordeal.meet(fault, SourceError, Kind.TRANSIENT, "too many connections", reader, "connection limit")
    assert "password" not in error.hint


def test_missing_grant_is_named(ordeal: Ordeal, reader: str) -> None:
    ordeal.begin()
    fault = between(
        ordeal.world,
        f"REVOKE ALL ON SCHEMA public FROM PUBLIC, {reader}",
        after="GRANT USAGE ON SCHEMA public TO PUBLIC",
    )
    ordeal.meet(fault, ConfigError, Kind.USER, "public.t", "may not SELECT", "GRANT SELECT")


def test_statement_timeout_of_the_role_is_not_that_of_a_read(
    ordeal: Ordeal, reader: str, source_proxy: TcpProxy
) -> None:
    """The COPY may take max_snapshot_minutes, and the server waits for the client longer than the role's limit."""
    ordeal.begin(ROWS, WIDTH)
    ordeal.world.execute(f"ALTER ROLE {reader} SET statement_timeout = '3s'")
    dsn = make_dsn(os.environ["AURORA_DSN"], host="127.0.0.1", port=source_proxy.own_port)
    with environment(AURORA_DSN=dsn), source_proxy.doing(lambda _: time.sleep(4), MIDDLE):
        assert ordeal.run().rows_exported == ROWS + 1
    ordeal.assert_equal()


def test_statement_timeout_of_the_role_before_the_read_is_named(ordeal: Ordeal, reader: str) -> None:
    """The catalogue is locked longer than the role's limit."""
    ordeal.begin()

    @contextmanager
    def fault() -> Iterator[None]:
        limit = f"ALTER ROLE {reader} SET statement_timeout = '1s'"
        ended = f"ALTER ROLE {reader} RESET ALL"
        with between(ordeal.world, limit, after=ended)(), locked(ordeal.world, "pg_inherits")():
            yield

    ordeal.meet(
        fault,
        SourceError,
        Kind.REFUSED,
        "statement timeout",
        "statement_timeout of this role",
    )


def test_table_that_stays_locked_is_worth_another_try(ordeal: Ordeal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection._PINNED, "lock_timeout", "100ms")
    ordeal.begin()
    ordeal.meet(locked(ordeal.world, "t"), SourceError, Kind.TRANSIENT, "lock timeout", "ACCESS EXCLUSIVE")


def test_table_that_is_gone_when_its_read_begins_is_named(ordeal: Ordeal, monkeypatch: pytest.MonkeyPatch) -> None:
    ordeal.begin()
    original = Reading.observe

    @contextmanager
    def fault() -> Iterator[None]:
        def observe(reading: Reading, *arguments: Any, **keywords: Any) -> Any:
            ordeal.world.execute("ALTER TABLE t RENAME TO elsewhere")
            try:
                return original(reading, *arguments, **keywords)
            finally:
                ordeal.world.execute("ALTER TABLE elsewhere RENAME TO t")

        with monkeypatch.context() as patch:
            patch.setattr(Reading, "observe", observe)
            yield

    ordeal.meet(fault, SourceError, Kind.REFUSED, "public.t", "does not exist", "tables.yaml")


@pytest.fixture
def view(ordeal: Ordeal, tmp_path: Path) -> Ordeal:
    """Return a view that is read whole, and whose last row can be made impossible to compute."""
    tables = tmp_path / "tables.yaml"
    tables.write_text("tables: [{table_name: w, watermark_type: full_snapshot, primary_key: [id]}]", encoding="utf-8")
    ordeal.world.execute(
        "CREATE TABLE base (id int PRIMARY KEY, v text)",
        "CREATE TABLE bad (id int)",
        "INSERT INTO bad VALUES (-1)",
        f"INSERT INTO base SELECT n, repeat('x', {WIDTH}) FROM generate_series(1, {ROWS}) n",
        "CREATE VIEW w AS SELECT base.id, v, 100 / (base.id - bad.id) AS q FROM base, bad ORDER BY id",
    )
    ordeal.table = config("w", "full_snapshot", primary_key=["id"])
    ordeal.world.sync(ordeal.table)
    ordeal.world.execute("UPDATE base SET v = v || '!'", "DELETE FROM base WHERE id = 7")
    return ordeal


def test_error_in_the_middle_of_a_copy_is_named_with_its_table(view: Ordeal) -> None:
    fault = between(view.world, f"UPDATE bad SET id = {ROWS}", after="UPDATE bad SET id = -1")
    view.meet(fault, SourceError, Kind.REFUSED, "public.w", "division by zero", "22012", "exclude")


def sorts(view: Ordeal) -> None:
    """Change the view so that it needs temporary files."""
    columns = "base.id, v, 100 / (base.id - bad.id) AS q"
    view.world.execute(f"CREATE OR REPLACE VIEW w AS SELECT {columns} FROM base, bad ORDER BY md5(v), v")


def test_temp_file_limit_is_named_and_not_tried_again(view: Ordeal) -> None:
    ((database,),) = view.world.execute("SELECT current_database()")
    sorts(view)
    fault = between(
        view.world,
        f"ALTER DATABASE {database} SET temp_file_limit = '64kB'",
        f"ALTER DATABASE {database} SET work_mem = '64kB'",
        after=f"ALTER DATABASE {database} RESET ALL",
    )
    view.meet(fault, SourceError, Kind.REFUSED, "public.w", "53400", "temp_file_limit")


@pytest.fixture
def full_tablespace(ordeal: Ordeal, stack: Stack) -> Iterator[str]:
    """Yield a tablespace for temporary files on a disk of 128 kB that the server may write to."""
    name = f"small_{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        disk = Path(folder) / "disk"
        disk.mkdir()
        with mounted(disk, size="128k"):
            account = Account.for_postgres()
            assert account is not None
            account.own(disk)
            ordeal.world.execute(f"CREATE TABLESPACE {name} LOCATION '{disk}'")
            yield name
            ordeal.world.execute(f"DROP TABLESPACE {name}")


def test_source_without_room_on_its_disk_is_worth_another_try(view: Ordeal, full_tablespace: str) -> None:
    ((database,),) = view.world.execute("SELECT current_database()")
    sorts(view)
    fault = between(
        view.world,
        f"ALTER DATABASE {database} SET temp_tablespaces = '{full_tablespace}'",
        f"ALTER DATABASE {database} SET work_mem = '64kB'",
        after=f"ALTER DATABASE {database} RESET ALL",
    )
    view.meet(fault, SourceError, Kind.TRANSIENT, "public.w", "No space left on device", "free space")
