"""The snapshot, and its identity token: facts about the server, the table, and the names that its types print.

strategies/identity.py compares the token with that of the previous run (correctness.md, sections 2 and 14).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from psycopg2.extensions import cursor as Cursor

from aurora_sync.model.fences import ClockOffset
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Snapshot, Token

_SNAPSHOT = """
SELECT pg_snapshot_xmin(s)::text::bigint, pg_snapshot_xmax(s)::text::bigint, clock_timestamp(),
       current_setting('server_version_num')::int / 10000,
       (SELECT oid FROM pg_database WHERE datname = current_database()),
       pg_postmaster_start_time()::text, pg_is_in_recovery(),
       coalesce((SELECT stats_reset::text FROM pg_stat_bgwriter), '')
  FROM pg_current_snapshot() s
"""

# Leaves that a SELECT of the table reads. A leaf whose DETACH ... CONCURRENTLY waits for readers is still listed, but
# not read any more. The version (xmin) of the pg_inherits row changes when a leaf is detached and attached again.
# Servers before PostgreSQL 14 have no inhdetachpending.
_MEMBERS = """
WITH RECURSIVE tree(oid, attached) AS (
    SELECT %(oid)s::oid, ''
    UNION ALL
    SELECT i.inhrelid, concat_ws(':', nullif(t.attached, ''), i.xmin)
      FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
     WHERE coalesce(to_jsonb(i) ->> 'inhdetachpending', 'false') = 'false'
)
SELECT c.oid, c.relfilenode, string_agg(t.attached, ',' ORDER BY t.attached)
  FROM tree t JOIN pg_class c ON c.oid = t.oid WHERE c.relkind <> 'p' GROUP BY c.oid, c.relfilenode
"""


# Facts outside of a row that decide how its values are printed, for every type that the columns' types are built from
# (domains, arrays, composite types, ranges):
# - label, type: labels of enums, attributes of composite types, and one digest per reg* type of all names it may print.
# - columns: versions (xmin) of the columns, attributes and labels, and of the catalogue rows with such names. An ALTER
#   that is reverted leaves new versions; a stream has the texts of the moment of each change. Only superusers see the
#   versions of roles, whose names a regrole prints (strategies/base.py).
# - named: a feed that finds the table by its name misses changes while the table has another name. RENAME and SET
#   SCHEMA make a new version of the table's pg_type row, which hardly any other statement touches.
_NAMES = """
WITH RECURSIVE used(oid) AS (
    SELECT atttypid FROM pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT part.oid FROM used JOIN pg_type t ON t.oid = used.oid, LATERAL (
        VALUES (t.typbasetype), (t.typelem)
        UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = t.oid
        UNION ALL SELECT atttypid FROM pg_attribute
                   WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped) part(oid)
)
, reg(name) AS (
    SELECT t.typname FROM used JOIN pg_type t ON t.oid = used.oid
     WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typname LIKE 'reg%%'
)
SELECT 'columns', '', md5(string_agg(concat_ws(' ', owner, part, version), ',' ORDER BY owner, part)) FROM (
    SELECT attrelid, attnum::bigint, xmin FROM pg_attribute WHERE attnum > 0 AND attrelid IN (
        SELECT %s::oid UNION ALL SELECT t.typrelid FROM used JOIN pg_type t ON t.oid = used.oid AND t.typtype = 'c')
    UNION ALL
    SELECT enumtypid, e.oid::bigint, e.xmin FROM used JOIN pg_enum e ON e.enumtypid = used.oid
    UNION ALL
    SELECT n.tableoid, n.oid::bigint, n.xmin FROM pg_namespace n
     WHERE n.nspname NOT LIKE 'pg\\_t%%' AND EXISTS (SELECT FROM reg WHERE name <> 'regrole')
    UNION ALL
    SELECT c.tableoid, c.oid::bigint, c.xmin FROM pg_class c
     WHERE c.relpersistence <> 't' AND EXISTS (SELECT FROM reg WHERE name = 'regclass')
    UNION ALL
    SELECT p.tableoid, p.oid::bigint, p.xmin FROM pg_proc p
     WHERE EXISTS (SELECT FROM reg WHERE name IN ('regproc', 'regprocedure'))
    UNION ALL
    SELECT o.tableoid, o.oid::bigint, o.xmin FROM pg_operator o
     WHERE EXISTS (SELECT FROM reg WHERE name IN ('regoper', 'regoperator'))
    UNION ALL
    SELECT y.tableoid, y.oid::bigint, y.xmin FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
     WHERE n.nspname NOT LIKE 'pg\\_t%%'
       AND EXISTS (SELECT FROM reg WHERE name IN ('regtype', 'regprocedure', 'regoperator'))
    UNION ALL
    SELECT x.tableoid, x.oid::bigint, x.xmin FROM pg_ts_config x
     WHERE EXISTS (SELECT FROM reg WHERE name = 'regconfig')
    UNION ALL
    SELECT x.tableoid, x.oid::bigint, x.xmin FROM pg_ts_dict x
     WHERE EXISTS (SELECT FROM reg WHERE name = 'regdictionary')
    UNION ALL
    SELECT x.tableoid, x.oid::bigint, x.xmin FROM pg_collation x
     WHERE EXISTS (SELECT FROM reg WHERE name = 'regcollation')
) row(owner, part, version)
UNION ALL
SELECT 'label', e.oid::text, e.enumlabel FROM used JOIN pg_enum e ON e.enumtypid = used.oid
UNION ALL
SELECT 'type', t.oid::text, (SELECT string_agg(format('%%s %%s', attnum, atttypid), ',' ORDER BY attnum)
                               FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped)
  FROM used JOIN pg_type t ON t.oid = used.oid AND t.typtype = 'c'
UNION ALL
SELECT 'type', t.oid::text, CASE
    WHEN t.typname = 'regclass' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', c.oid, c.relname, n.nspname), ',' ORDER BY c.oid))
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relpersistence <> 't')
    WHEN t.typname = 'regprocedure' THEN (
        SELECT md5(string_agg(format('%%s %%s', p.oid, p.oid::regprocedure), ',' ORDER BY p.oid)) FROM pg_proc p)
    WHEN t.typname = 'regoperator' THEN (
        SELECT md5(string_agg(format('%%s %%s', o.oid, o.oid::regoperator), ',' ORDER BY o.oid)) FROM pg_operator o)
    WHEN t.typname = 'regproc' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', p.oid, p.proname, n.nspname), ',' ORDER BY p.oid))
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace)
    WHEN t.typname = 'regoper' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', o.oid, o.oprname, n.nspname), ',' ORDER BY o.oid))
          FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace)
    WHEN t.typname = 'regtype' THEN (
        SELECT md5(string_agg(format('%%s %%s %%s', y.oid, y.typname, n.nspname), ',' ORDER BY y.oid))
          FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace
         WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = y.typrelid AND c.relpersistence = 't'))
    WHEN t.typname = 'regrole' THEN (
        SELECT md5(string_agg(format('%%s %%s', oid, rolname), ',' ORDER BY oid)) FROM pg_roles)
    WHEN t.typname = 'regnamespace' THEN (
        SELECT md5(string_agg(format('%%s %%s', oid, nspname), ',' ORDER BY oid)) FROM pg_namespace
         WHERE nspname NOT LIKE 'pg\\_t%%')
    ELSE (SELECT md5(string_agg(format('%%s %%s', oid, name), ',' ORDER BY oid))
            FROM (SELECT oid, cfgname AS name FROM pg_ts_config UNION ALL SELECT oid, dictname FROM pg_ts_dict
                  UNION ALL SELECT oid, collname FROM pg_collation) others) END
  FROM used JOIN pg_type t ON t.oid = used.oid
 WHERE t.typnamespace = 'pg_catalog'::regnamespace AND t.typtype = 'b' AND t.typname LIKE 'reg%%'
UNION ALL
SELECT 'named', '', concat_ws(':', t.xmin, n.xmin)
  FROM pg_class c JOIN pg_type t ON t.oid = c.reltype JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s
"""


@dataclass(frozen=True)
class Names:
    """Facts outside of the rows that decide how the table's values are printed (_NAMES)."""

    labels: dict[str, str]
    types: dict[str, str]
    columns: str
    named: str

    @classmethod
    def read(cls, cursor: Cursor, table: SourceTable) -> Names:
        cursor.execute(_NAMES, (table.oid,) * 3)
        found = cursor.fetchall()

        def version(kind: str) -> str:
            return next((name for each, _, name in found if each == kind), "") or ""

        return cls(
            labels={oid: name for kind, oid, name in found if kind == "label"},
            types={oid: name for kind, oid, name in found if kind == "type"},
            columns=version("columns"),
            named=version("named"),
        )


def relations(cursor: Cursor, table: SourceTable) -> list[int]:
    """Return the oids of the table and its leaves."""
    cursor.execute(_MEMBERS, {"oid": table.oid})
    return [table.oid, *(oid for oid, *_ in cursor.fetchall())]


def take_snapshot(
    cursor: Cursor, table: SourceTable, system_identifier: str, timeline: int
) -> tuple[Snapshot, ClockOffset, Token]:
    """Take the snapshot of the open transaction, and read the clock's offset and the token in it."""
    asked = datetime.now(UTC)
    cursor.execute(_SNAPSHOT)
    ((xmin, xmax, now, major, database_oid, started, in_recovery, counters_since),) = cursor.fetchall()
    offset = ClockOffset.of(asked, now, datetime.now(UTC))
    cursor.execute(_MEMBERS, {"oid": table.oid})
    leaves = cursor.fetchall()
    names = Names.read(cursor, table)
    token = Token(
        system_identifier=system_identifier,
        timeline=timeline,
        major=major,
        database_oid=database_oid,
        started=started,
        in_recovery=in_recovery,
        table_oid=table.oid,
        members={str(oid): filenode for oid, filenode, _ in leaves},
        attached={str(oid): attached for oid, _, attached in leaves if attached},
        counters_since=counters_since,
        labels=names.labels,
        types=names.types,
        columns=names.columns,
        named=names.named,
        attributes=max((column.attnum for column in table.columns), default=0),
    )
    return Snapshot(xmin, xmax, now), offset, token
