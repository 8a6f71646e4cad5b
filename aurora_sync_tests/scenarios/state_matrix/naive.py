"""The usual places for the state of a sync, and the moments to advance it. Each design is a few lines, and right as
long as nothing is killed.

The source only grows, with rising ids, so that no other weakness of a cursor matters here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from aurora_sync.objects.store import Store
from aurora_sync.warehouse.base import Session
from aurora_sync_tests.scenarios.world import World
from aurora_sync_tests.warehouse.through import Killed

POINTS = ("after_export", "before_copy", "mid_copy", "after_copy", "after_state")
PREPARE = (
    'CREATE TABLE "NAIVE" ("ID" NUMBER(10,0), "V" VARCHAR)',
    'CREATE TABLE "STATE" ("SINCE" NUMBER(10,0))',
    'INSERT INTO "STATE" VALUES (0)',
)
APPEND = 'INSERT INTO "NAIVE" SELECT ?, ?'
MERGE = (
    'MERGE INTO "NAIVE" AS t USING (SELECT ? AS "ID", ? AS "V") AS s ON t."ID" = s."ID"'
    ' WHEN MATCHED THEN UPDATE SET "V" = s."V" WHEN NOT MATCHED THEN INSERT ("ID", "V") VALUES (s."ID", s."V")'
)


def of_s3(store: Store, _: Session) -> int:
    return max((int(key.rpartition("/")[2]) for key in store.list(f"{store.prefix}state/")), default=0)


def into_s3(store: Store, _: Session, since: int) -> None:
    store.put_new(f"{store.prefix}state/{since:09}", b"")


def of_target(_: Store, session: Session) -> int:
    return int(session.query('SELECT COALESCE(MAX("ID"), 0) FROM "NAIVE"')[0][0])


def into_nothing(*_: object) -> None:
    """Write no state: the target itself is the state."""


def of_warehouse(_: Store, session: Session) -> int:
    return int(session.query('SELECT "SINCE" FROM "STATE"')[0][0])


def into_warehouse(_: Store, session: Session, since: int) -> None:
    session.modify('UPDATE "STATE" SET "SINCE" = ?', (since,))


@dataclass(frozen=True)
class Design:
    load: str  # the statement that loads one row: APPEND or MERGE
    read: Callable[[Store, Session], int]
    write: Callable[[Store, Session, int], None]
    state_first: bool = False

    def run(self, world: World, session: Session, die_at: str | None = None) -> None:
        """Run once; with ``die_at``, the run is killed at that point."""

        def point(name: str) -> None:
            if name == die_at:
                raise Killed(name)

        store, since = world.places.stage.store, self.read(world.places.stage.store, session)
        rows = world.execute(f"SELECT id, v FROM t WHERE id > {since} ORDER BY id")
        middle, files = len(rows) // 2, f"{store.prefix}files/{len(store.list(store.prefix))}"
        store.put_new(f"{files}-1", json.dumps(rows[:middle]).encode())
        store.put_new(f"{files}-2", json.dumps(rows[middle:]).encode())
        point("after_export")
        newest = max((id for id, _ in rows), default=since)
        if self.state_first:
            self.write(store, session, newest)
        point("before_copy")
        for file in (f"{files}-2", f"{files}-1"):  # a COPY of several files loads them in any order
            for row in json.loads(store.get(file) or b"[]"):
                session.modify(self.load, row)
            if file.endswith("-2"):
                point("mid_copy")
        point("after_copy")
        if not self.state_first:
            self.write(store, session, newest)
        point("after_state")


DESIGNS = {
    "S3 state after load, append": Design(APPEND, of_s3, into_s3),
    "S3 state after load, MERGE": Design(MERGE, of_s3, into_s3),
    "S3 state before load, append": Design(APPEND, of_s3, into_s3, state_first=True),
    "S3 state before load, MERGE": Design(MERGE, of_s3, into_s3, state_first=True),
    "MAX() of target, append": Design(APPEND, of_target, into_nothing),
    "MAX() of target, MERGE": Design(MERGE, of_target, into_nothing),
    "warehouse state, separate statement, append": Design(APPEND, of_warehouse, into_warehouse),
    "warehouse state, separate statement, MERGE": Design(MERGE, of_warehouse, into_warehouse),
}
