"""A database behind a transaction pooler with one session of the server."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import psycopg2
import pytest

from aurora_sync.embedded.process import free_block
from aurora_sync.embedded.stack import Stack
from aurora_sync_tests.fixtures.local_stack import scratch
from aurora_sync_tests.scenarios.pooler.proxy import transaction_pooler

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


@pytest.fixture(params=["proxy", "pgbouncer"])
def pooled(request: pytest.FixtureRequest, stack: Stack, dsn: str) -> Iterator[str]:
    """Yield the DSN of the test's database through the pooler."""
    if request.param == "proxy":
        with transaction_pooler(dsn) as pooler:
            yield through(dsn, pooler.port)
    elif PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed (on Debian and Ubuntu: apt-get install pgbouncer)")
    else:
        with _pgbouncer(PGBOUNCER, dsn) as port:
            yield through(dsn, port)


def through(dsn: str, port: int) -> str:
    parts = urlsplit(dsn)
    return f"{parts.scheme}://{parts.username}:{parts.password}@127.0.0.1:{port}{parts.path}"


@contextmanager
def _pgbouncer(program: str, dsn: str) -> Iterator[int]:
    parts, port = urlsplit(dsn), free_block([0])
    server = f"host={parts.hostname} port={parts.port} user={parts.username} password={parts.password}"
    with scratch() as folder:
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = {server}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
            "pool_mode = transaction\ndefault_pool_size = 1\n",
            encoding="utf-8",
        )
        settings.chmod(0o644)
        command = [program, str(settings)] + (["-u", "nobody"] if os.geteuid() == 0 else [])
        with (folder / "log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                while not _answers(port):
                    assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")
                    time.sleep(0.02)
                yield port
            finally:
                process.kill()


def _answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def left_in_the_session(pooled: str) -> dict[str, str]:
    """Return the settings that another client of the pool finds, beyond its own transaction and what PgBouncer sets for
    each client."""
    with closing(psycopg2.connect(pooled)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, setting FROM pg_settings WHERE source = 'session'")
        own = ("application_name", "transaction_")
        return {name: value for name, value in cursor.fetchall() if not name.startswith(own)}
