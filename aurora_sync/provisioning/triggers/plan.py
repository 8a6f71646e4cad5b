"""Plan the steps that create the missing triggers of a table, and the steps that remove all of them.

============= ======================================================================================================
outbox        an outbox table, and row triggers that write the key of every changed row into it (source/outbox.py).
              The table itself does not change. Triggers on the outbox record rows that are removed from it by hand.
              For ``watermark_type: outbox``
audit_columns the columns ``created_at`` and ``updated_at``, and a trigger that sets them, whatever the application
              writes. Existing rows get an ``updated_at`` batch by batch (backfill.py). For
              ``watermark_type: timestamp``
============= ======================================================================================================

All new objects are in the schema ``aurora_sync``, except the triggers and columns of the table itself. Triggers are
ENABLE ALWAYS, so that replicated writes fire them as well. Their names begin with zzz: PostgreSQL fires triggers in the
order of their names, and our BEFORE trigger must be the last (correctness.md, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.engine.preflight import possible_key
from aurora_sync.errors import ConfigError
from aurora_sync.model.relation import SCHEMA, SourceTable
from aurora_sync.provisioning.triggers import audit_columns, outbox
from aurora_sync.provisioning.triggers.audit_columns import UPDATED
from aurora_sync.provisioning.triggers.installed import COLUMNS_TRIGGER, TriggerKind, find_installed
from aurora_sync.provisioning.triggers.steps import ALL_WAIT, CATALOGUE_ONLY, TriggerStep

# Duration of updates (one row, 10,000 rows) relative to a table without triggers: medians of ten rounds, two cores.
_COSTS = {TriggerKind.outbox: (1.2, 3.0), TriggerKind.audit_columns: (1.0, 1.4)}


def missing_steps(
    connection: Connection, table: SourceTable, kind: TriggerKind, *, reader: str, key: Sequence[str] | None = None
) -> list[TriggerStep]:
    """Return the steps that are still missing. Raises ConfigError if the triggers cannot be created.

    ``reader`` is the role that syncs; empty for the role of ``connection``. ``key`` is the merge key, if it is not the
    primary key.
    """
    installed = find_installed(connection, table, reader)
    if installed.foreign_owner:
        raise ConfigError(
            f"schema {SCHEMA}, or the outbox in it, belongs to {installed.foreign_owner}, which could use the trigger"
            f" to run any code as {installed.role}",
            where=table.qualified_name,
            hint="set AURORA_OWNER_DSN to a login of that role; or drop the schema, if nobody uses it",
        )
    if kind is TriggerKind.outbox:
        return list(outbox.missing_steps(table, installed, reader, tuple(key or outbox.key_of(table))))
    return list(audit_columns.missing_steps(table, installed))


def removal_steps(connection: Connection, table: SourceTable) -> list[TriggerStep]:
    """Return the steps that remove the triggers of both kinds and leave the table as it was before."""
    installed = find_installed(connection, table)
    relation, triggers = sql.Identifier(table.schema, table.name), installed.triggers
    steps: list[TriggerStep] = []
    # In one transaction, because only the trigger's arguments record which columns `apply` added.
    drop = [sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), relation) for trigger in triggers]
    columns = [name for name in triggers.get(COLUMNS_TRIGGER, ()) if table.column(name)]
    drop += [sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(relation, sql.Identifier(column)) for column in columns]
    if drop:
        named = f", and the columns that `apply` added: {', '.join(columns)}" if columns else ""
        lock = ALL_WAIT.format(table.qualified_name)
        steps.append(TriggerStep(f"drop {', '.join(triggers)}{named}", tuple(drop), lock))
    rest: list[sql.Composable] = []
    if installed.outbox:
        rest.append(sql.SQL("DROP TABLE {}").format(sql.Identifier(SCHEMA, installed.outbox_name)))
    rest += [sql.SQL("DROP FUNCTION {}()").format(sql.Identifier(SCHEMA, name)) for name in installed.functions]
    if installed.schema_is_ours and not installed.others:
        rest.append(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(SCHEMA)))
    if rest:
        steps.append(TriggerStep(f"drop the objects of these triggers in schema {SCHEMA}", tuple(rest), CATALOGUE_ONLY))
    return steps


def warnings(connection: Connection, table: SourceTable, kind: TriggerKind) -> list[str]:
    """Return what the owners of the application should know before the triggers are created."""
    with connection.cursor() as cursor:
        cursor.execute(
            _PUBLISHED_BY, {"outbox": kind is TriggerKind.outbox, "schema": table.schema, "name": table.name}
        )
        publications = ", ".join(name for (name,) in cursor.fetchall())
    one, many = _COSTS[kind]
    cost = (
        f"with the triggers, a write of one row took {one} times as long, and a statement that writes 10,000 rows"
        f" {many} times as long (benchmarks/triggers.py)"
    )
    of_kind = _outbox_warnings if kind is TriggerKind.outbox else _column_warnings
    return [cost, *of_kind(table, publications)]


def _outbox_warnings(table: SourceTable, publications: str) -> Iterator[str]:
    yield (
        f"if a column of the key ({', '.join(possible_key(table))}) is renamed or dropped, every write of"
        f" {table.qualified_name} fails: run `aurora-sync triggers remove` before, and `aurora-sync triggers"
        " apply` after the change"
    )
    if publications:
        yield f"{publications}, FOR ALL TABLES, publishes the outbox as well: create the outbox at subscribers first"


def _column_warnings(table: SourceTable, publications: str) -> Iterator[str]:
    yield "COPY without a list of columns, and SELECT *, contain the new columns at the end"
    yield (
        "the backfill writes every row once: WAL and dead space grow by the size of the table, and a transaction under"
        " REPEATABLE READ or SERIALIZABLE that updates a row of a batch fails and must be retried"
    )
    yield "audit columns do not show deletes: set `reconcile:` for the table in tables.yaml"
    yield (
        f"if {UPDATED} is renamed or dropped, every write of {table.qualified_name} fails: run `aurora-sync triggers"
        " remove` before"
    )
    if table.column(UPDATED) and COLUMNS_TRIGGER not in {trigger.name for trigger in table.triggers}:
        yield f"the table already has {UPDATED}: the column and its values stay when the triggers are removed"
    if others := [t.name for t in table.triggers if t.on_update and t.enabled and not t.name.startswith("zzz_aurora")]:
        yield f"the backfill fires triggers of the table: {', '.join(others)}"
    if publications:
        yield f"the table is published by {publications}: add the new columns at each subscriber first"


# The outbox may not exist yet: only a publication FOR ALL TABLES will contain it.
_PUBLISHED_BY = """
SELECT p.pubname FROM pg_publication p
 WHERE CASE WHEN %(outbox)s THEN p.puballtables
            ELSE EXISTS (SELECT FROM pg_publication_tables t
                          WHERE (t.pubname, t.schemaname, t.tablename) = (p.pubname, %(schema)s, %(name)s)) END
 ORDER BY 1
"""
