"""Writers that commit out of order: random transactions with savepoints, rollbacks, pauses and PREPARE."""

from __future__ import annotations

import random
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field

import psycopg2
from psycopg2.extensions import connection as Connection

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
    """``threads`` writers on the tables of TABLE. ``ids``: ``identity``, or ``application`` (the writer calls
    nextval itself, long before it inserts). Join them with :meth:`stop`, which raises what one of them raised."""

    dsn: str
    seed: int
    threads: int = 8
    ids: str = "identity"
    committed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _failures: list[BaseException] = field(default_factory=list)

    def start(self) -> None:
        for number in range(self.threads):
            thread = threading.Thread(target=self._guarded, args=(number,))
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def _guarded(self, number: int) -> None:
        try:
            with closing(psycopg2.connect(self.dsn)) as connection:
                dice = random.Random(f"{self.seed}/{number}")
                counter = 0
                while not self._stop.is_set():
                    counter = self._transaction(connection, dice, number, counter)
        except BaseException as error:  # noqa: BLE001 - stop() raises it again
            self._failures.append(error)

    def _transaction(self, connection: Connection, dice: random.Random, number: int, counter: int) -> int:
        gid = f"{self.seed}-{number}-{counter}"
        with connection.cursor() as cursor:
            for _ in range(dice.randint(1, 4)):
                counter += 1
                if dice.random() < 0.4:
                    cursor.execute("SAVEPOINT s")
                self._statement(cursor, dice, number, counter)
                if dice.random() < 0.15:
                    cursor.execute("SAVEPOINT x")
                    self._statement(cursor, dice, number, counter + 100_000)
                    cursor.execute("ROLLBACK TO SAVEPOINT x")
                time.sleep(dice.choice([0, 0, 0.002, 0.02, 0.2 * dice.random()]))
            if dice.random() < 0.05:
                time.sleep(dice.random())
            if dice.random() < 0.15:
                connection.rollback()
                return counter
            if dice.random() < 0.05:
                cursor.execute("PREPARE TRANSACTION %s", (gid,))
                connection.commit()
                time.sleep(dice.random() * 0.3)
                connection.autocommit = True
                cursor.execute("COMMIT PREPARED %s", (gid,))
                connection.autocommit = False
            else:
                connection.commit()
        self.committed += 1
        return counter

    def _statement(self, cursor: psycopg2.extensions.cursor, dice: random.Random, number: int, counter: int) -> None:
        value = f"{number}/{counter}/{dice.random()}"
        kind = dice.random()
        if kind < 0.5:
            if self.ids == "application":
                cursor.execute("SELECT nextval('ids')")
                ((new,),) = cursor.fetchall()
                time.sleep(dice.choice([0, 0.01, 0.05]))
                cursor.execute("INSERT INTO t (id, v) VALUES (%s, %s)", (new, value))
            else:
                cursor.execute("INSERT INTO t (v) VALUES (%s)", (value,))
            cursor.execute("INSERT INTO history (writer, n) VALUES (%s, %s)", (number, counter))
        elif kind < 0.85:
            # One writer to a residue class: nobody waits for another's row lock, nothing deadlocks.
            cursor.execute(
                "UPDATE t SET v = %s WHERE id = (SELECT max(id) FROM t WHERE id %% %s = %s AND id <= %s)",
                (value, self.threads, number, dice.randint(1, 10_000)),
            )
        else:
            cursor.execute(
                "DELETE FROM t WHERE id = (SELECT min(id) FROM t WHERE id %% %s = %s AND id >= %s)",
                (self.threads, number, dice.randint(1, 500)),
            )
