"""Conditions that stop a run: hidden rows, a table in another place, a reader that lags; and one that only delays the
watermark: a long transaction."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.embedded.postgres import PostgresServer
from aurora_sync.embedded.stack import Stack
from aurora_sync.engine import preflight
from aurora_sync.errors import ConfigError, SourceError
from aurora_sync.model.certificate import Action
from aurora_sync.model.export import Exported
from aurora_sync.source import connection
from aurora_sync.source.reading import Reading
from aurora_sync.strategies import horizon, identity
from aurora_sync_tests.fixtures.private_server import PrivateServer
from aurora_sync_tests.fixtures.server_build import need_extension
from aurora_sync_tests.scenarios.identity_token import twins as guards
from aurora_sync_tests.scenarios.identity_token.twins import PARTITIONED, TABLE, Twins, each_strategy
from aurora_sync_tests.scenarios.world import World, config

LONG_TRANSACTION = ("long transaction", Action.GO_ON)


def preflights(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(preflight, "problems", lambda *_: [])


def row_security_off(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(connection._PINNED, "row_security", "on")


@pytest.fixture
def reader(world: World) -> Iterator[World]:
    """Return the same world for a role that may SELECT from t."""
    world.execute(TABLE, "CREATE ROLE reader LOGIN PASSWORD 'reader'", "GRANT SELECT ON t TO reader")
    try:
        yield World(make_dsn(world.dsn, user="reader", password="reader"), world.stage_url, world.warehouse_path)
    finally:
        world.execute("DROP OWNED BY reader", "DROP ROLE reader")


@each_strategy
def test_policy_that_hides_rows_is_refused(world: World, reader: World, strategy: str) -> None:
    twins = Twins(reader, strategy)
    world.execute(
        "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY hiding ON t USING (v <> 'hidden')",
        "INSERT INTO t (v) VALUES ('seen'), ('hidden')",
    )
    twins.assert_refused(ConfigError, "row-level security")
    twins.now(world).assert_unequal_without(preflights, row_security_off, connect_as(reader))


def connect_as(reader: World) -> guards.Removal:
    def remove(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(World, "sync", lambda self, config, **options: sync_as(reader, config, **options))

    sync_as = World.sync
    return remove


def test_policy_that_a_preflight_did_not_see_fails_the_read(
    world: World, reader: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy is created after the preflight: PostgreSQL itself refuses the read, because of row_security = off."""
    twins = Twins(reader)
    preflights(monkeypatch)
    world.execute("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "INSERT INTO t (v) VALUES ('hidden')")
    twins.assert_refused(SourceError, "row-level security")


def test_grant_on_some_columns_is_refused(world: World, reader: World) -> None:
    """Grants on columns do not allow reading a row's transaction id, or locking the table against a TRUNCATE."""
    twins = Twins(reader)
    world.execute("REVOKE SELECT ON t FROM reader", "GRANT SELECT (id, updated_at) ON t TO reader")
    twins.assert_refused(ConfigError, "on the whole table, not on single columns")


def test_foreign_partition_is_refused_by_a_cursor(world: World) -> None:
    """Rows of a foreign partition have no transaction id of this server."""
    need_extension(world.dsn, "postgres_fdw")
    server = psycopg2.extensions.parse_dsn(world.dsn)
    world.execute(
        "CREATE EXTENSION postgres_fdw",
        f"CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1', port '{server['port']}',"
        f" dbname '{server['dbname']}')",
        f"CREATE USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (user '{server['user']}',"
        f" password '{server['password']}')",
        PARTITIONED.replace("PRIMARY KEY", ""),
        "CREATE TABLE there (id int, updated_at timestamptz)",
    )
    twins = Twins(world, append_only=True)
    world.execute(
        "CREATE FOREIGN TABLE three PARTITION OF t FOR VALUES FROM (200) TO (300) SERVER there"
        " OPTIONS (table_name 'there')",
        "INSERT INTO there VALUES (201, now())",
    )
    twins.assert_refused(ConfigError, "foreign partitions")


@each_strategy
def test_transaction_that_is_open_for_long_is_named_and_awaited(
    world: World, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "LONG_TRANSACTION", timedelta(0))
    world.execute(TABLE)
    twins = Twins(world, strategy)
    with world.open_transaction("INSERT INTO t (v) VALUES ('long')") as writer:
        world.execute("INSERT INTO t (v) VALUES ('short')")
        receipt = world.sync(twins.config("guarded"))
        assert [(f.event, f.action) for f in receipt.certificate.findings] == [LONG_TRANSACTION]
        writer.commit()
    twins.assert_equal()


def test_prepared_transaction_that_was_forgotten_is_named_and_awaited(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "LONG_TRANSACTION", timedelta(0))
    world.execute(TABLE)
    twins = Twins(world)
    world.execute("BEGIN; INSERT INTO t (v) VALUES ('forgotten'); PREPARE TRANSACTION 'forgotten'")
    world.execute("INSERT INTO t (v) VALUES ('short')")
    receipt = world.sync(twins.config("guarded"))
    assert [(f.event, f.action) for f in receipt.certificate.findings] == [LONG_TRANSACTION]
    assert "prepared transaction 'forgotten'" in receipt.certificate.findings[0].text
    ((seen,),) = world.execute("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    world.sync(twins.config("unguarded"))
    world.execute("COMMIT PREPARED 'forgotten'", "INSERT INTO t (v) VALUES ('last')")
    twins.assert_equal()
    twins.assert_unequal_without(on_from(seen))


def on_from(newest: int) -> guards.Removal:
    """Return the rows since the newest transaction that was seen, ignoring open transactions, as naive cursors do."""

    def remove(patch: pytest.MonkeyPatch) -> None:
        written_since = horizon.written_since
        patch.setattr(horizon, "written_since", lambda _, at: written_since(newest, at))

    return remove


@pytest.fixture
def standby(mortal_server: PrivateServer, stack: Stack) -> Iterator[PrivateServer]:
    """Yield a standby of ``mortal_server``, which has TABLE."""
    mortal_server.execute(TABLE)
    mortal_server.stop()
    with tempfile.TemporaryDirectory(prefix="aurora_sync-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)
        follower = PrivateServer(PostgresServer(Path(folder) / "postgres", stack.postgres_bin))
        follower.password = mortal_server.password
        subprocess.run(["cp", "-a", mortal_server.server.home, follower.server.home], check=True)
        (follower.server.data / "standby.signal").touch()
        with (follower.server.data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"primary_conninfo = '{mortal_server.dsn()}'\n")
        mortal_server.start()
        process = follower.server._launch(follower.port, durable=False)
        assert process is not None
        try:
            replayed(mortal_server, follower)
            yield follower
        finally:
            process.kill()
            process.wait()


def replayed(primary: PrivateServer, follower: PrivateServer) -> None:
    ((position,),) = primary.execute("SELECT pg_current_wal_flush_lsn()")
    for _ in range(6_000):
        try:
            if follower.execute(f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == [(True,)]:
                return
        except psycopg2.OperationalError:  # the standby is still starting
            pass
        time.sleep(0.05)
    raise AssertionError("the standby does not follow")


def test_reader_that_lags_behind_the_watermark_is_refused_until_it_has_caught_up(
    mortal_server: PrivateServer, standby: PrivateServer, stage_url: str, tmp_path: Path, store_environment: object
) -> None:
    writer = World(mortal_server.dsn(), stage_url, tmp_path / "warehouse.duckdb")
    reader = World(standby.dsn(), stage_url, tmp_path / "warehouse.duckdb")
    twins = Twins(writer)
    standby.execute("SELECT pg_wal_replay_pause()")
    writer.execute("UPDATE t SET v = 'newer' WHERE id = 1", "INSERT INTO t (v) VALUES ('new')")
    twins.assert_equal()
    twins.now(reader).assert_refused(SourceError, "this reader has replayed transactions up to")
    standby.execute("SELECT pg_wal_replay_resume()")
    writer.execute("INSERT INTO t (v) VALUES ('newest')")
    replayed(mortal_server, standby)
    reader.sync(twins.config("guarded"))
    assert twins.difference("guarded") == ""


@pytest.mark.parametrize("reading", [True, False], ids=["reading", "idle in transaction"])
def test_read_that_a_standby_cancels_is_told_what_makes_the_standby_wait(
    mortal_server: PrivateServer,
    standby: PrivateServer,
    stage_url: str,
    tmp_path: Path,
    store_environment: object,
    monkeypatch: pytest.MonkeyPatch,
    reading: bool,
) -> None:
    """The writer removes rows that the open snapshot of a run still sees, and the standby does not wait for readers."""
    mortal_server.execute("CREATE VIEW slow AS SELECT id, pg_sleep(600)::text AS v FROM t")
    standby.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0", "SELECT pg_reload_conf()")
    replayed(mortal_server, standby)
    reader = World(standby.dsn(), stage_url, tmp_path / "warehouse.duckdb")
    export = Reading.export

    def remove_rows() -> None:
        sleeping = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        while reading and standby.execute(sleeping) == [(False,)]:
            time.sleep(0.02)
        mortal_server.execute("DELETE FROM t", "VACUUM t", "INSERT INTO t (v) VALUES ('new')")
        replayed(mortal_server, standby)

    def export_late(own: Reading, *arguments: Any, **options: Any) -> Exported:
        remover.start()
        if not reading:
            remover.join()
        return export(own, *arguments, **options)

    remover = threading.Thread(target=remove_rows)
    monkeypatch.setattr(Reading, "export", export_late)
    with pytest.raises(SourceError) as raised:
        reader.sync(config("slow", watermark_type="full_snapshot"))
    remover.join()
    assert ("conflict with recovery" in raised.value.what) is reading
    for words in ("hot_standby_feedback = on", "max_standby_streaming_delay", "set AURORA_DSN to the writer"):
        assert words in raised.value.hint
    assert ("run again" in raised.value.hint) is not reading
    assert raised.value.kind.retry
