"""Lists the tables of the source, including those whose names cannot be decoded, and matches names to patterns."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from psycopg2.extensions import connection as Connection

from aurora_sync.errors import ConfigError
from aurora_sync.model.relation import SCHEMA
from aurora_sync.source.decoding import readable, shown

# Names as the bytes that the catalogue stores, which the server can always send.
_BYTES = """
SELECT c.oid, c.relkind::text, convert_to(n.nspname, getdatabaseencoding()),
       convert_to(c.relname, getdatabaseencoding())
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', %(ours)s) AND n.nspname NOT LIKE 'pg\\_toast%%'
 ORDER BY n.nspname, c.relname
"""
_NAMES = """
SELECT c.oid, n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY(%(oids)s)
"""


def existing(connection: Connection) -> list[tuple[str, str]]:
    """List (schema, name) of every table, view, materialized view and foreign table, except partitions and the tables
    of aurora_sync. A name that cannot be decoded is spelled by :func:`~aurora_sync.source.decoding.shown`."""
    found = _as_bytes(connection)
    rows, faults = readable(connection, _NAMES, [oid for oid, *_ in found], lambda oids: {"oids": oids})
    names = {oid: (schema, name) for oid, schema, name in rows}
    names |= {oid: _spelled(schema, name) for oid, _, schema, name in found if oid in faults}
    return [names[oid] for oid, *_ in found if oid in names]


def matching(existing: Collection[tuple[str, str]], patterns: Collection[str]) -> list[tuple[str, str]]:
    """Return the elements of ``existing`` that match a pattern, a glob of the name or of ``schema.name``; all of them
    if there is no pattern. Raises ConfigError with every pattern that matches nothing."""

    def matches(schema: str, name: str, pattern: str) -> bool:
        return any(text == pattern or fnmatchcase(text, pattern) for text in (name, f"{schema}.{name}"))

    unmatched = [p for p in patterns if not any(matches(schema, name, p) for schema, name in existing)]
    if unmatched:
        raise ConfigError(
            [f"the database has no table {pattern!r} that is visible to this role" for pattern in unmatched]
        )
    return [(s, n) for s, n in existing if not patterns or any(matches(s, n, p) for p in patterns)]


def misnamed(connection: Connection, spelled: Collection[tuple[str, str]]) -> list[tuple[int, str, str, str]]:
    """Return oid, kind, schema and name of tables whose names cannot be decoded; ``spelled`` has the names as
    :func:`existing` lists them."""
    named = [(oid, kind, *_spelled(*name)) for oid, kind, *name in _as_bytes(connection)]
    return [(oid, kind, schema, name) for oid, kind, schema, name in named if (schema, name) in spelled]


def _as_bytes(connection: Connection) -> list[tuple[int, str, memoryview, memoryview]]:
    with connection.cursor() as cursor:
        cursor.execute(_BYTES, {"ours": SCHEMA})
        return cursor.fetchall()


def _spelled(schema: memoryview, name: memoryview) -> tuple[str, str]:
    return shown(bytes(schema)), shown(bytes(name))
