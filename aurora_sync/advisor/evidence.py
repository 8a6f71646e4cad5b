"""Collect what the catalogue and the statistics show about tables, as input for rules.py.

No table is read or locked. The number of queries does not depend on the number of tables. The queries need only the
privileges of PUBLIC. Evidence that the role may not see is left out: ``pg_stats`` shows only columns that it may read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg2.extensions import connection as Connection

from aurora_sync.model.relation import SourceTable
from aurora_sync.source import catalogue
from aurora_sync.source.connection import control_data
from aurora_sync.source.logical import publication
from aurora_sync.source.logical.publication import Server

# Sums over all partitions. Before the first VACUUM or ANALYZE, relpages is 0: the size of the files replaces it.
_ACTIVITY = """
WITH RECURSIVE tree(root, oid) AS (
    SELECT oid, oid FROM unnest(%(oids)s::oid[]) oid
    UNION SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT t.root, count(*) FILTER (WHERE t.oid <> t.root AND c.relkind <> 'p'),
       coalesce(sum(s.n_tup_ins), 0)::bigint, coalesce(sum(s.n_tup_upd), 0)::bigint,
       coalesce(sum(s.n_tup_hot_upd), 0)::bigint, coalesce(sum(s.n_tup_del), 0)::bigint,
       coalesce(sum(s.n_live_tup), 0)::bigint, max(greatest(s.last_analyze, s.last_autoanalyze)),
       coalesce(sum(CASE WHEN c.relkind NOT IN ('r', 'm') THEN 0 WHEN c.relpages = 0 THEN pg_relation_size(c.oid)
                         ELSE c.relpages::bigint * current_setting('block_size')::bigint END), 0)::bigint,
       coalesce(sum(CASE WHEN o.relpages = 0 THEN pg_relation_size(o.oid)
                         ELSE o.relpages::bigint * current_setting('block_size')::bigint END), 0)::bigint,
       coalesce(sum((SELECT sum(x.relpages) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                      WHERE i.indrelid = t.oid)), 0)::bigint * current_setting('block_size')::bigint,
       array_agg(DISTINCT c.relreplident::text ORDER BY c.relreplident::text) FILTER (WHERE c.relkind <> 'p')
  FROM tree t JOIN pg_class c ON c.oid = t.oid
  LEFT JOIN pg_stat_all_tables s ON s.relid = t.oid
  LEFT JOIN pg_class o ON o.oid = c.reltoastrelid
 GROUP BY t.root
"""

# For a partitioned table, the inherited statistics: they cover all partitions.
_STATISTICS = """
SELECT DISTINCT ON (c.oid, s.attname) c.oid, s.attname, s.null_frac
  FROM pg_stats s JOIN pg_namespace n ON n.nspname = s.schemaname
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = s.tablename
 WHERE c.oid = ANY(%(oids)s) ORDER BY c.oid, s.attname, s.inherited DESC
"""

# A crash resets all counters, but only server-wide statistics record its time (pgstat_reset_after_failure).
_SERVER = """
SELECT now(), (SELECT greatest(d.stats_reset, b.stats_reset)
                 FROM pg_stat_database d, pg_stat_bgwriter b WHERE d.datname = current_database()),
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE pg_snapshot_xmax(pg_current_snapshot())::text::bigint END,
       (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()),
       pg_has_role('pg_read_all_stats', 'USAGE')
"""
# PostgreSQL can only compare transaction ids that are less than 2^31 apart.
WRAPAROUND = 2**31
_RATES_NEED = timedelta(hours=1)
# Assumption: an application makes each kind of write to a table at least once a week.
_MIX_NEEDS_DAYS = 7


@dataclass(frozen=True)
class Activity:
    """Numbers of rows written since the statistics began."""

    inserted: int = 0
    updated: int = 0
    hot_updated: int = 0  # updates without a new index entry (HOT)
    deleted: int = 0

    @property
    def written(self) -> int:
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True)
class TableEvidence:
    """Evidence about one table with all its partitions. Sizes are in bytes."""

    table: SourceTable
    activity: Activity = Activity()
    rows: int = 0
    heap: int = 0
    toast: int = 0
    indexes: int = 0
    partitions: int = 0
    analysed_at: datetime | None = None
    replica_identities: tuple[str, ...] = ()  # pg_class.relreplident of the leaves
    null_shares: dict[str, float] = field(default_factory=dict)  # column -> share of NULLs; analysed columns only

    @property
    def row_bytes(self) -> int:
        """Average bytes of a row, TOAST included; at least 24, the size of a row header."""
        return max(24, (self.heap + self.toast) // max(self.rows, 1)) if self.rows else 24

    @property
    def counted_whole(self) -> bool:
        """True if the inserts of nearly all rows were counted, so that all updates and deletes were counted as well."""
        return self.activity.inserted >= 0.9 * self.rows

    @property
    def lacks_rows(self) -> bool:
        """True if deletes were counted, or if more rows were inserted than exist.

        TRUNCATE does not count as a delete, and rolled back inserts count as inserts.
        """
        return self.activity.deleted > 0 or self.activity.inserted > 1.1 * self.rows + 100


@dataclass(frozen=True)
class Evidence:
    """Evidence about one database. ``since`` is when the statistics began; None if unknown: there are no rates then."""

    database: str
    taken_at: datetime
    server: Server
    since: datetime | None
    xids_per_day: float | None  # average over the life of the cluster; None if that is less than a day
    days_to_wraparound: float | None  # if no row were frozen from now on
    sees_sessions: bool  # the role has pg_read_all_stats
    tables: tuple[TableEvidence, ...]

    @property
    def days(self) -> float | None:
        """Days since the statistics began; None if unknown or less than an hour."""
        if self.since is None or self.taken_at - self.since < _RATES_NEED:
            return None
        return (self.taken_at - self.since) / timedelta(days=1)

    def knows_mix(self, table: TableEvidence) -> bool:
        """True if a count of zero updates or deletes means that the table has none."""
        return table.counted_whole or (table.activity.written > 0 and (self.days or 0) >= _MIX_NEEDS_DAYS)

    def per_day(self, count: int) -> float | None:
        """Convert a count since the statistics began to a daily rate; None without rates."""
        return count / self.days if self.days else None

    @property
    def facts(self) -> dict[str, str]:
        """Facts about the server for people: label -> text."""
        since = f"since {self.since:%Y-%m-%d %H:%M} UTC" if self.since else "since an unknown time"
        found = {"statistics": since if self.days else f"{since}: no rates are known before an hour has passed"}
        if self.xids_per_day is not None and self.days_to_wraparound is not None:
            found["transaction ids"] = (
                f"{self.xids_per_day:,.0f} a day on average; without VACUUM, they last for"
                f" {self.days_to_wraparound:,.0f} days"
            )
        if not self.sees_sessions:
            found["privileges"] = "this role lacks pg_read_all_stats, and sees the activity of its own sessions only"
        return found

    def rates(self, activity: Activity) -> tuple[float, float, float]:
        """Return rows inserted, updated and deleted per day; without rates, the totals so far."""
        days = self.days or 1
        return activity.inserted / days, activity.updated / days, activity.deleted / days


def collect_evidence(connection: Connection, names: Iterable[tuple[str, str]]) -> Evidence:
    """Collect evidence about those tables of ``names`` (schema, table) that exist. Raises SourceError."""
    described = catalogue.load(connection, names)
    oids = [table.oid for table in described.values()]
    null_shares = defaultdict[int, dict[str, float]](dict)
    with connection.cursor() as cursor:
        cursor.execute(_ACTIVITY, {"oids": oids})
        activity = {oid: rest for oid, *rest in cursor.fetchall()}
        cursor.execute(_STATISTICS, {"oids": [table.oid for table in described.values() if not table.undecodable]})
        for oid, name, null_share in cursor.fetchall():
            null_shares[oid][name] = null_share
        cursor.execute(_SERVER)
        ((now, since, xid, frozen_age, sees_sessions),) = cursor.fetchall()
    # The high 32 bits of the system identifier are the time of initdb in seconds (BootStrapXLOG).
    system_identifier, _ = control_data(connection)
    made_at = datetime.fromtimestamp(int(system_identifier) >> 32, UTC) if system_identifier else None
    age = (now - made_at) / timedelta(days=1) if made_at else 0
    per_day = xid / age if xid and age > 1 else None
    return Evidence(
        database=connection.info.dbname,
        taken_at=now.astimezone(UTC),
        server=publication.server(connection),
        since=since and since.astimezone(UTC),
        xids_per_day=per_day,
        days_to_wraparound=(WRAPAROUND - frozen_age) / per_day if per_day else None,
        sees_sessions=sees_sessions,
        tables=tuple(_table(described[name], activity, null_shares) for name in sorted(described)),
    )


def _table(table: SourceTable, found: dict[int, list[Any]], null_shares: dict[int, dict[str, float]]) -> TableEvidence:
    partitions, inserted, updated, hot, deleted, live, analysed_at, heap, toast, indexes, identities = found[table.oid]
    return TableEvidence(
        table=table,
        activity=Activity(inserted, updated, hot, deleted),
        rows=table.row_estimate or live,
        heap=heap,
        toast=toast,
        indexes=indexes,
        partitions=partitions,
        analysed_at=analysed_at and analysed_at.astimezone(UTC),
        replica_identities=tuple(identities or ()),
        null_shares=null_shares[table.oid],
    )
