"""Writers that commit out of order: random transactions with savepoints, rollbacks, pauses and PREPARE."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

TABLE = """
CREATE SEQUENCE ids CACHE {cache};
CREATE TABLE t (id bigint {id} PRIMARY KEY, v text NOT NULL, updated_at timestamptz NOT NULL);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION touch();
CREATE INDEX ON t (updated_at, id);
CREATE TABLE history (writer int, n int, at timestamptz DEFAULT now());
"""


@dataclass
class Writers:
    """``threads`` writers on the tables of TABLE. ``ids`` is ``identity`` or ``application``, where the writer calls
    nextval itself, long before it inserts. :meth:`stop` joins them and raises an error of any of them; :meth:`start`
    resumes them.

    Each statement on ``t`` adds its (writer, n) to ``history`` in the same transaction, and to ``journal`` after the
    server has acknowledged the commit.
    """

    dsn: str
    seed: int
    threads: int = 8
    ids: str = "identity"
    transactions: int = 0
    journal: set[tuple[int, int]] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _failures: list[BaseException] = field(default_factory=list)
    _journal_lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        numbers = range(self.threads)
        self._each = [(n, random.Random(f"{self.seed}/{n}"), itertools.count(1)) for n in numbers]

    def start(self) -> None:
        self._stop.clear()
        self._threads = [threading.Thread(target=self._guarded, args=each) for each in self._each]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _guarded(self, number: int, dice: random.Random, counter: Iterator[int]) -> None:
        try:
            self._write(number, dice, counter)
        except BaseException as error:  # noqa: BLE001 - stop() raises it again
            self._failures.append(error)

    def _write(self, number: int, dice: random.Random, counter: Iterator[int]) -> None:
        """Run one writer until it is stopped. ``counter`` numbers its statements."""
        with closing(psycopg2.connect(self.dsn)) as connection:
            while not self._stop.is_set():
                self._transaction(connection, dice, number, counter)

    def _transaction(self, connection: Connection, dice: random.Random, number: int, counter: Iterator[int]) -> None:
        written = []
        with connection.cursor() as cursor:
            for _ in range(dice.randint(1, 4)):
                if dice.random() < 0.4:
                    cursor.execute("SAVEPOINT s")
                written.append(self._statement(cursor, dice, number, next(counter)))
                if dice.random() < 0.15:
                    cursor.execute("SAVEPOINT x")
                    self._statement(cursor, dice, number, next(counter))
                    cursor.execute("ROLLBACK TO SAVEPOINT x")
                time.sleep(dice.choice([0, 0, 0.002, 0.02, 0.2 * dice.random()]))
            if dice.random() < 0.05:
                time.sleep(dice.random())
            if dice.random() < 0.15:
                connection.rollback()
                return
            if dice.random() < 0.05:
                gid = f"{self.prefix(number)}{next(counter)}"
                cursor.execute("PREPARE TRANSACTION %s", (gid,))
                connection.commit()
                time.sleep(dice.random() * 0.3)
                connection.autocommit = True
                cursor.execute("COMMIT PREPARED %s", (gid,))
                connection.autocommit = False
            else:
                connection.commit()
        with self._journal_lock:
            self.transactions += 1
            self.journal.update(written)

    def prefix(self, number: int) -> str:
        """The prefix of the names of this writer's prepared transactions."""
        return f"{self.seed}-{number}-"

    def _statement(self, cursor: Cursor, dice: random.Random, number: int, n: int) -> tuple[int, int]:
        value = f"{number}/{n}/{dice.random()}"
        kind = dice.random()
        if kind < 0.5:
            if self.ids == "application":
                cursor.execute("SELECT nextval('ids')")
                ((new,),) = cursor.fetchall()
                time.sleep(dice.choice([0, 0.01, 0.05]))
                cursor.execute("INSERT INTO t (id, v) VALUES (%s, %s)", (new, value))
            else:
                cursor.execute("INSERT INTO t (v) VALUES (%s)", (value,))
        elif kind < 0.85:
            # Each writer has its own residue class, so writers do not wait for row locks or deadlock.
            cursor.execute(
                "UPDATE t SET v = %s WHERE id = (SELECT max(id) FROM t WHERE id %% %s = %s AND id <= %s)",
                (value, self.threads, number, dice.randint(1, 10_000)),
            )
        else:
            cursor.execute(
                "DELETE FROM t WHERE id = (SELECT min(id) FROM t WHERE id %% %s = %s AND id >= %s)",
                (self.threads, number, dice.randint(1, 500)),
            )
        cursor.execute("INSERT INTO history (writer, n) VALUES (%s, %s)", (number, n))
        return number, n


@contextmanager
def writing_in_another_database(dsn: str) -> Iterator[None]:
    """Hold back the horizon by a long writing transaction in another database of the cluster."""
    done = threading.Event()
    thread = threading.Thread(target=_write_elsewhere, args=(dsn, done))
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _write_elsewhere(dsn: str, done: threading.Event) -> None:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS elsewhere (a int)")
        while not done.wait(0.5):
            cursor.execute("INSERT INTO elsewhere VALUES (1)")
            if done.wait(1):
                break
            connection.commit()
