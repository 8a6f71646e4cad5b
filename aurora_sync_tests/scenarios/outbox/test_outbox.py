"""``watermark_type: outbox``: triggers record every change of a table, and no transaction is skipped."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from psycopg2.extensions import make_dsn

from aurora_sync.config.tables import TableConfig
from aurora_sync.errors import ConfigError, GuardError, Kind, SourceError
from aurora_sync.model.receipt import Receipt
from aurora_sync.model.relation import Outbox, SourceTable
from aurora_sync.source import connection, outbox
from aurora_sync.source.database import Source
from aurora_sync_tests.fixtures.server_build import need_extension
from aurora_sync_tests.scenarios.world import World, config

T = config("t", "outbox")
TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
ROWS = "INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 20) n"
OUTBOX = 'aurora_sync."public.t"'


OFF = "ALTER TABLE t DISABLE TRIGGER zzz_aurora_sync_row"
ON_AGAIN = "ALTER TABLE t ENABLE ALWAYS TRIGGER zzz_aurora_sync_row"


def synced(world: World, *statements: str, table: TableConfig = T) -> None:
    """Create the table with its triggers and sync it twice; later runs use the outbox."""
    world.execute(*(statements or (TABLE, ROWS)))
    world.make(table)
    world.sync(table)
    assert world.sync(table).method == "outbox"


def by_outbox(world: World, table: TableConfig = T) -> Receipt:
    receipt = world.sync(table)
    assert receipt.method == "outbox"
    world.assert_equal(table)
    return receipt


def by_scan(world: World, because: str, table: TableConfig = T) -> Receipt:
    """Assert that a change which the outbox does not show is found by a scan, and that the outbox is used again
    afterwards."""
    receipt = world.sync(table)
    assert because in " ".join(receipt.warnings)
    assert receipt.method != "outbox"
    world.assert_equal(table)
    world.execute("UPDATE t SET v = 'after the scan' WHERE id = 1")
    by_outbox(world, table)
    return receipt


def waiting(world: World) -> int:
    """Return the number of keys in the outbox."""
    ((rows,),) = world.execute(f"SELECT count(*) FROM {OUTBOX} WHERE id IS NOT NULL")
    return int(rows)


def test_every_write_comes_with_the_next_run(world: World) -> None:
    synced(world)
    assert not by_outbox(world).changed
    world.execute(
        "INSERT INTO t VALUES (30, 'new'), (31, NULL)",
        "UPDATE t SET v = 'updated' WHERE id = 1",
        "UPDATE t SET id = 40 WHERE id = 2",
        "DELETE FROM t WHERE id = 3",
        "BEGIN; DELETE FROM t WHERE id = 4; INSERT INTO t VALUES (4, 'again'); COMMIT",
        "BEGIN; INSERT INTO t VALUES (50, 'brief'); DELETE FROM t WHERE id = 50; COMMIT",
        "UPDATE t SET v = upper(v) WHERE id > 15",
        "INSERT INTO t VALUES (5, 'upsert') ON CONFLICT (id) DO UPDATE SET v = excluded.v",
    )
    receipt = by_outbox(world)
    assert (receipt.certificate.level.value, receipt.certificate.changes) == (
        "certified",
        ("inserts", "updates", "deletes"),
    )
    assert waiting(world) == 0
    assert not by_outbox(world).changed


def test_transaction_in_flight_is_passed_over_by_the_usual_queue_and_not_by_ours(world: World) -> None:
    """The usual queue is read by a number, and emptied up to the highest number that was read."""
    synced(world)
    world.execute(
        "CREATE TABLE queue (n bigserial, id int)",
        "CREATE FUNCTION enqueue() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO queue (id) VALUES (NEW.id); RETURN NULL; END $$",
        "CREATE TRIGGER enqueue AFTER INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION enqueue()",
    )
    naive: dict[int, str] = {}

    def naive_sync() -> None:
        naive.update(world.execute("SELECT id, v FROM t WHERE id IN (SELECT id FROM queue)"))
        (greatest,) = world.execute("SELECT max(n) FROM queue")
        with open_transaction:  # it already has its number
            open_transaction.commit()
        world.execute(f"DELETE FROM queue WHERE n <= {greatest[0]}")

    with world.open_transaction("INSERT INTO t VALUES (100, 'late')") as open_transaction:
        world.execute("INSERT INTO t VALUES (101, 'early')")
        receipt = world.sync(T)
        assert (receipt.method, receipt.inserted, waiting(world)) == ("outbox", 1, 0)
        naive_sync()
    by_outbox(world)
    naive.update(world.execute("SELECT id, v FROM t WHERE id IN (SELECT id FROM queue)"))
    assert 100 not in naive
    assert 101 in naive


def test_row_committed_after_the_snapshot_stays_in_the_outbox(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is committed before the outbox is emptied of the changes that the run applied."""
    synced(world)
    world.execute("UPDATE t SET v = 'before the snapshot' WHERE id = 1")
    acknowledge = Source.acknowledge

    def write_and_acknowledge(source: Source, table: SourceTable, snapshot: str) -> None:
        world.execute("UPDATE t SET v = 'after the snapshot' WHERE id = 2")
        acknowledge(source, table, snapshot)

    with monkeypatch.context() as patched:
        patched.setattr(Source, "acknowledge", write_and_acknowledge)
        receipt = world.sync(T)
    assert (receipt.method, receipt.updated, waiting(world)) == ("outbox", 1, 1)
    assert by_outbox(world).updated == 1
    assert waiting(world) == 0


KEYS = {
    "composite": ("a int, b text, v text, PRIMARY KEY (a, b)", "n, 'b' || n", "a = 3"),
    "text": ("id text PRIMARY KEY, v text", "chr(64 + n) || ',\"''\\N' || chr(10)", "id LIKE 'C%'"),
    "empty_text": ("id text PRIMARY KEY, v text", "repeat(' ', n - 1)", "id = '  '"),
    "padded": ("id char(5) PRIMARY KEY, v text", "n::text", "id = '3'"),
    "uuid": ("id uuid PRIMARY KEY, v text", "gen_random_uuid()", "v = 'v3'"),
    "numeric": ("id numeric(20, 10) PRIMARY KEY, v text", "n / 7.0", "v = 'v3'"),
    "timestamptz": ("id timestamptz PRIMARY KEY, v text", "'2026-10-25 00:00+00'::timestamptz + n * '20 min'::interval",
                    "v = 'v3'"),
    "date": ("id date PRIMARY KEY, v text", "date '2026-01-01' + n", "v = 'v3'"),
    "bytea": ("id bytea PRIMARY KEY, v text", "decode(lpad(to_hex(n), 4, '0'), 'hex')", "v = 'v3'"),
    "boolean": ("id boolean, n int, v text, PRIMARY KEY (id, n)", "n % 2 = 0, n", "v = 'v3'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KEYS)
def test_key_of_any_type_whatever_the_settings_of_the_writer(world: World, kind: str) -> None:
    columns, value, third = KEYS[kind]
    synced(
        world, f"CREATE TABLE t ({columns})", f"INSERT INTO t SELECT {value}, 'v' || n FROM generate_series(1, 20) n"
    )
    with world.session() as connection, connection.cursor() as cursor:
        cursor.execute("SET DateStyle TO 'SQL, DMY'; SET TimeZone TO 'Europe/Berlin'; SET bytea_output TO escape")
        cursor.execute(f"UPDATE t SET v = 'updated' WHERE {third}")
        cursor.execute("DELETE FROM t WHERE v IN ('v7', 'v8')")
        cursor.execute(f"INSERT INTO t SELECT {value}, 'new' FROM generate_series(21, 23) n")
        connection.commit()
    receipt = by_outbox(world)
    assert (receipt.inserted, receipt.updated, receipt.deleted) == (3, 1, 2)


def test_keys_that_are_equal_and_not_the_same(world: World) -> None:
    need_extension(world.dsn, "citext")
    synced(
        world,
        "CREATE EXTENSION citext",
        "CREATE TABLE t (id citext PRIMARY KEY, v text)",
        "INSERT INTO t VALUES ('a', '1'), ('b', '2')",
    )
    world.execute("UPDATE t SET id = 'A' WHERE id = 'a'")
    by_outbox(world)


def test_partitions_cascades_and_replicated_writes(world: World) -> None:
    synced(
        world,
        "CREATE TABLE parents (id int PRIMARY KEY)",
        "INSERT INTO parents SELECT generate_series(1, 20)",
        "CREATE TABLE t (id int PRIMARY KEY, v text, parent int REFERENCES parents ON DELETE CASCADE)"
        " PARTITION BY RANGE (id)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (10) TO (100) PARTITION BY RANGE (id)",
        "CREATE TABLE t21 PARTITION OF t2 FOR VALUES FROM (10) TO (100)",
        "INSERT INTO t SELECT n, 'v', n FROM generate_series(1, 20) n",
    )
    world.execute(
        "UPDATE t1 SET v = 'straight into the leaf' WHERE id = 1",
        "INSERT INTO t21 VALUES (50, 'so is this')",
        "UPDATE t SET id = 60 WHERE id = 2",  # moves to another partition
        "DELETE FROM parents WHERE id = 3",
        "BEGIN; SET LOCAL session_replication_role TO replica;"
        " UPDATE t SET v = 'replicated' WHERE id = 4; DELETE FROM t WHERE id = 5; COMMIT",
    )
    receipt = by_outbox(world)
    assert (receipt.inserted, receipt.updated, receipt.deleted) == (2, 2, 3)


def test_what_no_row_trigger_sees_is_scanned(world: World) -> None:
    synced(world)
    world.execute("TRUNCATE t")
    with pytest.raises(GuardError, match="would empty"):
        world.sync(T)
    world.execute("INSERT INTO t VALUES (1, 'after it')")
    world.sync(T, allow_deletes=True)
    world.assert_equal(T)
    world.execute("UPDATE t SET v = 'and so on'")
    by_outbox(world)


@pytest.mark.parametrize(
    "statements",
    [
        [OFF, "DELETE FROM t WHERE id = 7", ON_AGAIN],
        [OFF, "UPDATE t SET v = 'unseen'", ON_AGAIN],
        [f"TRUNCATE {OUTBOX}", f"INSERT INTO {OUTBOX} (aurora_sync_emptied) VALUES ('1:1:')"],
    ],
    ids=["delete while off", "update while off", "outbox truncated"],
)
def test_triggers_that_were_off_for_a_moment(world: World, statements: list[str]) -> None:
    synced(world)
    world.execute(*statements)
    by_scan(world, "its triggers were recreated or altered since the last run")


def test_outbox_that_was_emptied_by_hand(world: World) -> None:
    synced(world)
    world.execute("DELETE FROM t WHERE id = 7", f"DELETE FROM {OUTBOX}")
    by_scan(world, "the outbox was emptied by hand")


def test_two_deployments_on_one_outbox(world: World, tmp_path: Path) -> None:
    """One deployment empties changes that the other has not seen."""
    other = World(world.dsn, f"{world.stage_url}/other", tmp_path / "other.duckdb")
    synced(world)
    other.sync(T)
    for mine, theirs in [(world, other), (other, world)] * 2:
        mine.execute("DELETE FROM t WHERE id = (SELECT max(id) FROM t)", "UPDATE t SET v = v || '!' WHERE id = 1")
        mine.sync(T)
        mine.assert_equal(T)
        receipt = theirs.sync(T)
        assert "another deployment empties it too" in " ".join(receipt.warnings)
        theirs.assert_equal(T)


@pytest.mark.closes_warehouse
def test_target_that_was_restored(world: World, tmp_path: Path) -> None:
    synced(world)
    shutil.copy(world.warehouse_path, tmp_path / "backup")
    world.execute("DELETE FROM t WHERE id = 7", "UPDATE t SET v = 'lost with the target' WHERE id = 8")
    by_outbox(world)
    shutil.copy(tmp_path / "backup", world.warehouse_path)
    world.execute("INSERT INTO t VALUES (100, 'after it')")  # a run without changes opens no session of the warehouse
    by_scan(world, "or the target was restored")


def test_outbox_that_cannot_be_emptied_is_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(world)
    world.execute("DELETE FROM t WHERE id = 7")
    with monkeypatch.context() as patched:
        patched.setattr(Source, "acknowledge", _raising(SourceError("the connection is gone", kind=Kind.TRANSIENT)))
        receipt = by_outbox(world)
    assert (
        "the outbox could not be emptied, so the next run reads its entries again: the connection is gone"
        in receipt.warnings
    )
    assert waiting(world) == 1
    world.execute("INSERT INTO t VALUES (7, 'back')")
    by_outbox(world)
    assert waiting(world) == 0


def test_killed_before_the_outbox_was_emptied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    synced(world)
    world.execute("UPDATE t SET v = 'once'")
    with monkeypatch.context() as patched:
        patched.setattr(Source, "acknowledge", _raising(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            world.sync(T)
    world.execute("DELETE FROM t WHERE id < 5")
    by_outbox(world)
    assert waiting(world) == 0


def _raising(error: BaseException) -> Callable[..., object]:
    def acknowledge(*_: object) -> None:
        raise error

    return acknowledge


def test_key_that_becomes_a_bigint_stops_no_writer(world: World) -> None:
    synced(world)
    world.execute(
        "DELETE FROM t WHERE id = 7",
        "ALTER TABLE t ALTER COLUMN id TYPE bigint",
        f"INSERT INTO t VALUES ({2**40}, 'big')",
    )
    world.sync(T)
    world.assert_equal(T)
    world.execute(f"DELETE FROM t WHERE id = {2**40}")
    by_outbox(world)


def test_verification_and_reconcile_of_such_a_table(world: World) -> None:
    table = config("t", "outbox", deletes="soft")
    synced(world, table=table)
    world.execute("DELETE FROM t WHERE id = 7", "UPDATE t SET v = 'x' WHERE id = 8", "INSERT INTO t VALUES (99, 'n')")
    assert world.assert_verified(table) == 20
    world.execute("DELETE FROM t WHERE id = 9")
    world.sync(table, reconcile=True)
    assert world.query('SELECT "ID" FROM "PUBLIC"."T" WHERE "_DELETED" ORDER BY 1') == [(7,), (9,)]
    assert world.assert_verified(table) == 19


def test_table_that_is_moved_here_from_another_strategy(world: World) -> None:
    before = config("t", "xmin")
    world.execute(TABLE, ROWS)
    world.sync(before)
    world.execute("DELETE FROM t WHERE id = 7")
    world.make(T)
    by_scan(world, "the last run did not read the outbox")


REFUSED = {
    "no triggers": ((TABLE,), {}, "no trigger records which rows of public.t change"),
    "another key": ((TABLE.replace("text", "text UNIQUE NOT NULL"),), {"primary_key": "v"}, r"record \(id\)"),
    "switched off": ((TABLE, OFF), {}, "do not fire for every row"),
    "origin only": ((TABLE, "ALTER TABLE t ENABLE TRIGGER zzz_aurora_sync_row"), {}, "do not fire for every row"),
    "a view": (("CREATE TABLE x (id int PRIMARY KEY)", "CREATE VIEW t AS TABLE x"), {"primary_key": "id"}, "trigger"),
    "float": (("CREATE TABLE t (id float8 PRIMARY KEY)",), {}, "is not unique for each value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(world: World, case: str) -> None:
    (create, *more), keys, text = REFUSED[case]
    world.execute(create)
    if case in ("another key", "switched off", "origin only"):
        world.make(T)
    world.execute(*more)
    with pytest.raises(ConfigError, match=text):
        world.sync(config("t", "outbox", **keys))


def test_outbox_that_a_publication_publishes_is_emptied_all_the_same(world: World) -> None:
    """Debezium creates its publication FOR ALL TABLES; a DELETE then needs a replica identity."""
    synced(world)
    world.execute("CREATE PUBLICATION every FOR ALL TABLES", "UPDATE t SET v = 'published' WHERE id = 1")
    assert by_outbox(world).warnings == ()
    assert waiting(world) == 0


def test_partition_is_attached_by_an_owner_who_did_not_make_the_triggers(world: World) -> None:
    role = f"owner_{world.places.source.database}"
    synced(
        world,
        "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
        "CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (1) TO (100)",
        ROWS,
        f"CREATE ROLE {role}",
        f"GRANT CREATE, USAGE ON SCHEMA public TO {role}",
        f"ALTER TABLE t OWNER TO {role}",
        f"ALTER TABLE t_1 OWNER TO {role}",
    )
    world.execute(
        f"SET ROLE {role}",
        "CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (100) TO (200)",
        "CREATE TABLE t_3 (LIKE t INCLUDING ALL)",
        "ALTER TABLE t ATTACH PARTITION t_3 FOR VALUES FROM (200) TO (300)",
        "INSERT INTO t VALUES (150, 'second'), (250, 'third')",
    )
    world.sync(T)
    world.assert_equal(T)
    world.execute(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_key_whose_type_changes_under_a_session_stops_no_write_of_it(world: World) -> None:
    """The session has a plan of the trigger for the former type: PostgreSQL would fail until the session ends."""
    synced(world)
    with world.session() as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE t SET v = 'before' WHERE id = 1; COMMIT")
        world.execute("ALTER TABLE t ALTER COLUMN id TYPE bigint")
        world.sync(T)
        cursor.execute(f"UPDATE t SET v = 'after' WHERE id = 1; UPDATE t SET id = {2**40} WHERE id = 2")
        cursor.execute(f"DELETE FROM t WHERE id = 3; INSERT INTO t VALUES ({2**41}, 'new'); COMMIT")
    by_outbox(world)


def test_key_that_becomes_one_of_another_text_in_each_session_is_refused_until_its_function_is_made_anew(
    world: World,
) -> None:
    synced(
        world,
        "CREATE TABLE t (id text PRIMARY KEY, v text)",
        "INSERT INTO t SELECT '2026-01-01 00:00:' || n || '+00', 'v' FROM generate_series(10, 40) n",
    )
    world.execute("ALTER TABLE t ALTER COLUMN id TYPE timestamptz USING id::timestamptz")
    with pytest.raises(
        ConfigError, match="write a key in a form that depends on the session: `aurora-sync triggers plan`"
    ):
        world.sync(T)
    elsewhere = "SET TimeZone TO 'America/New_York'; UPDATE t SET v = 'w' WHERE id < '2026-01-01 00:00:20+00'"
    world.execute(elsewhere)
    world.make(T)
    world.sync(T)
    world.assert_equal(T)
    world.execute(elsewhere)
    assert by_outbox(world).deleted == 0


@pytest.mark.parametrize("write", ["UPDATE t SET id = 'A' WHERE id = 'a'", "DELETE FROM t WHERE id = 'a';{}"])
def test_key_that_is_equal_to_another_of_a_canary(world: World, write: str) -> None:
    need_extension(world.dsn, "citext")
    synced(
        world,
        "CREATE EXTENSION citext",
        "CREATE TABLE t (id citext PRIMARY KEY, v text)",
        "INSERT INTO t VALUES ('a', 'v'), ('b', 'v'), ('c', 'v')",
    )
    world.execute(write.format("INSERT INTO t VALUES ('A', 'v')"))
    by_outbox(world)


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE {} SET aurora_sync_emptied = '99999999:99999999:' WHERE aurora_sync_emptied IS NOT NULL",
        "INSERT INTO {} (aurora_sync_emptied) VALUES ('1:1:')",
        "DELETE FROM {}",
    ],
    ids=["of a server that was ahead", "two", "none"],
)
def test_memory_that_is_of_another_server_or_broken_is_mended_by_one_scan(world: World, broken: str) -> None:
    synced(world)
    world.execute(broken.format(OUTBOX), "UPDATE t SET v = 'x' WHERE id = 1")
    assert world.sync(T).method != "outbox"
    world.assert_equal(T)
    world.execute("UPDATE t SET v = 'y' WHERE id = 1")
    by_outbox(world)


def test_outbox_is_emptied_without_predicate_locks_where_they_are_the_default(world: World) -> None:
    """A SERIALIZABLE transaction that reads the whole outbox would make some transactions of the application fail."""
    synced(world)
    world.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation TO serializable',"
        " current_database()); END $$",
        "UPDATE t SET v = 'x' WHERE id = 1",
    )
    with world.session() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t")  # while this is open, the predicate locks of all others stay
        by_outbox(world)
        locks = "SELECT DISTINCT relation::regclass::text FROM pg_locks WHERE mode = 'SIReadLock'"
        assert world.execute(locks) == [("t",)]
    assert waiting(world) == 0


@pytest.fixture
def stranger(world: World) -> Iterator[str]:
    """Yield the DSN of a login without any right on the outbox."""
    role = f"stranger_{uuid.uuid4().hex[:8]}"
    world.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    yield make_dsn(world.dsn, user=role, password="x", application_name="psql")
    world.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_advisory_lock_of_a_stranger_holds_up_no_run(world: World, stranger: str) -> None:
    """Any login can take any advisory lock, and could guess the text that a lock of the product would use."""
    synced(world)
    world.execute("UPDATE t SET v = 'changed' WHERE id = 1")
    with closing(psycopg2.connect(stranger)) as held, held.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtext('aurora_sync'), hashtext('public.t'))")
        for mode in ("ACCESS SHARE", "SHARE UPDATE EXCLUSIVE"):
            held.commit()
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute(f"LOCK TABLE {OUTBOX} IN {mode} MODE")
            held.rollback()
        assert by_outbox(world).warnings == ()
        assert waiting(world) == 0


@pytest.mark.parametrize(
    ("lock", "named"),
    [
        (f"LOCK TABLE {OUTBOX} IN EXCLUSIVE MODE", "with EXCLUSIVE mode"),
        (f"SELECT FROM {OUTBOX} WHERE aurora_sync_emptied IS NOT NULL FOR UPDATE", "with a lock of the row"),
    ],
)
def test_session_that_holds_up_the_outbox_is_named(
    world: World, monkeypatch: pytest.MonkeyPatch, lock: str, named: str
) -> None:
    monkeypatch.setitem(connection._PINNED, "lock_timeout", "100ms")
    synced(world)
    world.execute("UPDATE t SET v = 'changed' WHERE id = 1")
    with world.open_transaction("SET application_name TO 'a person'", lock) as held:
        (warning,) = by_outbox(world).warnings
        assert "outbox aurora_sync.public.t: canceling statement due to lock timeout" in warning
        assert f"session {held.info.backend_pid} of {held.info.user} (a person), {named}, held the lock" in warning
    by_outbox(world)
    assert waiting(world) == 0


def acknowledged(world: World, of: Outbox, snapshot: str) -> int:
    with connection.connect(world.dsn) as reader:
        return outbox.acknowledge(reader, of, snapshot)


def test_two_runs_that_empty_it_at_once_remember_the_later_snapshot(world: World) -> None:
    synced(world)
    source = world.places.source
    table = source.catalogue([("public", "t")])["public.t"]
    assert table.outbox
    remembered = f"SELECT aurora_sync_emptied::text FROM {OUTBOX} WHERE aurora_sync_emptied IS NOT NULL"
    with world.open_transaction() as first, first.cursor() as cursor:
        cursor.execute(
            f"UPDATE {OUTBOX} SET aurora_sync_emptied = pg_current_snapshot()"
            " WHERE aurora_sync_emptied IS NOT NULL RETURNING aurora_sync_emptied::text"
        )
        ((later,),) = cursor.fetchall()
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(acknowledged, world, table.outbox, "1:1:")
            while not world.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"):
                assert not second.done()
            first.commit()
            second.result()
    assert world.execute(remembered) == [(later,)]


FORGED = {
    "no number": "'seven', pg_current_xact_id()",
    "another text of a number": "'07', pg_current_xact_id()",
    "too great": f"'{2**40}', pg_current_xact_id()",
    "no transaction": "'7', NULL",
    "a transaction to come": "'7', '9000000000000000'",
}


@pytest.mark.parametrize("kind", FORGED)
def test_entry_that_no_trigger_wrote_leads_to_a_scan_and_is_taken_out(world: World, stranger: str, kind: str) -> None:
    """Somebody has the INSERT privilege on the outbox."""
    synced(world)
    role = psycopg2.extensions.parse_dsn(stranger)["user"]
    world.execute(f"GRANT USAGE ON SCHEMA aurora_sync TO {role}", f"GRANT INSERT ON {OUTBOX} TO {role}")
    with closing(psycopg2.connect(stranger)) as forger, forger, forger.cursor() as cursor:
        cursor.execute(f"INSERT INTO {OUTBOX} (id, aurora_sync_xid) VALUES ({FORGED[kind]})")
    world.execute("DELETE FROM t WHERE id = 3", "INSERT INTO t VALUES (30, 'new')")
    receipt = world.sync(T)
    why = "an entry of the outbox was not written by the triggers: revoke INSERT on aurora_sync.public.t"
    assert why in " ".join(receipt.warnings)
    world.assert_equal(T)
    assert waiting(world) == 0
    if "transaction" in kind:  # its removal is noted, because no snapshot had seen it
        world.sync(T)
    assert not by_outbox(world).changed


def test_half_a_key_leads_to_a_scan(world: World) -> None:
    synced(world, "CREATE TABLE t (id int, b text, v text, PRIMARY KEY (id, b))", "INSERT INTO t VALUES (1, 'b', 'v')")
    world.execute(f"INSERT INTO {OUTBOX} (id, aurora_sync_xid) VALUES ('1', pg_current_xact_id())")
    by_scan(world, "an entry of the outbox was not written by the triggers")
