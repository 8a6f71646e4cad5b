"""Read from the catalogue which triggers, functions and outbox aurora_sync has installed for a table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from psycopg2.extensions import connection as Connection

from aurora_sync.model.relation import SCHEMA, SourceTable
from aurora_sync.source.outbox import EMPTIED, XID, name_of

ROW_TRIGGER, TRUNCATE_TRIGGER, COLUMNS_TRIGGER = "zzz_aurora_sync_row", "zzz_aurora_sync_truncate", "zzz_aurora_sync"
WATCHES = {"zzz_aurora_sync_deleted": "DELETE", "zzz_aurora_sync_updated": "UPDATE"}  # triggers on the outbox itself
SCHEMA_COMMENT = "made by aurora-sync triggers"


class TriggerKind(StrEnum):
    outbox = "outbox"
    audit_columns = "audit_columns"


@dataclass(frozen=True)
class InstalledTriggers:
    """Installed parts of both kinds, complete or not, and the names for missing parts."""

    outbox_name: str  # also the name of its trigger function
    audit_name: str  # name of the trigger function of audit columns
    schema: bool
    schema_is_ours: bool
    others: int  # number of tables and functions in the schema that belong to other tables
    outbox: tuple[str, ...] | None  # key columns of the outbox; None: there is no outbox
    functions: dict[str, tuple[str, bool]]  # name -> body, and if it pins more settings than search_path
    triggers: dict[str, tuple[str, ...]]  # triggers on the table itself -> their arguments
    watches: dict[str, str]  # triggers on the outbox itself -> pg_trigger.tgenabled
    role: str  # of the connection
    foreign_owner: str  # another role, no superuser, that owns the schema or the outbox; empty: none
    granted: bool  # the reader has the privileges on the outbox that it needs, and no more

    @property
    def kinds(self) -> list[TriggerKind]:
        outbox = {ROW_TRIGGER, TRUNCATE_TRIGGER} & set(self.triggers) or self.outbox
        return [
            *([TriggerKind.outbox] if outbox else []),
            *([TriggerKind.audit_columns] if COLUMNS_TRIGGER in self.triggers else []),
        ]


def find_installed(connection: Connection, table: SourceTable, reader: str = "") -> InstalledTriggers:
    """Look up what is installed for a table. ``reader`` is the role whose privileges on the outbox are checked."""
    with connection.cursor() as cursor:
        cursor.execute(_TABLE_TRIGGERS, (table.oid, SCHEMA))
        found = {name: (function, arguments) for name, function, arguments in cursor.fetchall()}
        cursor.execute(_FUNCTIONS_OF_OTHERS, (SCHEMA, table.oid))
        taken = {name for (name,) in cursor.fetchall()}

        def chosen(trigger: str, schema: str) -> str:
            """Return the name of the trigger's function.

            A function keeps the name of a table that was renamed; a new table of that name needs another one.
            """
            if trigger in found:
                return str(found[trigger][0])
            name = name_of(schema, table.name)
            return name if name not in taken else name_of(schema, f"{table.name}.{table.oid}")

        outbox, audit = chosen(ROW_TRIGGER, table.schema), chosen(COLUMNS_TRIGGER, f"columns of {table.schema}")
        names = [outbox, audit]
        cursor.execute(
            _SCHEMA_AND_OUTBOX,
            {"schema": SCHEMA, "outbox": outbox, "names": names, "ours": [XID, EMPTIED]}
            | {"comment": SCHEMA_COMMENT, "reader": reader},
        )
        ((exists, ours, others, key, role, foreign_owner, granted),) = cursor.fetchall()
        cursor.execute(_OUTBOX_TRIGGERS, (SCHEMA, outbox, list(WATCHES)))
        watches = dict(cursor.fetchall())
        cursor.execute(_FUNCTIONS, (SCHEMA, names))
        functions = {name: (body, pinned) for name, body, pinned in cursor.fetchall()}
    return InstalledTriggers(
        outbox_name=outbox,
        audit_name=audit,
        schema=exists,
        schema_is_ours=ours,
        others=others,
        outbox=key and tuple(key),
        functions=functions,
        triggers={name: tuple(a for a in arguments.split("\\000") if a) for name, (_, arguments) in found.items()},
        watches=watches,
        role=role,
        foreign_owner=foreign_owner,
        granted=granted,
    )


_SCHEMA_AND_OUTBOX = """
SELECT n.oid IS NOT NULL, coalesce(obj_description(n.oid, 'pg_namespace') = %(comment)s, false),
       (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid AND relkind IN ('r', 'v', 'p', 'S', 'm', 'f')
                                        AND relname <> %(outbox)s)
       + (SELECT count(*) FROM pg_proc WHERE pronamespace = n.oid AND proname <> ALL(%(names)s)),
       (SELECT array_agg(attname ORDER BY attnum)::text[] FROM pg_attribute
         WHERE attrelid = o.oid AND attnum > 0 AND NOT attisdropped AND attname <> ALL(%(ours)s)),
       current_user,
       coalesce((SELECT rolname FROM pg_roles WHERE oid IN (n.nspowner, o.relowner) AND NOT rolsuper
                    AND rolname <> current_user LIMIT 1), ''),
       coalesce(o.oid IS NOT NULL AND r.oid IS NOT NULL AND has_schema_privilege(r.oid, n.oid, 'USAGE')
                AND has_table_privilege(r.oid, o.oid, 'SELECT') AND has_table_privilege(r.oid, o.oid, 'DELETE')
                AND has_any_column_privilege(r.oid, o.oid, 'INSERT')
                AND has_any_column_privilege(r.oid, o.oid, 'UPDATE')
                AND NOT EXISTS (SELECT FROM aclexplode(o.relacl) a
                                 WHERE a.grantee = r.oid AND a.privilege_type IN ('INSERT', 'UPDATE')), false)
  FROM (SELECT) one LEFT JOIN pg_namespace n ON n.nspname = %(schema)s
  LEFT JOIN pg_class o ON o.relnamespace = n.oid AND o.relname = %(outbox)s AND o.relkind = 'r'
  LEFT JOIN pg_roles r ON r.rolname = %(reader)s
"""

_OUTBOX_TRIGGERS = """
SELECT g.tgname, g.tgenabled::text
  FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND g.tgname = ANY(%s)
"""

_FUNCTIONS = """
SELECT p.proname, p.prosrc, coalesce(cardinality(p.proconfig) > 1, false)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = %s AND p.proname = ANY(%s)
"""

_TABLE_TRIGGERS = """
SELECT g.tgname, p.proname, encode(g.tgargs, 'escape') FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE g.tgrelid = %s AND n.nspname = %s ORDER BY g.tgname
"""

# Triggers on an outbox are left out, because they belong to the table of the outbox.
_FUNCTIONS_OF_OTHERS = """
SELECT p.proname FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = %s AND g.tgrelid <> %s AND g.tgparentid = 0
   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = g.tgrelid AND c.relnamespace = n.oid)
"""
