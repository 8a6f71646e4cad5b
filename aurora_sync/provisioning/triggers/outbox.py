"""The outbox of a table (source/outbox.py): its table, its trigger function, and the triggers that call it."""

# ruff: noqa: S608 - every name in a body went through _quoted()

from __future__ import annotations

from collections.abc import Iterator, Sequence

from psycopg2 import sql

from aurora_sync.engine.preflight import possible_key
from aurora_sync.errors import ConfigError
from aurora_sync.model.relation import SCHEMA, SourceTable
from aurora_sync.provisioning.triggers.installed import ROW_TRIGGER, TRUNCATE_TRIGGER, WATCHES, InstalledTriggers
from aurora_sync.provisioning.triggers.steps import ALL_WAIT, CATALOGUE_ONLY, WRITERS_WAIT, TriggerStep, schema_step
from aurora_sync.source.connection import TEXT_SETTINGS
from aurora_sync.source.outbox import EMPTIED, NOTHING, TAMPERED, XID, needs_settings
from aurora_sync.strategies.outbox import ambiguous

# Trigger -> its events, and its level: row or statement.
_TRIGGERS = {ROW_TRIGGER: ("INSERT OR UPDATE OR DELETE", "ROW"), TRUNCATE_TRIGGER: ("TRUNCATE", "STATEMENT")}

# Rows come and go all the time: autovacuum must start by a number of dead rows, not by a share of the table.
_CREATE_TABLE = (
    "CREATE TABLE {} ({}, {}) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000)"
)
_CREATE_FUNCTION = (
    "CREATE OR REPLACE FUNCTION {} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
    " SET search_path = pg_catalog, pg_temp {} AS {}"
)
_CREATE_TRIGGER = "CREATE TRIGGER {} AFTER {} ON {} FOR EACH {} EXECUTE FUNCTION {}"
# PostgreSQL allows only one event for a trigger with a transition table.
_CREATE_WATCH = (
    "CREATE TRIGGER {trigger} AFTER {event} ON {outbox} REFERENCING OLD TABLE AS gone"
    " FOR EACH STATEMENT EXECUTE FUNCTION {function}"
)


def key_of(table: SourceTable) -> tuple[str, ...]:
    """Return the key columns for an outbox. Raises ConfigError if the table has no key, or cannot have row triggers."""
    key = possible_key(table)
    problems = ambiguous(table, key)
    if not table.is_heap:
        problems = ["only a table without foreign partitions can have the row triggers of an outbox"]
    elif not key:
        problems = ["the table has no primary key, and no unique index on columns that are NOT NULL"]
    if problems:
        raise ConfigError(
            problems,
            where=table.qualified_name,
            hint=f"run `aurora-sync assess {table.qualified_name}` to see the strategies that suit the table",
        )
    return key


def missing_steps(
    table: SourceTable, installed: InstalledTriggers, reader: str, key: tuple[str, ...]
) -> Iterator[TriggerStep]:
    """Yield the steps that create the missing parts of an outbox. Raises ConfigError if the outbox has another key."""
    if installed.outbox is not None and set(installed.outbox) != set(key):
        raise ConfigError(
            f"its outbox has the key ({', '.join(installed.outbox)}), but the table has the key ({', '.join(key)})",
            where=table.qualified_name,
            hint="run `aurora-sync triggers remove`, and then `aurora-sync triggers apply`",
        )
    yield from schema_step(installed)
    if installed.outbox is None:
        yield _create_outbox(installed.outbox_name, key)
    body, pinned = _body(installed.outbox_name, key), needs_settings(table.columns, key)
    if installed.functions.get(installed.outbox_name) not in ((body, pinned), (body, True)):
        yield _create_function(installed.outbox_name, body, pinned)
    if [installed.watches.get(trigger) for trigger in WATCHES] != ["A", "A"]:
        yield _create_watches(installed)
    if reader not in ("", installed.role) and not installed.granted:
        yield _grant(installed.outbox_name, reader)
    found = table.outbox
    if not (found and found.complete and _TRIGGERS.keys() <= installed.triggers.keys()):
        yield _create_triggers(table, installed)


def _create_outbox(name: str, key: tuple[str, ...]) -> TriggerStep:
    outbox = sql.Identifier(SCHEMA, name)
    columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column)) for column in key)
    ours = sql.SQL("{} xid8, {} pg_snapshot").format(sql.Identifier(XID), sql.Identifier(EMPTIED))
    create = sql.SQL(_CREATE_TABLE).format(outbox, columns, ours)
    first = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(outbox, sql.Identifier(EMPTIED), sql.Literal(NOTHING))
    # Otherwise a publication FOR ALL TABLES would make every DELETE from the outbox fail.
    identity = sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(outbox)
    undo = (sql.SQL("DROP TABLE {}").format(outbox),)
    return TriggerStep(f"create the outbox, table {SCHEMA}.{name}", (create, identity, first), CATALOGUE_ONLY, undo)


def _create_function(name: str, body: str, pinned: bool) -> TriggerStep:
    settings = [
        sql.SQL("SET {} TO {}").format(sql.Identifier(setting), sql.Literal(to))
        for setting, to in (TEXT_SETTINGS if pinned else {}).items()
    ]
    function = _function(name)
    create = sql.SQL(_CREATE_FUNCTION).format(function, sql.SQL(" ").join(settings), sql.Literal(body))
    undo = (sql.SQL("DROP FUNCTION {}").format(function),)
    # PUBLIC keeps EXECUTE: a role that attaches a partition needs it. Calls by name also need USAGE of the schema.
    return TriggerStep(f"create the trigger function {SCHEMA}.{name}", (create,), CATALOGUE_ONLY, undo)


def _create_watches(installed: InstalledTriggers) -> TriggerStep:
    """Create the triggers on the outbox itself, which record rows that are removed by hand."""
    outbox, function = sql.Identifier(SCHEMA, installed.outbox_name), _function(installed.outbox_name)
    create, undo = [], []
    for trigger, event in WATCHES.items():
        names = {"trigger": sql.Identifier(trigger), "outbox": outbox, "function": function}
        if trigger not in installed.watches:
            create.append(sql.SQL(_CREATE_WATCH).format(event=sql.SQL(event), **names))
            undo.append(sql.SQL("DROP TRIGGER {trigger} ON {outbox}").format(**names))
        create.append(sql.SQL("ALTER TABLE {outbox} ENABLE ALWAYS TRIGGER {trigger}").format(**names))
    lock = WRITERS_WAIT.format(f"{SCHEMA}.{installed.outbox_name}")
    return TriggerStep("create the triggers that record manual changes of the outbox", tuple(create), lock, tuple(undo))


def _grant(name: str, reader: str) -> TriggerStep:
    outbox, role = sql.Identifier(SCHEMA, name), sql.Identifier(reader)
    # No right to write keys: with it, the role could make the sync read or delete rows that were not changed.
    grants = (
        sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(SCHEMA), role),
        sql.SQL("REVOKE ALL ON {} FROM {}").format(outbox, role),
        sql.SQL("GRANT SELECT, DELETE, INSERT ({0}), UPDATE ({0}) ON {1} TO {2}").format(
            sql.Identifier(EMPTIED), outbox, role
        ),
    )
    revoke = (sql.SQL("REVOKE ALL ON {} FROM {}").format(outbox, role),)
    return TriggerStep(f"allow role {reader} to read and to empty the outbox", grants, CATALOGUE_ONLY, revoke)


def _create_triggers(table: SourceTable, installed: InstalledTriggers) -> TriggerStep:
    relation, function = sql.Identifier(table.schema, table.name), _function(installed.outbox_name)
    create: list[sql.Composable] = []
    undo: list[sql.Composable] = []
    for trigger, (events, each) in _TRIGGERS.items():
        identifier = sql.Identifier(trigger)
        drop = sql.SQL("DROP TRIGGER {} ON {}").format(identifier, relation)
        create += [drop] if trigger in installed.triggers else []
        create.append(
            sql.SQL(_CREATE_TRIGGER).format(identifier, sql.SQL(events), relation, sql.SQL(each), function),
        )
        create.append(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(relation, identifier))
        undo.append(drop)
    lock = (ALL_WAIT if ROW_TRIGGER in installed.triggers else WRITERS_WAIT).format(table.qualified_name)
    return TriggerStep("create the triggers, which also fire for replicated writes", tuple(create), lock, tuple(undo))


def _function(name: str) -> sql.Composed:
    return sql.SQL("{}()").format(sql.Identifier(SCHEMA, name))


def _body(name: str, key: Sequence[str]) -> str:
    """Return the body of the trigger function.

    The text of a key value must be that of the type's output function, which COPY prints as well. concat() calls that
    function; a cast may call another one.

    A session keeps its plan when a key column changes its type, and the old plan then fails at every call. The function
    catches that error and builds the texts with a new plan. The block that catches writes no row, so it uses no id of a
    subtransaction.

    On the outbox itself, the function accepts the removal of rows that were visible to the snapshot stored in the
    outbox, and records any other change.
    """

    def texts(row: str) -> str:
        return f"ARRAY[{', '.join(f'concat({row}.{_quoted(name)})' for name in key)}]"

    def values(which: str) -> str:
        return ", ".join(["pg_current_xact_id()", *(f"{which}[{place}]" for place in range(1, len(key) + 1))])

    select, tag = f"SELECT {texts('($1)')}", "$key$"
    while tag in select:
        tag = f"{tag[:-1]}_$"
    xid, emptied, outbox = _quoted(XID), _quoted(EMPTIED), f"{_quoted(SCHEMA)}.{_quoted(name)}"
    is_memory = f"{emptied} IS NOT NULL AND {xid} IS NULL"
    remembered = f"(SELECT {emptied} FROM {outbox} WHERE {is_memory} LIMIT 1)"
    return _BODY.format(
        outbox=outbox,
        xid=xid,
        emptied=emptied,
        is_memory=is_memory,
        is_lost=f"{emptied} IS NULL AND pg_visible_in_snapshot({xid}, {remembered}) IS NOT TRUE",
        tampered=TAMPERED,
        old_texts=texts("OLD"),
        new_texts=texts("NEW"),
        texts_anew=f"{tag}{select}{tag}",
        columns=", ".join(map(_quoted, [XID, *key])),
        old_values=values("old_key"),
        new_values=values("new_key"),
    )


_BODY = """
DECLARE
    old_key text[] COLLATE "C";
    new_key text[] COLLATE "C";
BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN
        IF TG_OP = 'TRUNCATE' THEN
            INSERT INTO {outbox} ({xid}) VALUES (pg_current_xact_id());
        ELSIF EXISTS (SELECT FROM gone WHERE TG_OP = 'UPDATE' AND NOT ({is_memory}) OR {is_lost}) THEN
            INSERT INTO {outbox} ({xid}, {emptied}) VALUES (pg_current_xact_id(), '{tampered}');
        END IF;
        RETURN NULL;
    END IF;
    BEGIN
        IF TG_OP <> 'INSERT' THEN old_key := {old_texts}; END IF;
        IF TG_OP <> 'DELETE' THEN new_key := {new_texts}; END IF;
    EXCEPTION WHEN datatype_mismatch THEN
        IF TG_OP <> 'INSERT' THEN EXECUTE {texts_anew} INTO old_key USING OLD; END IF;
        IF TG_OP <> 'DELETE' THEN EXECUTE {texts_anew} INTO new_key USING NEW; END IF;
    END;
    IF old_key IS NOT NULL THEN
        INSERT INTO {outbox} ({columns}) VALUES ({old_values});
    END IF;
    IF new_key IS NOT NULL AND old_key IS DISTINCT FROM new_key THEN
        INSERT INTO {outbox} ({columns}) VALUES ({new_values});
    END IF;
    RETURN NULL;
END
"""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
