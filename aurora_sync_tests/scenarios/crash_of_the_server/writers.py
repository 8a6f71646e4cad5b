"""Writers that survive the crashes of their server."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg2

from aurora_sync_tests.scenarios.random_writers.writers import Writers

CRASHES = psycopg2.OperationalError, psycopg2.InterfaceError


class StubbornWriters(Writers):
    """Writers that reconnect when the server is back. A transaction that a crash left prepared is then committed, but
    is in no journal, like a transaction whose acknowledgement was lost in the crash."""

    def _write(self, number: int, dice: random.Random, counter: Iterator[int]) -> None:
        while not self._stop.is_set():
            try:
                self._commit_prepared(number)
                super()._write(number, dice, counter)
            except CRASHES:
                time.sleep(0.02)

    def _commit_prepared(self, number: int) -> None:
        with closing(psycopg2.connect(self.dsn)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE starts_with(gid, %s)", (self.prefix(number),))
                for (gid,) in cursor.fetchall():
                    cursor.execute("COMMIT PREPARED %s", (gid,))
