"""``aurora-sync triggers``: installed and removed while others write, and killed anywhere; afterwards the table is as
before."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import pytest
from psycopg2.extensions import connection as Connection

from aurora_sync.cli.main import main
from aurora_sync.embedded import postgres
from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.model.relation import SourceTable
from aurora_sync.provisioning.triggers.backfill import backfill
from aurora_sync.provisioning.triggers.fired import Trial, trials
from aurora_sync.provisioning.triggers.installed import TriggerKind
from aurora_sync.provisioning.triggers.plan import missing_steps, removal_steps
from aurora_sync.provisioning.triggers.steps import TriggerStep, lock_holders, run_steps
from aurora_sync.source import catalogue
from aurora_sync.source.connection import connect
from aurora_sync_tests.scenarios.world import World, config

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
ROWS = "INSERT INTO t SELECT n, 'v' || n FROM generate_series(1, 1000) n"
PARTITIONED = [
    "CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id)",
    "CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (500)",
    "CREATE TABLE t2 PARTITION OF t FOR VALUES FROM (500) TO (2000)",
    ROWS,
]
# The clients of the wheel: they work with older servers, and some packages of these have no clients.
CLIENTS = postgres._wheel_programs()
BOTH = pytest.mark.parametrize("kind", list(TriggerKind))
BY_TIME = config("t", "timestamp", watermark_col="updated_at")


@contextmanager
def described(world: World, name: str = "t") -> Iterator[tuple[Connection, SourceTable]]:
    with connect(world.dsn) as connection:
        yield connection, catalogue.load(connection, [("public", name)])[f"public.{name}"]


def planned(world: World, kind: TriggerKind, name: str = "t") -> list[TriggerStep]:
    with described(world, name) as (connection, table):
        return missing_steps(connection, table, kind, reader="")


def removal(world: World, name: str = "t") -> list[TriggerStep]:
    with described(world, name) as (connection, table):
        return removal_steps(connection, table)


def run(world: World, steps: list[TriggerStep]) -> None:
    with connect(world.dsn) as connection:
        list(run_steps(connection, steps))


def tried(world: World, kind: TriggerKind) -> list[Trial]:
    with described(world) as (connection, table):
        return trials(connection, table, kind)


def not_fired(world: World, kind: TriggerKind) -> set[str]:
    return {f"{trial.what}, {trial.by}" for trial in tried(world, kind) if trial.fired is False}


def schema_of(world: World) -> str:
    dump = [str(CLIENTS / "pg_dump"), "--schema-only", world.dsn]
    text = subprocess.run(dump, check=True, capture_output=True, text=True).stdout
    # psql writes a token against SQL injection, another one in every dump.
    return "\n".join(line for line in text.splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


@BOTH
def test_made_and_removed_under_pgbench(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: TriggerKind
) -> None:
    """No transaction of the application fails, and afterwards the schema is identical byte for byte."""
    tables = ["pgbench_accounts", "pgbench_tellers", "pgbench_branches"]
    monkeypatch.setenv("AURORA_DSN", world.dsn)
    pgbench = [str(CLIENTS / "pgbench"), "--no-vacuum"]
    subprocess.run([*pgbench, "-i", "-q", "-s", "1", world.dsn], check=True, capture_output=True)
    before = schema_of(world)
    writing = [*pgbench, "-c", "4", "-T", "4", "--rate", "500", "--random-seed=1", world.dsn]
    rounds = 0
    waiting = ["--lock-timeout", "500ms", "--attempts", "1000"]
    while rounds < 2:  # a second round, if one takes as long as pgbench writes
        with subprocess.Popen(writing, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pgbench_run:
            while pgbench_run.poll() is None:
                assert main(["triggers", "apply", *tables, "--kind", kind, "--busy", "1", *waiting]) == 0
                assert main(["triggers", "plan", *tables, "--kind", kind]) == 0
                assert main(["triggers", "verify", *tables]) == 0
                assert main(["triggers", "remove", *tables, *waiting]) == 0
                rounds += 1
            assert pgbench_run.stdout is not None
            output = pgbench_run.stdout.read()
        assert pgbench_run.returncode == 0, output
        assert "number of failed transactions: 0 (0.000%)" in output
    waits = re.findall(r"longer than ([0-9,]+) ms", capsys.readouterr().out)
    print(f"{rounds} rounds; nobody waited longer than {max(int(wait.replace(',', '')) for wait in waits)} ms")
    assert schema_of(world) == before


@BOTH
@pytest.mark.parametrize("statements", [[TABLE, ROWS], PARTITIONED], ids=["plain", "partitioned"])
def test_killed_between_any_two_steps_it_goes_on(world: World, kind: TriggerKind, statements: list[str]) -> None:
    world.execute(*statements)
    before, steps = schema_of(world), planned(world, kind)
    for done in range(len(steps) + 1):
        run(world, steps[:done])
        assert len(planned(world, kind)) == len(steps) - done
        run(world, planned(world, kind))
        assert not planned(world, kind)
        assert {trial.fired for trial in tried(world, kind)} == {True}
        gone = removal(world)
        run(world, gone[:done])
        run(world, removal(world))
        assert not removal(world)
        assert schema_of(world) == before
    assert world.execute("SELECT count(*) FROM t") == [(1000,)]


@BOTH
def test_renamed_table_keeps_its_own(world: World, kind: TriggerKind) -> None:
    """Another table that now has the name gets its own triggers."""
    renamed = ["ALTER TABLE t RENAME TO was", TABLE, ROWS]
    world.execute(TABLE, ROWS, *renamed)
    before = schema_of(world)
    world.execute("DROP TABLE t", "ALTER TABLE was RENAME TO t")
    run(world, planned(world, kind))
    world.execute(*renamed)
    assert planned(world, kind, "was") == []
    run(world, planned(world, kind))
    assert (planned(world, kind), not_fired(world, kind)) == ([], set())
    world.execute("UPDATE was SET v = 'w' WHERE id = 1", "UPDATE t SET v = 'w' WHERE id IN (2, 3)")
    if kind is TriggerKind.outbox:
        outboxes = [
            row
            for (row,) in world.execute(
                "SELECT relname FROM pg_class WHERE relkind = 'r' AND"
                " relnamespace = 'aurora_sync'::regnamespace ORDER BY 1"
            )
        ]
        counts = [world.execute(f'SELECT count(id) FROM aurora_sync."{outbox}"')[0][0] for outbox in outboxes]
        assert counts == [1, 2]
    run(world, removal(world, "was"))
    assert not_fired(world, kind) == set()
    run(world, removal(world))
    assert schema_of(world) == before


def test_lock_that_is_not_to_be_had_holds_nobody_up(world: World) -> None:
    world.execute(TABLE, ROWS)
    waits: list[int] = []
    with world.open_transaction("UPDATE t SET v = 'open' WHERE id = 1") as writer:

        def others_write(step: TriggerStep, attempt: int) -> None:
            world.execute("SET lock_timeout TO '1ms'", "UPDATE t SET v = 'meanwhile' WHERE id = 2")
            waits.append(attempt)
            if len(waits) == 5:
                writer.commit()

        with described(world) as (connection, table):
            steps = missing_steps(connection, table, TriggerKind.outbox, reader="")
            with pytest.raises(SourceError, match="the lock was not granted in 3 attempts of 400ms") as error:
                list(run_steps(connection, steps, lock_timeout="400ms", attempts=3, on_wait=others_write))
            assert error.value.kind is Kind.TRANSIENT
            assert len(list(lock_holders(connection, table))) == 1
            (left,) = missing_steps(connection, table, TriggerKind.outbox, reader="")
            (done,) = run_steps(connection, [left], lock_timeout="400ms", on_wait=others_write)
    assert waits == [1, 2, 1, 2, 3]
    assert done.attempts == 4
    assert not not_fired(world, TriggerKind.outbox)


def test_many_locks_are_waited_for_no_longer_than_one(world: World) -> None:
    """lock_timeout restarts with each lock, while writers of the table wait for all of them."""
    world.execute(*PARTITIONED)
    with (
        world.open_transaction("UPDATE t1 SET v = 'open' WHERE id = 1") as first,
        world.open_transaction("UPDATE t2 SET v = 'open' WHERE id = 501") as second,
        described(world) as (connection, table),
    ):
        steps = missing_steps(connection, table, TriggerKind.outbox, reader="")
        ended = threading.Event()

        def give_way() -> None:
            """End each transaction after it was waited for longer than half the limit, but less than all of it."""
            for name, writer in (("t1", first), ("t2", second)):
                waits = f"SELECT FROM pg_locks WHERE relation = '{name}'::regclass AND NOT granted"
                while not ended.is_set() and not world.execute(waits):
                    time.sleep(0.01)
                ended.wait(0.7)
                writer.commit()

        others = threading.Thread(target=give_way)
        others.start()
        try:
            with pytest.raises(SourceError, match="the lock was not granted in 1 attempts of 1s"):
                list(run_steps(connection, steps, lock_timeout="1s", attempts=1))
        finally:
            ended.set()
            others.join()


def test_backfill_ends_where_a_trigger_keeps_rows_as_they_are(world: World) -> None:
    world.execute(
        TABLE,
        ROWS,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN IF OLD.id < 4 THEN RETURN NULL; END IF; RETURN NEW; END$$",
        "CREATE TRIGGER keep BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    run(world, planned(world, TriggerKind.audit_columns))
    with (
        described(world) as (connection, table),
        pytest.raises(SourceError, match=r"3 rows of public\.t stay without updated_at: a BEFORE UPDATE trigger"),
    ):
        list(backfill(connection, table, busy=1))
    assert world.execute("SELECT count(*) FROM t WHERE updated_at IS NULL") == [(3,)]


def test_backfill_that_was_interrupted_goes_on_and_waits_for_nobody(world: World) -> None:
    world.execute(*PARTITIONED)
    run(world, planned(world, TriggerKind.audit_columns))
    without = "SELECT count(*) FROM t WHERE updated_at IS NULL"
    with described(world) as (connection, table):
        assert [p.rows > 0 for p in islice(backfill(connection, table, batch_rows=100, busy=1), 1)] == [True]
    filled = dict(world.execute("SELECT id, updated_at FROM t WHERE updated_at IS NOT NULL"))
    assert 0 < len(filled) < 1000
    locked = "SELECT FROM t WHERE id IN (498, 499) FOR UPDATE"
    with world.open_transaction(locked) as other, described(world) as (connection, table):
        for _ in backfill(connection, table, batch_rows=100, busy=1):
            if world.execute(f"{without} AND id < 500") == [(2,)]:  # all rows but those
                other.rollback()
    assert world.execute(without) == [(0,)]
    now = dict(world.execute("SELECT id, updated_at FROM t"))
    assert filled.items() <= now.items()
    with described(world) as (connection, table):
        assert not sum(progress.rows for progress in backfill(connection, table, busy=1))


def test_verification_finds_what_would_not_fire_and_leaves_nothing(world: World) -> None:
    world.execute(*PARTITIONED)
    for kind in TriggerKind:
        run(world, planned(world, kind))
    content = 'SELECT (SELECT json_agg(t ORDER BY id)::text FROM t), (SELECT count(*) FROM aurora_sync."public.t")'
    before = world.execute(content)
    every = {f"{what} of public.{leaf}" for what in ("UPDATE", "INSERT", "COPY") for leaf in ("t1", "t2")}
    by = ("the application", "replication")
    found = {kind: {f"{t.what}, {t.by}": t.fired for t in tried(world, kind)} for kind in TriggerKind}
    assert found[TriggerKind.audit_columns] == {f"{what}, {who}": True for what in every for who in by}
    deletes = {f"DELETE of public.{leaf}" for leaf in ("t1", "t2")} | {"TRUNCATE of public.t"}
    assert found[TriggerKind.outbox] == {f"{what}, {who}": True for what in every | deletes for who in by}
    assert world.execute(content) == before

    world.execute("ALTER TABLE t2 DISABLE TRIGGER zzz_aurora_sync_row")
    unseen = {f"{what} of public.t2, {who}" for what in ("UPDATE", "DELETE", "INSERT", "COPY") for who in by}
    assert not_fired(world, TriggerKind.outbox) == unseen
    world.execute("ALTER TABLE t2 ENABLE TRIGGER zzz_aurora_sync_row")
    assert not_fired(world, TriggerKind.outbox) == {what for what in unseen if what.endswith("replication")}
    world.execute("ALTER TABLE t DISABLE TRIGGER zzz_aurora_sync_truncate")
    assert {what for what in not_fired(world, TriggerKind.outbox) if "TRUNCATE" in what} == {
        f"TRUNCATE of public.t, {who}" for who in by
    }
    world.execute(
        "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN NEW.updated_at := OLD.updated_at; RETURN NEW; END$$",
        "CREATE TRIGGER zzzz BEFORE UPDATE ON t1 FOR EACH ROW EXECUTE FUNCTION undo()",
        "UPDATE t1 SET v = v",
    )
    assert not_fired(world, TriggerKind.audit_columns) == {"UPDATE of public.t1, the application"}
    world.execute("DELETE FROM t1")
    (empty,) = {trial for trial in tried(world, TriggerKind.audit_columns) if trial.fired is None and trial.by == by[0]}
    assert empty.why == "the table has no unlocked row for a trial; in the catalogue, the trigger is ENABLE ALWAYS"


def test_verification_of_triggers_that_are_off_or_gone(world: World) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz)", "INSERT INTO t VALUES (1), (2)")
    for kind in TriggerKind:
        run(world, planned(world, kind))
    world.execute(
        "ALTER TABLE t DISABLE TRIGGER zzz_aurora_sync",
        "INSERT INTO t (id, updated_at) VALUES (3, '2099-01-01')",
        "DROP TRIGGER zzz_aurora_sync_row ON t",
    )
    assert len(not_fired(world, TriggerKind.audit_columns)) == 6
    assert [trial.fired for trial in tried(world, TriggerKind.outbox)] == [False, False]


def test_rows_that_others_hold_are_not_waited_for(world: World) -> None:
    world.execute(TABLE, ROWS)
    run(world, planned(world, TriggerKind.outbox))
    with world.open_transaction("UPDATE t SET v = 'held'"):
        found = tried(world, TriggerKind.outbox)
    assert {trial.fired for trial in found} == {None}


NAIVE = (
    "ALTER TABLE t ADD updated_at timestamptz DEFAULT CURRENT_TIMESTAMP",
    "CREATE FUNCTION update_updated_at_column() RETURNS trigger LANGUAGE plpgsql AS"
    " $$BEGIN NEW.updated_at = CURRENT_TIMESTAMP; RETURN NEW; END$$",
    "CREATE TRIGGER update_t_updated_at BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION update_updated_at_column()",
)


@pytest.mark.parametrize(
    "write",
    [
        "INSERT INTO t (id, v, updated_at) VALUES (2000, 'imported', '2001-01-01')",
        "BEGIN; SET LOCAL session_replication_role TO replica; UPDATE t SET v = 'replicated' WHERE id = 1; COMMIT",
    ],
    ids=["insert with an old time", "replicated update"],
)
def test_write_that_the_usual_trigger_does_not_stamp_comes_with_ours(world: World, write: str) -> None:
    world.execute(TABLE, ROWS, *NAIVE)
    ((watermark,),) = world.execute("SELECT max(updated_at) FROM t")
    world.execute(write)
    with world.session() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM t WHERE updated_at > %s", (watermark,))
        assert cursor.fetchall() == [(0,)]  # the usual SQL loses the row

    world.execute("DROP TABLE t", TABLE, ROWS)
    world.make(BY_TIME, TriggerKind.audit_columns)
    world.sync(BY_TIME)
    world.execute(write)
    receipt = world.sync(BY_TIME)
    assert (receipt.method, receipt.warnings, receipt.inserted + receipt.updated) == ("clock fence", (), 1)
    world.assert_equal(BY_TIME)


def test_audit_columns_of_a_table_that_has_one_already(world: World) -> None:
    """An existing column is not removed, because aurora_sync did not create it."""
    world.execute("CREATE TABLE t (id int PRIMARY KEY, updated_at timestamptz)", "INSERT INTO t VALUES (1), (2)")
    before = schema_of(world)
    world.make(BY_TIME, TriggerKind.audit_columns)
    assert world.execute("SELECT count(*) FROM t WHERE updated_at IS NULL") == [(0,)]
    run(world, removal(world))
    assert schema_of(world) == before


def test_column_that_something_depends_on_is_not_removed_by_halves(world: World) -> None:
    world.execute(TABLE, ROWS)
    world.make(BY_TIME, TriggerKind.audit_columns)
    world.execute("CREATE VIEW recent AS SELECT * FROM t WHERE updated_at > now() - interval '1 day'")
    before = schema_of(world)
    with pytest.raises(
        SourceError,
        match=r"view public\.recent depends on column updated_at .*\(drop the objects that depend on it, and run",
    ):
        run(world, removal(world))
    assert schema_of(world) == before
    world.execute("DROP VIEW recent")
    run(world, removal(world))
    assert not removal(world)


@pytest.mark.parametrize("change", ["RENAME updated_at TO modified_at", "DROP created_at"])
def test_columns_that_are_not_there_any_more_do_not_keep_the_rest(world: World, change: str) -> None:
    world.execute(TABLE, ROWS)
    run(world, planned(world, TriggerKind.audit_columns))
    world.execute(f"ALTER TABLE t {change}")
    run(world, removal(world))
    world.execute("INSERT INTO t (id) VALUES (2000)")
    assert not removal(world)


def test_schema_that_a_stranger_made_is_not_used(world: World) -> None:
    """The owner of the schema could put a trigger on the outbox, which would run with the rights of the outbox's
    owner."""
    role = f"stranger_{world.places.source.database}"
    world.execute(TABLE, f"CREATE ROLE {role}", f"CREATE SCHEMA aurora_sync AUTHORIZATION {role}")
    try:
        with pytest.raises(
            ConfigError, match=f"belongs to {role}, which could use the trigger to run any code as postgres"
        ):
            planned(world, TriggerKind.outbox)
    finally:
        world.execute(f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    ("statement", "kind", "because"),
    [
        (
            "CREATE TABLE t (v text)",
            TriggerKind.outbox,
            "no primary key, and no unique index on columns that are NOT NULL",
        ),
        ("CREATE VIEW t AS SELECT 1 AS id", TriggerKind.outbox, "only a table without foreign partitions can"),
        ("CREATE VIEW t AS SELECT 1 AS id", TriggerKind.audit_columns, "only a table can have the row triggers"),
        ("CREATE TABLE t (); CREATE TABLE c () INHERITS (t)", TriggerKind.audit_columns, "its children by INHERITS"),
        ("CREATE TABLE t (id float8 PRIMARY KEY)", TriggerKind.outbox, "is not unique for each value"),
        (
            "CREATE TABLE t (updated_at date)",
            TriggerKind.audit_columns,
            "found column updated_at of type date; expected timestamptz",
        ),
    ],
)
def test_table_that_cannot_have_them(world: World, statement: str, kind: TriggerKind, because: str) -> None:
    world.execute(statement)
    with pytest.raises(ConfigError, match=because):
        planned(world, kind)


def test_key_that_changed_since(world: World) -> None:
    world.execute("CREATE TABLE t (id int PRIMARY KEY, other int UNIQUE NOT NULL)")
    run(world, planned(world, TriggerKind.outbox))
    world.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (other)")
    with pytest.raises(ConfigError, match=r"its outbox has the key \(id\), but the table has the key \(other\)"):
        planned(world, TriggerKind.outbox)
