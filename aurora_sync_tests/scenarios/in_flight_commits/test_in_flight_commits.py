"""One transaction is open during two runs: the usual cursor loses its rows, the strategies do not."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from aurora_sync.config.tables import TableConfig
from aurora_sync.source.database import Source
from aurora_sync.strategies import clock
from aurora_sync_tests.scenarios.random_writers.replicas import Naive, Replica, naive_replicas

TABLE = """
CREATE SEQUENCE ids CACHE {cache};
CREATE TABLE t (id bigint {id} PRIMARY KEY, v text, updated_at timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := {clock}; RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
INSERT INTO t (v) VALUES ('first');
"""
IDENTITY = "GENERATED ALWAYS AS IDENTITY"
OURS: dict[str, dict[str, Any]] = {
    "xmin": {"watermark_type": "xmin"},
    "integer": {"watermark_type": "integer", "watermark_col": "id"},
    "timestamp": {"watermark_type": "timestamp", "watermark_col": "updated_at"},
    "composite": {"watermark_type": "composite", "watermark_cols": ["updated_at", "id"]},
}


class Sessions:
    """Autocommit writers and any number of other sessions, closed at the end."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._opened: list[Connection] = []
        self._writer = self.open()
        self._writer.autocommit = True

    def open(self) -> Connection:
        self._opened.append(psycopg2.connect(self.dsn))
        return self._opened[-1]

    def execute(self, statement: str, connection: Connection | None = None) -> None:
        with (connection or self._writer).cursor() as cursor:
            cursor.execute(statement)

    def close(self) -> None:
        for connection in self._opened:
            connection.close()


@pytest.fixture
def sessions(dsn: str) -> Iterator[Sessions]:
    with closing(Sessions(dsn)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _no_margin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the margin of one minute from the clock fence, which would cover a whole test."""
    monkeypatch.setattr(clock, "MARGIN", timedelta(0))


def make(
    sessions: Sessions, strategy: str, *, ids: str = IDENTITY, cache: int = 1, now: str = "clock_timestamp()"
) -> tuple[Replica, Naive]:
    sessions.execute(TABLE.format(id=ids, cache=cache, clock=now))
    config = TableConfig.model_validate({"table_name": "t", **OURS[strategy]})
    return Replica(config, Source(sessions.dsn)), naive_replicas(sessions.dsn)[strategy]


def synced(*replicas: Replica | Naive) -> None:
    for replica in replicas:
        replica.sync()


def values(replica: Replica | Naive) -> set[str]:
    return set(replica.rows.values())


@pytest.mark.parametrize("now", ["now()", "clock_timestamp()", "statement_timestamp()"])
@pytest.mark.parametrize("strategy", ["xmin", "integer", "timestamp", "composite"])
def test_row_committed_after_a_later_one_was_read_is_exported(sessions: Sessions, strategy: str, now: str) -> None:
    ours, naive = make(sessions, strategy, now=now)
    late = sessions.open()
    sessions.execute("INSERT INTO t (v) VALUES ('late')", late)
    sessions.execute("INSERT INTO t (v) VALUES ('early')")
    synced(ours, naive)
    late.commit()
    synced(ours, naive)
    assert values(ours) == {"first", "early", "late"}
    assert values(naive) == {"first", "early"}


@pytest.mark.parametrize("strategy", ["xmin", "timestamp", "composite"])
def test_update_committed_after_a_later_one_was_read_is_exported(sessions: Sessions, strategy: str) -> None:
    ours, naive = make(sessions, strategy)
    late = sessions.open()
    sessions.execute("UPDATE t SET v = 'changed' WHERE v = 'first'", late)
    sessions.execute("INSERT INTO t (v) VALUES ('early')")
    synced(ours, naive)
    late.commit()
    synced(ours, naive)
    assert values(ours) == {"changed", "early"}
    assert values(naive) == {"first", "early"}


@pytest.mark.parametrize("strategy", ["xmin", "integer", "timestamp", "composite"])
def test_row_committed_late_by_a_savepoint_is_exported(sessions: Sessions, strategy: str) -> None:
    """The subtransaction's id is above that of a transaction that ends before the first run."""
    ours, naive = make(sessions, strategy)
    late = sessions.open()
    sessions.execute("SELECT txid_current()", late)
    sessions.execute("INSERT INTO t (v) VALUES ('early')")
    sessions.execute("SAVEPOINT s", late)
    sessions.execute("INSERT INTO t (v) VALUES ('late')", late)
    sessions.execute("RELEASE SAVEPOINT s", late)
    sessions.execute("INSERT INTO t (v) VALUES ('later')")
    synced(ours, naive)
    late.commit()
    synced(ours, naive)
    assert values(ours) == {"first", "early", "late", "later"}
    assert "late" not in values(naive)


def test_savepoint_rows_are_why_the_list_of_running_transactions_does_not_do(sessions: Sessions) -> None:
    """``NOT pg_visible_in_snapshot(xmin, last)`` looks exact, but it knows top-level transactions only."""
    make(sessions, "xmin")
    late = sessions.open()
    sessions.execute("SELECT txid_current()", late)
    sessions.execute("SAVEPOINT s", late)
    sessions.execute("INSERT INTO t (v) VALUES ('late')", late)
    sessions.execute("INSERT INTO t (v) VALUES ('early')")
    reader = sessions.open()
    with reader.cursor() as cursor:
        cursor.execute("SELECT pg_current_snapshot()::text")
        ((last,),) = cursor.fetchall()
        reader.commit()
        late.commit()
        cursor.execute(
            "SELECT v FROM t WHERE NOT pg_visible_in_snapshot(xmin::text::xid8, %s::pg_snapshot)",
            (last,),
        )
        assert ("late",) not in cursor.fetchall()


def test_watermark_taken_after_the_rows_loses_what_was_committed_in_between(sessions: Sessions) -> None:
    ours, _ = make(sessions, "xmin")
    with sessions.open().cursor() as reader:
        reader.execute("SELECT v FROM t")
        sessions.execute("INSERT INTO t (v) VALUES ('between')")
        reader.execute("SELECT txid_current()")
        ((watermark,),) = reader.fetchall()
        reader.connection.commit()
        reader.execute("SELECT v FROM t WHERE xmin::text::bigint > %s", (watermark,))
        assert reader.fetchall() == []
    source = Source(sessions.dsn)
    with source.reading("public", "t") as reading:
        at = reading.observe(None, max_minutes=1)
        sessions.execute("INSERT INTO t (v) VALUES ('after the snapshot')")
        assert reading.count(None) == 2
    assert at.snapshot.xmin <= at.snapshot.xmax
    synced(ours)
    sessions.execute("INSERT INTO t (v) VALUES ('next')")
    synced(ours)
    assert values(ours) == {"first", "between", "after the snapshot", "next"}


def test_numbers_that_an_idle_session_holds_back_are_exported(sessions: Sessions) -> None:
    """With CACHE 20, two sessions commit at once, without any long transaction."""
    ours, naive = make(sessions, "integer", ids="DEFAULT nextval('ids')", cache=20)
    one, other = sessions.open(), sessions.open()
    one.autocommit = other.autocommit = True
    sessions.execute("INSERT INTO t (v) VALUES ('from one block')", one)
    sessions.execute("INSERT INTO t (v) VALUES ('from the next')", other)
    synced(ours, naive)
    sessions.execute("INSERT INTO t (v) VALUES ('late')", one)
    synced(ours, naive)
    assert "late" in values(ours)
    assert "late" not in values(naive)
    assert set(ours.methods) == {"whole table", "horizon scan"}


@pytest.mark.parametrize("strategy", ["xmin", "integer", "timestamp", "composite"])
def test_row_of_a_transaction_that_was_prepared_between_two_runs_is_exported(sessions: Sessions, strategy: str) -> None:
    ours, naive = make(sessions, strategy)
    late = sessions.open()
    sessions.execute("INSERT INTO t (v) VALUES ('late')", late)
    sessions.execute("INSERT INTO t (v) VALUES ('early')")
    synced(ours, naive)
    sessions.execute("PREPARE TRANSACTION 'prepared'", late)
    sessions.execute("INSERT INTO t (v) VALUES ('while prepared')")
    synced(ours, naive)
    synced(ours, naive)
    sessions.execute("COMMIT PREPARED 'prepared'")
    synced(ours, naive)
    synced(ours)
    assert values(ours) == {"first", "early", "while prepared", "late"}
    assert "late" not in values(naive)


def test_lock_fence_is_used_again_when_the_open_transaction_has_ended(sessions: Sessions) -> None:
    ours, _ = make(sessions, "integer")
    late = sessions.open()
    sessions.execute("INSERT INTO t (v) VALUES ('late')", late)
    synced(ours, ours)
    assert set(ours.methods) == {"whole table", "horizon scan"}
    late.commit()
    synced(ours, ours)
    assert ours.methods["lock fence"] == 1


@pytest.mark.parametrize("strategy", ["timestamp", "composite"])
@pytest.mark.parametrize("now", ["now()", "statement_timestamp()"])
def test_rows_of_a_procedure_that_commits_while_it_runs_are_exported(
    sessions: Sessions, strategy: str, now: str
) -> None:
    """statement_timestamp() is the time when the procedure was called, which is before the transaction began."""
    ours, _ = make(sessions, strategy, now=now)
    sessions.execute("""
        CREATE PROCEDURE load() LANGUAGE plpgsql AS $$ BEGIN
            INSERT INTO t (v) VALUES ('before'); COMMIT;
            PERFORM pg_advisory_lock(1); PERFORM pg_advisory_unlock(1);
            INSERT INTO t (v) VALUES ('after'); COMMIT;
        END $$""")
    gate, caller = sessions.open(), sessions.open()
    gate.autocommit = caller.autocommit = True
    sessions.execute("SELECT pg_advisory_lock(1)", gate)
    running = threading.Thread(target=sessions.execute, args=("CALL load()", caller))
    running.start()
    while not _waits_for_the_gate(gate):
        time.sleep(0.01)
    synced(ours, ours)
    sessions.execute("SELECT pg_advisory_unlock(1)", gate)
    running.join()
    synced(ours)
    assert values(ours) == {"first", "before", "after"}
    assert ours.methods["clock fence"] == 2


def _waits_for_the_gate(gate: Connection) -> bool:
    with gate.cursor() as cursor:
        cursor.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
        return cursor.rowcount == 1


def test_transaction_that_hid_its_start_for_a_moment_is_not_passed_by(sessions: Sessions) -> None:
    """A session that may switch track_activities off and on again has no xact_start until its transaction ends."""
    ours, naive = make(sessions, "timestamp", now="now()")
    ours.sync()
    late = sessions.open()
    sessions.execute("SELECT txid_current()", late)
    sessions.execute("SET LOCAL track_activities TO off", late)
    sessions.execute("SET LOCAL track_activities TO on", late)
    sessions.execute("SELECT 1", late)
    sessions.execute("INSERT INTO t (v) VALUES ('early')")
    synced(ours, naive)
    sessions.execute("INSERT INTO t (v) VALUES ('late')", late)
    late.commit()
    synced(ours, naive)
    synced(ours, naive)
    assert values(ours) == {"first", "early", "late"}
    assert "late" not in values(naive)
