"""Collect what killed attempts left behind, and nothing that anybody may still need.

==============  =========================================================  =========================
attempts        files in S3 whose manifest was never written               older than the limit
uploads         multipart uploads that were never finished                 of attempts older than that
hints           all but the newest few of a target                         superseded
staging tables  in the log schema, of attempts older than the limit        see :func:`_drop_staging`
==============  =========================================================  =========================

What has a manifest is evidence and stays, its data as well: how long to keep that is for a lifecycle rule of the
bucket to say, not for this. Only exact names of ours go; whatever else lies under the prefix or in the log
schema stays.

Safe while syncs run, several at a time, killed anywhere and run again. Should an attempt be alive after all,
it fails at its load, for want of its files or its staging table, with target and watermark as they were: no row
is lost, the next run reads them again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine.places import Places
from aurora_sync.errors import ConfigError
from aurora_sync.model import foreign_text
from aurora_sync.objects.store import Store
from aurora_sync.stage import layout
from aurora_sync.stage.layout import AttemptKey
from aurora_sync.warehouse import ddl
from aurora_sync.warehouse.ddl import TableName

logger = foreign_text.logger(__name__)

# A run may hold its snapshot for max_snapshot_minutes, two hours by default, and then wait for a warehouse;
# Snowflake ends any statement after two days by default. What is older than that is dead.
OLDER_THAN = timedelta(days=2)
# Each of the statements of a run, COPY and count, may take max_snapshot_minutes; the third is for all the rest.
STATEMENTS = 3
# Runs read the newest one only; the others show a person what the last ones left.
HINTS_KEPT = 5

_STAGING = re.compile(r"STAGING_.{1,40}_[0-9a-f]{16}_([0-9a-f]{12})", re.DOTALL)


@dataclass
class Collected:
    """What was collected of one kind. ``bytes`` is None where the place does not tell."""

    kind: str
    count: int = 0
    bytes: int | None = 0

    def add(self, size: int) -> None:
        self.count += 1
        self.bytes = (self.bytes or 0) + size


def age_limit(tables: Iterable[TableConfig], wanted: timedelta | None = None) -> timedelta:
    """The age from which an attempt on any of these tables is surely dead: ``wanted``, by default two days.

    Raises ConfigError when a table may hold its snapshot so long that ``wanted`` is too short; the default grows.
    """
    longest = max(tables, key=lambda table: table.max_snapshot_minutes, default=None)
    needed = STATEMENTS * timedelta(minutes=longest.max_snapshot_minutes) if longest else timedelta(0)
    if wanted is not None and longest and wanted < needed:
        raise ConfigError(
            f"attempts older than {wanted} may still be under way: {longest.table_name} may hold its snapshot for"
            f" {longest.max_snapshot_minutes} minutes",
            where="--older-than",
            hint=f"choose at least {needed}, {STATEMENTS} times as long",
        )
    return wanted or max(OLDER_THAN, needed)


def collect(
    places: Places,
    *,
    older_than: timedelta = OLDER_THAN,
    dry_run: bool = False,
    on_found: Callable[[str], object] = logger.info,
    now: datetime | None = None,
) -> list[Collected]:
    """Remove what is older than ``older_than``; returns what was there of each kind, in a fixed order.

    ``on_found`` hears the name of each thing before it goes; with ``dry_run`` nothing goes. Memory does not grow
    with the number of objects. ``now`` is for tests.
    """
    now = now or datetime.now(UTC)
    sweep = _Sweep(places.stage.store, now - older_than, dry_run, on_found)
    # Before the objects are listed: whoever has a staging table by now has had its manifest in S3 since before.
    staging = _staging_tables(places)
    began = sweep.objects(staging)
    uploads = sweep.uploads()
    return [sweep.attempts, uploads, sweep.hints, _drop_staging(places, sweep, staging, began, now)]


class _Sweep:
    """One walk over the stage, in the order of the keys."""

    def __init__(self, store: Store, before: datetime, dry_run: bool, on_found: Callable[[str], object]) -> None:
        self.store = store
        self.before = before
        self.dry_run = dry_run
        self.on_found = on_found
        self.attempts = Collected("attempts")
        self.hints = Collected("hints")
        self._attempt = ""  # the prefix that was judged last, and the verdict
        self._abandoned = False
        self._hints_prefix = ""
        self._hints_seen = 0

    def objects(self, staging: dict[str, TableName]) -> dict[str, datetime]:
        """Delete page by page. Returns when the attempts of these staging tables began, as far as they are there."""
        began: dict[str, datetime] = {}
        for page in self.store.pages(self.store.prefix):
            doomed = []
            for key, size, *_ in page:
                attempt = layout.attempt_key(self.store.prefix, key)
                if attempt and attempt.load_id in staging:
                    began[attempt.load_id] = attempt.at
                if self._takes(key, attempt, size, staging):
                    doomed.append(key)
            if not self.dry_run:
                self.store.delete(doomed)
        return began

    def uploads(self) -> Collected:
        found = Collected("uploads")
        for key, upload in self.store.uploads(self.store.prefix):
            attempt = layout.attempt_key(self.store.prefix, key)
            if attempt and attempt.at < self.before:
                self.on_found(f"{self.store.uri(key)} (unfinished upload)")
                found.add(self.store.upload_bytes(key, upload))
                if not self.dry_run:
                    self.store.abort_upload(key, upload)
        return found

    def _takes(self, key: str, attempt: AttemptKey | None, size: int, staging: dict[str, TableName]) -> bool:
        if attempt:
            return self._takes_part(attempt, size)
        if hints_prefix := layout.hints_prefix_of(self.store.prefix, key):
            return self._takes_hint(hints_prefix, key, size)
        load_id = layout.mark_load_id(self.store.prefix, key)
        return load_id is not None and load_id not in staging

    def _takes_part(self, attempt: AttemptKey, size: int) -> bool:
        if attempt.prefix != self._attempt:
            self._attempt = attempt.prefix
            # The manifest is listed before the parts. Where it was not, it is asked for: it may be younger than the
            # page, and not every store lists in order.
            self._abandoned = (
                attempt.name != layout.MANIFEST
                and attempt.at < self.before
                and self.store.get(f"{attempt.prefix}{layout.MANIFEST}") is None
            )
            if self._abandoned:
                self.on_found(self.store.uri(attempt.prefix))
                self.attempts.count += 1
        if self._abandoned:
            self.attempts.bytes = (self.attempts.bytes or 0) + size
        return self._abandoned

    def _takes_hint(self, prefix: str, key: str, size: int) -> bool:
        if prefix != self._hints_prefix:
            self._hints_prefix, self._hints_seen = prefix, 0
        self._hints_seen += 1
        if self._hints_seen <= HINTS_KEPT:
            return False
        self.on_found(self.store.uri(key))
        self.hints.add(size)
        return True


def _staging_tables(places: Places) -> dict[str, TableName]:
    """By load id; none where the log schema is not there yet."""
    with places.warehouse.session(query_tag="aurora_sync gc") as session:
        rows = session.query(
            "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES"
            " WHERE TABLE_SCHEMA = ? AND TABLE_TYPE = 'BASE TABLE' AND STARTSWITH(TABLE_NAME, 'STAGING_')",
            (places.log_schema,),
        )
    return {found[1]: TableName(places.log_schema, name) for (name,) in rows if (found := _STAGING.fullmatch(name))}


def _drop_staging(
    places: Places, sweep: _Sweep, staging: dict[str, TableName], began: dict[str, datetime], now: datetime
) -> Collected:
    """Drop the staging tables of attempts that began before the limit.

    Where the stage has no such attempt, a lifecycle rule may have removed it, or the table is that of a project with
    another stage and the same log schema, and in use. A table does not tell its age in every warehouse; so the first
    gc that misses the attempt leaves a mark in the stage, and the first one that finds the mark older than the limit
    drops the table.
    """
    found = Collected("staging tables", bytes=None)
    store, doomed = sweep.store, []
    for load_id, table in staging.items():
        since = began.get(load_id)
        if since is None:
            mark = layout.mark_key(store.prefix, load_id)
            body = store.get(mark)
            since = datetime.fromisoformat(body.decode()) if body else now
            if body is None and not sweep.dry_run:
                store.put_new(mark, now.isoformat().encode())
        if since < sweep.before:
            sweep.on_found(str(table))
            doomed.append(table)
    found.count = len(doomed)
    if doomed and not sweep.dry_run:
        with places.warehouse.session(query_tag="aurora_sync gc") as session:
            for table in doomed:
                session.query(ddl.drop_table(table))
    return found
