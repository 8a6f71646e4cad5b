"""Reads what logical replication depends on: settings of the server, the publication, replica identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import connection as Connection

from aurora_sync.source.decoding import UNDECODABLE, shown

_SERVER = """
SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level'), pg_is_in_recovery(),
       current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_replication_slots),
       current_setting('rds.logical_replication', true), current_setting('rds.logical_wal_cache', true),
       current_setting('max_slot_wal_keep_size'),
       (SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user)
           OR EXISTS (SELECT FROM pg_roles WHERE rolname = 'rds_replication'
                         AND pg_has_role(current_user, oid, 'MEMBER')),
       current_user
"""

_PUBLICATION = """
SELECT oid, puballtables, pubviaroot, pubinsert AND pubupdate AND pubdelete AND pubtruncate
  FROM pg_publication WHERE pubname = %s
"""
# Row filters and column lists exist since PostgreSQL 15.
_PARTS = """
SELECT prrelid, (to_jsonb(r) ->> 'prqual') IS NOT NULL OR (to_jsonb(r) ->> 'prattrs') IS NOT NULL, n.nspname, c.relname
  FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE prpubid = %s
"""

_PARTS_AS_BYTES = _PARTS.replace(
    "n.nspname, c.relname",
    "convert_to(n.nspname, getdatabaseencoding()), convert_to(c.relname, getdatabaseencoding())",
)

_LEAVES = """
WITH RECURSIVE tree(root, oid) AS (
    SELECT oid, oid FROM unnest(%s::oid[]) oid
    UNION SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT t.root, c.oid, n.nspname, c.relname, c.relreplident::text, pg_has_role(c.relowner, 'USAGE')
  FROM tree t JOIN pg_class c ON c.oid = t.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'
 ORDER BY t.root, n.nspname, c.relname
"""
# Indexes that can be a replica identity: unique, not partial, not deferrable, on NOT NULL columns.
_INDEXES = """
SELECT i.indrelid, c.relname, i.indisprimary, i.indisreplident,
       ARRAY(SELECT a.attname FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE k.place <= i.indnkeyatts)::text[]
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 WHERE i.indrelid = ANY(%s) AND i.indisunique AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL
   AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) k(attnum)
                     LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
                    WHERE k.attnum = 0 OR NOT a.attnotnull)
 ORDER BY i.indrelid, c.relname
"""
_ANCESTORS = """
SELECT leaf.oid, c.oid, format('%%s.%%s', n.nspname, c.relname)
  FROM unnest(%s::oid[]) leaf(oid), pg_partition_ancestors(leaf.oid) WITH ORDINALITY a(relid, place)
  JOIN pg_class c ON c.oid = a.relid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE a.relid <> leaf.oid ORDER BY leaf.oid, a.place
"""


@dataclass(frozen=True)
class Server:
    major: int
    wal_level: str
    in_recovery: bool
    free_slots: int
    rds_logical_replication: str | None  # None: not on RDS or Aurora
    rds_logical_wal_cache: str | None
    max_slot_wal_keep_size: str
    may_replicate: bool
    role: str


@dataclass(frozen=True)
class Publication:
    all_tables: bool
    via_root: bool  # changes of partitions are sent under the name of the published root
    all_operations: bool
    tables: dict[int, tuple[str, str]]  # oid -> schema and name of the tables that it lists
    filtered: frozenset[int]  # oids of tables with a row filter or a column list


@dataclass(frozen=True)
class Leaf:
    """A table that stores rows, with the columns that identify a row of its UPDATE and DELETE in the stream."""

    schema: str
    name: str
    identity: str  # pg_class.relreplident: d default, n nothing, f full, i index
    columns: frozenset[str] | None  # None: all; empty: none, so UPDATE and DELETE fail once it is published
    indexes: dict[str, frozenset[str]]  # columns of each index that can be its identity
    ours: bool  # this role may alter it


def server(connection: Connection) -> Server:
    with connection.cursor() as cursor:
        cursor.execute(_SERVER)
        (found,) = cursor.fetchall()
    return Server(*found)


def publication(connection: Connection, name: str) -> Publication | None:
    with connection.cursor() as cursor:
        cursor.execute(_PUBLICATION, (name,))
        found = cursor.fetchone()
        if found is None:
            return None
        oid, all_tables, via_root, all_operations = found
        try:
            cursor.execute(_PARTS, (oid,))
            parts = cursor.fetchall()
        except UNDECODABLE:  # possibly the name of another table
            cursor.execute(_PARTS_AS_BYTES, (oid,))
            parts = [(table, filtered, *(shown(bytes(name)) for name in names)) for table, filtered, *names in cursor]
    return Publication(
        all_tables,
        via_root,
        all_operations,
        {table: (schema, relation) for table, _, schema, relation in parts},
        frozenset(table for table, filtered, _, _ in parts if filtered),
    )


def ancestors(connection: Connection, oids: Sequence[int]) -> dict[int, dict[int, str]]:
    """Return the ancestors of each partition, the nearest first, as oid to ``schema.name``. A table that is not a
    partition has none."""
    found: dict[int, dict[int, str]] = {oid: {} for oid in oids}
    with connection.cursor() as cursor:
        cursor.execute(_ANCESTORS, (list(oids),))
        for leaf, oid, name in cursor.fetchall():
            found[leaf][oid] = name
    return found


def leaves(connection: Connection, oids: Sequence[int]) -> dict[int, list[Leaf]]:
    """Return the leaves of each table, by the table's oid. A table without partitions is its own leaf."""
    with connection.cursor() as cursor:
        cursor.execute(_LEAVES, (list(oids),))
        rows = cursor.fetchall()
        cursor.execute(_INDEXES, ([oid for _, oid, *_ in rows],))
        indexes = cursor.fetchall()
    found: dict[int, list[Leaf]] = {oid: [] for oid in oids}
    for root, oid, schema, name, identity, ours in rows:
        mine = [
            (index, primary, used, frozenset(columns))
            for owner, index, primary, used, columns in indexes
            if owner == oid
        ]
        chosen = {"d": [c for _, primary, _, c in mine if primary], "i": [c for _, _, used, c in mine if used]}
        columns = None if identity == "f" else next(iter(chosen.get(identity, [])), frozenset())
        usable = {index: columns for index, _, _, columns in mine}
        found[root].append(Leaf(schema, name, identity, columns, usable, ours))
    return found
