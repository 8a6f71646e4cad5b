"""Writers of a table that is read in chunks. A trial calls them between any two steps of the load, in one thread, so
that a seed always gives the same events."""

from __future__ import annotations

import random
from contextlib import ExitStack
from dataclasses import dataclass, field

from psycopg2.extensions import connection as Connection

from aurora_sync_tests.scenarios.chunked_load.loads import WIDE
from aurora_sync_tests.scenarios.world import World

SESSIONS = 3
_VACUUM = "VACUUM (TRUNCATE off) t"  # without a lock that waits for the writers


@dataclass
class Writers:
    """Sessions whose transactions stay open over several steps. Each has keys of its own, so that none waits.

    ``keyed``: rows are updated and deleted as well. ``assigned``: the database assigns the keys, and nobody changes
    them.
    """

    world: World
    dice: random.Random
    keyed: bool = True
    assigned: bool = False
    statements: int = 0
    _end: ExitStack = field(default_factory=ExitStack)
    _sessions: list[Connection] = field(default_factory=list)
    _next: int = 1000

    def __enter__(self) -> Writers:
        self._sessions = [self._end.enter_context(self.world.session()) for _ in range(SESSIONS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()

    def step(self) -> None:
        for number, session in enumerate(self._sessions):
            roll = self.dice.random()
            if roll < 0.45:
                self._write(session, number)
            elif roll < 0.65:
                session.commit()
            elif roll < 0.72:
                session.rollback()
        if self.dice.random() < 0.15:
            self.world.execute(_VACUUM)

    def finish(self) -> None:
        """End every open transaction."""
        for session in self._sessions:
            self.dice.choice([session.commit, session.commit, session.rollback])()

    def _write(self, session: Connection, number: int) -> None:
        dice = self.dice
        with session.cursor() as cursor:
            cursor.execute("SET lock_timeout = '5s'")
            for _ in range(dice.randint(1, 3)):
                how = dice.random()
                if how < 0.4:
                    cursor.execute("SAVEPOINT s")
                cursor.execute(self._statement(number))
                self.statements += 1
                if how < 0.4:
                    cursor.execute("ROLLBACK TO s" if how < 0.15 else "RELEASE s")

    def _statement(self, number: int) -> str:
        dice, kind = self.dice, self.dice.random()
        self._next += 1
        new = self._next * SESSIONS + number
        size = dice.choice([1, 200, 1500, 1500])
        value = f"repeat('{dice.choice('abcdef')}', {size}) || '{new}'"
        if not self.keyed or kind < 0.25:
            if self.assigned:
                return f"INSERT INTO t (v) VALUES ({value})"
            return f"INSERT INTO t (id, v) VALUES ({new}, {value})"
        chosen = f"id = (SELECT id FROM t WHERE id % {SESSIONS} = {number} ORDER BY md5(id || '{new}') LIMIT 1)"
        if self.assigned:  # an assigned number may belong to a row of any writer
            mine = f"id <= 40 AND id % {SESSIONS} = {number} AND id > {dice.randint(0, 38)}"
            chosen = f"id = (SELECT id FROM t WHERE {mine} LIMIT 1)"
        if kind < 0.6:
            return f"UPDATE t SET v = {value} WHERE {chosen}"
        if kind < 0.75 and not self.assigned:
            return f"UPDATE t SET id = {new} WHERE {chosen}"
        if kind < 0.8 and not self.assigned:  # the key of a deleted row comes back
            again = dice.randint(0, 12) * SESSIONS + number
            return f"INSERT INTO t (id, v) SELECT i, {WIDE} FROM (VALUES ({again})) r(i) ON CONFLICT DO NOTHING"
        return f"DELETE FROM t WHERE {chosen}"
