"""Counters of the source for its tables, from the statistics of the server."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg2.extensions import connection as Connection

# A partitioned table has the sum of its partitions. A view has no counters.
_CHANGES = """
WITH RECURSIVE tree(number, oid) AS (
    SELECT w.number, c.oid
      FROM unnest(%(schemas)s::text[], %(names)s::text[]) WITH ORDINALITY w(schema, name, number)
      JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
    UNION SELECT t.number, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT t.number, sum(s.n_tup_ins + s.n_tup_upd + s.n_tup_del)::bigint
  FROM tree t JOIN pg_stat_all_tables s ON s.relid = t.oid GROUP BY 1 ORDER BY 1
"""


def row_changes(connection: Connection, tables: Sequence[tuple[str, str]]) -> dict[tuple[str, str], int]:
    """Return the number of rows inserted, updated and deleted in each table, pairs of (schema, name), since the
    statistics were reset. Changes of transactions that were rolled back count as well."""
    schemas, names = [schema for schema, _ in tables], [name for _, name in tables]
    with connection.cursor() as cursor:
        cursor.execute(_CHANGES, {"schemas": schemas, "names": names})
        return {tables[number - 1]: int(changes) for number, changes in cursor.fetchall()}
