"""Loads the source's catalogue, with a fixed number of queries for any number of tables."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from psycopg2.extensions import connection as Connection

from aurora_sync.model import plpgsql
from aurora_sync.model.column import Column
from aurora_sync.model.relation import SCHEMA, ColumnSequence, Index, SourceTable, Trigger
from aurora_sync.source.catalogue_triggers import OUTBOXES, TRIGGERS, outbox_of
from aurora_sync.source.decoding import readable, shown
from aurora_sync.source.outbox import EMPTIED, XID
from aurora_sync.source.table_names import misnamed

# Members are the leaves that hold rows, including the relation itself.
_RELATIONS = """
WITH RECURSIVE wanted AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind, c.relnamespace
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest(%(schemas)s::text[], %(names)s::text[]))
       AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), tree(root, oid) AS (
    SELECT oid, oid FROM wanted
    UNION SELECT t.root, i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
), reads AS (
    SELECT oid AS root, oid, relkind FROM wanted WHERE relkind IN ('v', 'm')
    UNION
    SELECT r.root, c.oid, c.relkind FROM reads r JOIN pg_rewrite rule ON rule.ev_class = r.oid AND r.relkind = 'v'
      JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rule.oid
                      AND d.refclassid = 'pg_class'::regclass
      JOIN pg_class c ON c.oid = d.refobjid AND c.relkind IN ('v', 'm')
), leaves AS (
    SELECT t.root, array_agg(c.relkind::text) AS kinds, sum(greatest(c.reltuples, 0)) AS rows,
           sum(c.relpages::bigint) * current_setting('block_size')::bigint AS bytes,
           bool_or(c.relpersistence = 'u') AS unlogged
      FROM tree t JOIN pg_class c ON c.oid = t.oid WHERE c.relkind <> 'p' GROUP BY t.root
)
SELECT w.oid, w.nspname, w.relname, w.relkind::text, coalesce(l.kinds, '{}'),
       CASE WHEN %(notes)s THEN obj_description(w.oid, 'pg_class') END,
       coalesce(l.rows, 0)::bigint, coalesce(l.bytes, 0)::bigint,
       w.relkind IN ('r', 'p') AND row_security_active(w.oid),
       w.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = w.oid),
       EXISTS (SELECT FROM pg_subscription_rel s JOIN tree t ON t.oid = s.srrelid WHERE t.root = w.oid),
       coalesce(l.unlogged, false),
       has_schema_privilege(w.relnamespace, 'USAGE') AND has_table_privilege(w.oid, 'SELECT'),
       (SELECT coalesce(md5(string_agg(concat_ws(':', g.oid, g.xmin, p.oid, p.xmin), ',' ORDER BY g.oid)), '')
          FROM tree t JOIN pg_trigger g ON g.tgrelid = t.oid JOIN pg_proc p ON p.oid = g.tgfoid
         WHERE t.root = w.oid),
       ARRAY(SELECT format('%%I.%%I', n.nspname, c.relname) FROM reads r
               JOIN pg_class c ON c.oid = r.oid AND c.relkind = 'm' AND NOT c.relispopulated
               JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.root = w.oid ORDER BY 1)
  FROM wanted w LEFT JOIN leaves l ON l.root = w.oid
"""

# A domain is resolved to its base type, through any number of domains, with the modifier nearest to the base type.
_COLUMNS = """
WITH RECURSIVE base(oid, base, modifier) AS (
    SELECT DISTINCT atttypid, atttypid, -1 FROM pg_attribute WHERE attrelid = ANY(%(oids)s) AND attnum > 0
    UNION ALL
    SELECT b.oid, t.typbasetype, CASE WHEN t.typtypmod = -1 THEN b.modifier ELSE t.typtypmod END
      FROM base b JOIN pg_type t ON t.oid = b.base WHERE t.typtype = 'd'
)
SELECT a.attrelid, a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), t.typname,
       CASE WHEN a.atttypmod = -1 THEN b.modifier ELSE a.atttypmod END, t.typcategory::text,
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity::text, a.attgenerated <> '',
       CASE WHEN %(notes)s THEN col_description(a.attrelid, a.attnum) END, (a.attmissingval::text::text[])[1],
       has_column_privilege(a.attrelid, a.attnum, 'SELECT')
  FROM pg_attribute a
  JOIN base b ON b.oid = a.atttypid
  JOIN pg_type t ON t.oid = b.base AND t.typtype <> 'd'
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = ANY(%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attrelid, a.attnum
"""

_COLUMN_BYTES = """
SELECT attnum, convert_to(attname, getdatabaseencoding()) FROM pg_attribute
 WHERE attrelid = %(oid)s AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_COLUMN_TEXTS = """
SELECT attname, format_type(atttypid, atttypmod), pg_get_expr(adbin, adrelid), attmissingval::text
  FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
 WHERE attrelid = %(oid)s AND attnum = ANY(%(places)s)
"""

_INDEXES = """
SELECT i.indrelid,
       ARRAY(SELECT coalesce(a.attname, '') FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
               LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0
              WHERE k.place <= i.indnkeyatts ORDER BY k.place)::text[],
       i.indisunique, i.indisprimary, i.indimmediate, i.indpred IS NOT NULL, i.indisvalid
  FROM pg_index i WHERE i.indrelid = ANY(%(oids)s) ORDER BY i.indrelid, NOT i.indisprimary, i.indexrelid
"""

# The sequence of a column: of an identity column (internal dependency), or named by the column's default.
_SEQUENCES = """
SELECT used.relid, used.attname, format('%%I.%%I', n.nspname, c.relname), s.seqcache, s.seqincrement, s.seqcycle,
       c.oid || ':' || c.relfilenode
  FROM (SELECT d.refobjid AS relid, a.attname, d.objid AS seqid
          FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
           AND d.deptype = 'i' AND d.refobjid = ANY(%(oids)s)
        UNION
        SELECT def.adrelid, a.attname, d.refobjid
          FROM pg_attrdef def
          JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = def.oid
                          AND d.refclassid = 'pg_class'::regclass
          JOIN pg_attribute a ON a.attrelid = def.adrelid AND a.attnum = def.adnum
         WHERE def.adrelid = ANY(%(oids)s)) used
  JOIN pg_sequence s ON s.seqrelid = used.seqid
  JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
"""

_NEXTVAL = re.compile(r"nextval\(E?'(?:[^']|'')*'::regclass\)")


def load(connection: Connection, names: Iterable[tuple[str, str]], *, notes: bool = True) -> dict[str, SourceTable]:
    """Load the tables that exist among ``names``, by ``schema.name``. Six queries suffice for any number of names, if
    every text can be decoded.

    If comments or trigger texts of a table cannot be decoded, it is loaded without them (``notes``). If names or
    defaults of its columns cannot be decoded, it is loaded without columns, and ``undecodable`` has the reason.
    """
    wanted = list(names)
    relations, undecodable = readable(
        connection,
        _RELATIONS,
        wanted,
        lambda some: {"schemas": [schema for schema, _ in some], "names": [name for _, name in some], "notes": notes},
    )
    oids = [row[0] for row in relations]
    faults: dict[int, str] = {}
    columns = _by_relation(connection, _COLUMNS, oids, faults, notes=notes)
    indexes = _by_relation(connection, _INDEXES, oids, faults)
    sequences = _by_relation(connection, _SEQUENCES, oids, faults)
    triggers = _by_relation(connection, TRIGGERS, oids, faults, clocks=list(plpgsql.CLOCKS), notes=notes)
    outboxes = _by_relation(connection, OUTBOXES, oids, faults, schema=SCHEMA, ours=[XID, EMPTIED])
    tables = {}
    for row in relations:
        oid, schema, name, kind = row[:4]
        undecodable |= {(schema, name): faults[oid]} if oid in faults else {}
        if oid in faults:
            why = _undecodable_columns(connection, oid) or "a name in its definition"
            why = f"{why} cannot be read as UTF-8: {faults[oid]}; correct it in a session with its client_encoding"
            tables[f"{schema}.{name}"] = _without_columns(schema, name, oid, kind, why)
        else:
            found = columns[oid], indexes[oid], sequences[oid], triggers[oid], outboxes[oid]
            tables[f"{schema}.{name}"] = _table(row, *found, notes=notes)
    if notes and undecodable:
        tables |= load(connection, undecodable, notes=False)
    missing = [(schema, name) for schema, name in wanted if "\\" in schema + name and f"{schema}.{name}" not in tables]
    return tables | (_misnamed(connection, missing) if missing else {})


def _table(
    relation: tuple[Any, ...],
    columns: list[tuple[Any, ...]],
    indexes: list[tuple[Any, ...]],
    sequences: list[tuple[Any, ...]],
    triggers: list[tuple[Any, ...]],
    outboxes: list[tuple[Any, ...]],
    *,
    notes: bool,
) -> SourceTable:
    oid, schema, name, kind, kinds, comment, rows, size, secured, inherits, subscribed, *rest = relation
    unlogged, select, touched, unpopulated = rest
    described = tuple(Column(*column[:-1]) for column in columns)
    made = {column.name: column for column in described}
    return SourceTable(
        schema=schema,
        name=name,
        oid=oid,
        kind=kind,
        columns=described,
        indexes=tuple(Index(tuple(index[0]), *index[1:]) for index in indexes),
        member_kinds=tuple(kinds),
        comment=comment,
        row_estimate=rows,
        size_bytes=size,
        row_security=secured,
        inherits=inherits,
        subscribed=subscribed,
        unlogged=unlogged,
        readable=select or all(column[-1] for column in columns),
        select_on_table=select,
        sequences={
            column: ColumnSequence(*sequence)
            for column, *sequence in sequences
            if made[column].identity or _NEXTVAL.fullmatch(made[column].default or "")
        },
        triggers=tuple(Trigger(*trigger) for trigger in triggers),
        trigger_version=touched,
        outbox=outbox_of(described, outboxes),
        unpopulated=tuple(unpopulated),
        notes=notes,
    )


def _misnamed(connection: Connection, spelled: Collection[tuple[str, str]]) -> dict[str, SourceTable]:
    """Load the tables whose names cannot be decoded, by the names that table_names.existing() lists."""
    why = (
        "its name, or that of its schema, cannot be read as UTF-8; rename it (ALTER TABLE ... RENAME) in a session"
        " whose client_encoding is that of the name"
    )
    found = misnamed(connection, spelled)
    return {f"{schema}.{name}": _without_columns(schema, name, oid, kind, why) for oid, kind, schema, name in found}


def _undecodable_columns(connection: Connection, oid: int) -> str:
    """Name the columns whose name or default cannot be decoded."""
    found = _rows(connection, _COLUMN_BYTES, {"oid": oid})
    _, faults = readable(connection, _COLUMN_TEXTS, [place for place, _ in found], lambda a: {"oid": oid, "places": a})
    names = [shown(bytes(name)) for place, name in found if place in faults]
    return f"the name or the default of column {', '.join(names)}" if names else ""


def _without_columns(schema: str, name: str, oid: int, kind: str, why: str) -> SourceTable:
    return SourceTable(schema, name, oid, kind, columns=(), indexes=(), member_kinds=(kind,), undecodable=why)


def _rows(connection: Connection, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, parameters or {})
        return cursor.fetchall()


def _by_relation(
    connection: Connection, query: str, oids: list[int], faults: dict[int, str], **more: Any
) -> defaultdict[int, list[tuple[Any, ...]]]:
    grouped: defaultdict[int, list[tuple[Any, ...]]] = defaultdict(list)
    rows, undecodable = readable(connection, query, oids, lambda some: {"oids": some, **more})
    faults |= undecodable
    for oid, *rest in rows:
        grouped[oid].append(tuple(rest))
    return grouped
