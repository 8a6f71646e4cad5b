"""Writers of two streamed tables: values out of line, changed keys, savepoints, TRUNCATE, PREPARE."""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import psycopg2
from psycopg2.extensions import cursor as Cursor

TABLES = (
    "CREATE TABLE t (id bigint PRIMARY KEY, doc text, n int, tags text)",
    "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL",
    "CREATE TABLE u (a int, b text, doc text, PRIMARY KEY (a, b)) PARTITION BY HASH (a)",
    "CREATE TABLE u0 PARTITION OF u FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE u1 PARTITION OF u FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
)
LONG = 3000  # bytes, stored out of line
KEYS = 400  # few enough to be used repeatedly
THREADS = 4
TRUNCATES = True


@dataclass
class Progress:
    """The number of committed transactions, and their limit. A test waits for a number of transactions, so it does not
    depend on the speed of the machine."""

    by_writer: list[int] = field(default_factory=lambda: [0] * THREADS)
    most: float = math.inf
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def committed(self) -> int:
        return sum(self.by_writer)

    def until(self, least: int, most: float = math.inf) -> None:
        """Wait until ``least`` transactions are committed. At ``most`` (or a few more) the writers pause until the next
        call."""
        self.most = most
        deadline = time.monotonic() + 300
        while self.committed < least:
            assert time.monotonic() < deadline, f"the writers stand still at {self.by_writer} transactions"
            time.sleep(0.01)


@contextmanager
def writing(dsn: str, seed: int) -> Iterator[Progress]:
    """Run the writers until the end of the block."""
    done, failures = Progress(), list[BaseException]()

    def guarded(number: int) -> None:
        try:
            _write(dsn, random.Random(f"{seed}/{number}"), number, done)
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield done
    finally:
        done.stop.set()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]


def _write(dsn: str, dice: random.Random, number: int, done: Progress) -> None:
    serial = itertools.count(1)
    with closing(psycopg2.connect(dsn)) as connection:
        while not done.stop.is_set():
            if done.committed >= done.most:
                done.stop.wait(0.005)
                continue
            with connection.cursor() as cursor:
                for _ in range(dice.randint(1, 5)):
                    kept = dice.random() < 0.7
                    cursor.execute("SAVEPOINT s")
                    _statement(cursor, dice, number)
                    cursor.execute("RELEASE s" if kept else "ROLLBACK TO s")
                done.stop.wait(dice.choice([0, 0, 0.005, 0.05]))
                if dice.random() < 0.1:
                    connection.rollback()
                    continue
                if dice.random() < 0.05:
                    gid = f"logical-{number}-{next(serial)}-{dice.random()}"
                    cursor.execute("PREPARE TRANSACTION %s", (gid,))
                    connection.commit()
                    connection.autocommit = True
                    cursor.execute("COMMIT PREPARED %s", (gid,))
                    connection.autocommit = False
                connection.commit()
                done.by_writer[number] += 1


def _statement(cursor: Cursor, dice: random.Random, number: int) -> None:
    """Return a random statement. Each writer has its own keys, so that writers do not wait for each other; only
    TRUNCATE affects all."""
    key, other = (THREADS * dice.randrange(KEYS) + number for _ in range(2))
    doc = dice.choice([None, "", "short", dice.randbytes(LONG // 2).hex()])
    kind = dice.random()
    if kind < 0.3:
        values = (key, doc, dice.randrange(9), dice.choice([None, "", '{"']))
        update = "DO UPDATE SET n = excluded.n" if dice.random() < 0.5 else "DO UPDATE SET doc = excluded.doc"
        cursor.execute(f"INSERT INTO t VALUES (%s, %s, %s, %s) ON CONFLICT (id) {update}", values)
    elif kind < 0.45:
        cursor.execute("UPDATE t SET n = n + 1 WHERE id = %s", (key,))
    elif kind < 0.55:
        cursor.execute(
            "UPDATE t SET id = %s WHERE id = %s AND NOT EXISTS (SELECT FROM t WHERE id = %s)", (other, key, other)
        )
    elif kind < 0.65:
        cursor.execute("DELETE FROM t WHERE id = %s", (key,))
    elif kind < 0.8:
        cursor.execute("INSERT INTO u VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", (key, f"k{key % 7}", doc))
    elif kind < 0.9:
        cursor.execute(
            "UPDATE u SET a = %s WHERE a = %s AND NOT EXISTS (SELECT FROM u WHERE a = %s)", (other, key, other)
        )
    elif kind < 0.998:
        cursor.execute("DELETE FROM u WHERE a BETWEEN %s AND %s AND a %% %s = %s", (key, key + 40, THREADS, number))
    elif number == 0 and TRUNCATES:
        cursor.execute("TRUNCATE t")
