"""Catalogue queries for triggers, and for the outboxes that the triggers of aurora_sync fill."""

from __future__ import annotations

from typing import Any

from aurora_sync.model.column import Column
from aurora_sync.model.relation import Outbox
from aurora_sync.source.outbox import needs_settings

# A trigger with a WHEN clause or UPDATE OF columns does not fire for every row, so it does not count as firing. Nor
# does a trigger of one partition only, or one whose copy is disabled in a partition; copies have the original's name.
# A trigger for DELETE alone (neither tgtype 4 nor 16) writes no row, and is left out. pg_catalog is searched first
# unless search_path names it after another schema.
TRIGGERS = """
WITH RECURSIVE tree(root, oid) AS (
    SELECT oid, oid FROM unnest(%(oids)s::oid[]) oid
    UNION SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
), copies AS (
    SELECT t.root, g.tgname, bool_or(g.tgenabled <> 'D') AS enabled, bool_and(g.tgenabled = 'A') AS always,
           bool_and(g.tgenabled IN ('O', 'A')) AS fires
      FROM tree t JOIN pg_trigger g ON g.tgrelid = t.oid GROUP BY t.root, g.tgname
)
SELECT r.root, t.tgname, t.tgtype & 2 <> 0, t.tgtype & 1 <> 0,
       t.tgtype & 4 <> 0 AND t.tgqual IS NULL AND r.oid = r.root AND c.fires,
       t.tgtype & 16 <> 0 AND t.tgqual IS NULL AND cardinality(t.tgattr::int2[]) = 0
           AND r.oid = r.root AND c.fires,
       c.enabled, CASE WHEN %(notes)s THEN p.prosrc ELSE '' END,
       CASE WHEN %(notes)s THEN l.lanname ELSE 'not readable' END, c.always,
       EXISTS (SELECT FROM pg_proc WHERE proname = ANY(%(clocks)s) AND pronamespace <> 'pg_catalog'::regnamespace)
           OR EXISTS (SELECT FROM unnest(p.proconfig) setting
                       WHERE setting ~* '^search_path=.*pg_catalog'
                         AND setting !~* '^search_path="?pg_catalog"?(,|$)')
  FROM tree r JOIN pg_trigger t ON t.tgrelid = r.oid JOIN copies c ON c.root = r.root AND c.tgname = t.tgname
  JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_language l ON l.oid = p.prolang
 WHERE NOT t.tgisinternal AND t.tgtype & 20 <> 0 AND (r.oid = r.root OR t.tgparentid = 0)
 ORDER BY r.root, t.tgname, r.oid
"""

# A trigger that fills an outbox fires after every row that is written (tgtype 29). Its function is in our schema, with
# the name of the outbox. DELETE and UPDATE on the outbox do not change its relfilenode; triggers of the outbox itself,
# after every DELETE (8) and UPDATE (16), detect them.
OUTBOXES = """
WITH RECURSIVE tree(root, oid) AS (
    SELECT oid, oid FROM unnest(%(oids)s::oid[]) oid
    UNION SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
), fired AS (
    SELECT g.oid, g.xmin, g.tgrelid, g.tgenabled = 'A' AND g.tgqual IS NULL
                                     AND cardinality(g.tgattr::int2[]) = 0 AS always,
           p.oid AS function, p.xmin AS function_xmin, cardinality(p.proconfig) > 1 AS has_settings,
           n.oid AS schema, o.oid AS outbox, o.relname, o.relfilenode, w.events, w.version
      FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
      JOIN pg_namespace n ON n.oid = p.pronamespace AND n.nspname = %(schema)s
      JOIN pg_class o ON o.relnamespace = n.oid AND o.relname = p.proname AND o.relkind = 'r'
      CROSS JOIN LATERAL (SELECT bit_or(t.tgtype) FILTER (WHERE t.tgenabled = 'A') AS events,
                                 string_agg(concat_ws(':', t.oid, t.xmin), ',' ORDER BY t.oid) AS version
                            FROM pg_trigger t WHERE t.tgrelid = o.oid AND t.tgfoid = p.oid) w
     WHERE g.tgtype = 29
)
SELECT t.root, min(f.relname::text),
       (SELECT array_agg(attname ORDER BY attnum) FROM pg_attribute
         WHERE attrelid = min(f.outbox) AND attnum > 0 AND NOT attisdropped AND attname <> ALL(%(ours)s))::text[],
       bool_and(coalesce(f.always, false)) AND count(DISTINCT f.outbox) = 1,
       bool_and(CASE WHEN f.oid IS NULL THEN true
                     ELSE has_schema_privilege(f.schema, 'USAGE') AND has_table_privilege(f.outbox, 'SELECT')
                          AND has_table_privilege(f.outbox, 'DELETE')
                          AND has_any_column_privilege(f.outbox, 'INSERT')
                          AND has_any_column_privilege(f.outbox, 'UPDATE') END),
       bool_and(coalesce(f.has_settings, false)),
       md5(string_agg(concat_ws(':', f.oid, f.xmin, f.function, f.function_xmin, f.outbox, f.relfilenode, f.version),
                      ',' ORDER BY f.oid)),
       bool_and(coalesce(f.events = 24, false))
  FROM tree t JOIN pg_class c ON c.oid = t.oid AND c.relkind <> 'p' LEFT JOIN fired f ON f.tgrelid = t.oid
 GROUP BY t.root HAVING count(f.oid) > 0
"""


def outbox_of(columns: tuple[Column, ...], found: list[tuple[Any, ...]]) -> Outbox | None:
    """Return the outbox of a table with these columns, from its row of OUTBOXES; None if it has none."""
    for name, key, fires, usable, has_settings, version, watched in found:
        complete = fires and (has_settings or not needs_settings(columns, key))
        return Outbox(name, tuple(key), complete, usable, version, watched)
    return None
