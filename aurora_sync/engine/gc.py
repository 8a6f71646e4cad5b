"""Collect what killed attempts left behind, and nothing that may still be needed.

==============  =========================================================  =========================
attempts        files in S3 whose manifest was never written               older than the limit
uploads         multipart uploads that were never finished                 of attempts older than that
hints           all but the newest few of a target                         superseded
staging tables  in the log schema, of attempts older than the limit        see :func:`_drop_staging`
==============  =========================================================  =========================

An attempt with a manifest is evidence: the manifest and its data stay until a lifecycle rule of the bucket removes
them. Only objects and tables named exactly as aurora_sync names them are deleted; everything else under the prefix and
in the log schema stays.

:func:`compact_log` then writes the entries of the sync log together.

Collecting is safe while syncs run, in several processes at once, and after a kill at any point. If a collected attempt
is still running, its load fails because its files or its staging table are missing. Its target and watermark do not
change, so no row is lost and the next run reads the rows again.
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
from aurora_sync.warehouse import compaction, ddl
from aurora_sync.warehouse.ddl import TableName
from aurora_sync.warehouse.query_tag import QueryTag

logger = foreign_text.logger(__name__)

# A run may hold its snapshot for max_snapshot_minutes, two hours by default, and then wait for a warehouse; Snowflake
# cancels any statement after two days by default. An older attempt cannot be running.
OLDER_THAN = timedelta(days=2)
# Two statements of a run, COPY and count, may each take max_snapshot_minutes; the third share is for everything else.
STATEMENTS = 3
# Runs read only the newest hint; the others show people the state after the last runs.
HINTS_KEPT = 5

# The job of Dagster runs weekly, so an entry is rewritten twice at most.
LOG_PERIOD, LOG_AT_REST = timedelta(days=15), timedelta(days=1)

_STAGING = re.compile(r"STAGING_.{1,40}_[0-9a-f]{16}_([0-9a-f]{12})", re.DOTALL)


@dataclass
class Collected:
    """The things of one kind that were collected. ``bytes`` is None when the size is not known."""

    kind: str
    count: int = 0
    bytes: int | None = 0

    def add(self, size: int) -> None:
        self.count += 1
        self.bytes = (self.bytes or 0) + size


def age_limit(tables: Iterable[TableConfig], wanted: timedelta | None = None) -> timedelta:
    """Return the age from which an attempt on any of these tables cannot be running: ``wanted``, or by default two
    days, or longer when a table needs it.

    Raises ConfigError when ``wanted`` is too short for the time that a table may hold its snapshot.
    """
    longest = max(tables, key=_most_minutes, default=None)
    needed = STATEMENTS * timedelta(minutes=_most_minutes(longest)) if longest else timedelta(0)
    if wanted is not None and longest and wanted < needed:
        raise ConfigError(
            f"attempts older than {wanted} may still be running: the snapshot of {longest.table_name} may stay open for"
            f" {_most_minutes(longest)} minutes",
            where="--older-than",
            hint=f"choose at least {needed}, which is {STATEMENTS} times as long",
        )
    return wanted or max(OLDER_THAN, needed)


def _most_minutes(table: TableConfig) -> int:
    return max(table.max_snapshot_minutes, table.load.max_chunk_minutes)


def collect(
    places: Places,
    *,
    older_than: timedelta = OLDER_THAN,
    dry_run: bool = False,
    on_found: Callable[[str], object] = logger.info,
    now: datetime | None = None,
) -> list[Collected]:
    """Remove what is older than ``older_than``; return what was found of each kind, in a fixed order.

    ``on_found`` is called with the name of each thing before it is deleted. ``dry_run`` deletes nothing. Memory use
    does not grow with the number of objects. ``now`` is for tests.
    """
    now = now or datetime.now(UTC)
    sweep = _Sweep(places.stage.store, now - older_than, dry_run, on_found)
    # Before the objects are listed: every staging table that exists now has had its manifest in S3 since before.
    staging = _staging_tables(places)
    began = sweep.objects(staging)
    uploads = sweep.uploads()
    return [sweep.attempts, uploads, sweep.hints, _drop_staging(places, sweep, staging, began, now)]


def compact_log(places: Places, now: datetime | None = None) -> int:
    """Write the older entries of the sync log together, and return their number; 0 in a warehouse where that saves
    nothing. Entries of the last day stay as they are; those that are older than the period were written together
    before."""
    now = now or datetime.now(UTC)
    if not places.warehouse.metered:
        return 0
    with places.warehouse.session(query_tag=QueryTag("gc")) as session:
        return compaction.compact(session, places.log_schema, now - LOG_PERIOD, now - LOG_AT_REST)


class _Sweep:
    """One walk over the stage, in the order of the keys."""

    def __init__(self, store: Store, before: datetime, dry_run: bool, on_found: Callable[[str], object]) -> None:
        self.store = store
        self.before = before
        self.dry_run = dry_run
        self.on_found = on_found
        self.attempts = Collected("attempts")
        self.hints = Collected("hints")
        self._attempt = ""  # the prefix that was judged last, and the result
        self._abandoned = False
        self._hints_prefix = ""
        self._hints_seen = 0

    def objects(self, staging: dict[str, TableName]) -> dict[str, datetime]:
        """Delete objects page by page. Returns the start time of each attempt whose staging table is in ``staging`` and
        whose objects are still there."""
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
            # The manifest is listed before the parts. When it was not, ask for it: it may be younger than the page, and
            # not every store lists in order.
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
    """Return the staging tables by load id; none when the log schema does not exist yet."""
    with places.warehouse.session(query_tag=QueryTag("gc")) as session:
        names = session.tables(places.log_schema, "STAGING_")
    return {found[1]: TableName(places.log_schema, name) for name in names if (found := _STAGING.fullmatch(name))}


def _drop_staging(
    places: Places, sweep: _Sweep, staging: dict[str, TableName], began: dict[str, datetime], now: datetime
) -> Collected:
    """Drop the staging tables of attempts that began before the limit.

    When the stage does not have the attempt, a lifecycle rule may have removed it, or the table may be in use by
    another project with another stage and the same log schema. Not every warehouse shows the age of a table. The first
    gc that misses the attempt therefore writes a mark to the stage, and a later gc drops the table once the mark is
    older than the limit.
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
        with places.warehouse.session(query_tag=QueryTag("gc")) as session:
            for table in doomed:
                session.query(ddl.drop_table(table))
    return found
