"""Triggers that make a table easy to sync: what is missing of them, made and removed in steps that lock for a moment.

============= ======================================================================================================
outbox        an outbox, and row triggers that write the key of every changed row into it (source/outbox.py); the
              table itself stays as it is. Triggers of the outbox note what is taken out of it by hand. For
              ``watermark_type: outbox``
audit_columns ``created_at`` and ``updated_at`` and a trigger that sets them, whatever the application writes; rows
              that are there get an ``updated_at`` batch by batch (backfill.py). For ``watermark_type: timestamp``
============= ======================================================================================================

All that is made lies in the schema ``aurora_sync``, but for the triggers and the columns. Triggers are ENABLE ALWAYS,
so that replicated writes fire them as well, and their names begin with zzz, so that of the BEFORE triggers ours has the
last word (correctness.md, section 4).
"""

# ruff: noqa: S608 - every name in a body went through _quoted()

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import psycopg2.errors
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.engine.preflight import possible_key
from aurora_sync.errors import ConfigError, Kind, SourceError
from aurora_sync.model.relation import SCHEMA, SourceTable
from aurora_sync.source.connection import TEXT_SETTINGS
from aurora_sync.source.outbox import EMPTIED, NOTHING, TAMPERED, XID, name_of, needs_settings
from aurora_sync.strategies.outbox import ambiguous

UPDATED, CREATED = "updated_at", "created_at"
WATCHES = {"zzz_aurora_sync_deleted": "DELETE", "zzz_aurora_sync_updated": "UPDATE"}  # of the outbox itself
ROW_TRIGGER, TRUNCATE_TRIGGER, COLUMNS_TRIGGER = "zzz_aurora_sync_row", "zzz_aurora_sync_truncate", "zzz_aurora_sync"
_MARK = "made by aurora-sync triggers"

_CATALOGUE_ONLY = "none on the table; takes milliseconds"
_WRITERS_WAIT = (
    "SHARE ROW EXCLUSIVE on {}: writers wait, readers do not; for milliseconds, once the transactions that are writing"
    " it have ended"
)
_ALL_WAIT = "ACCESS EXCLUSIVE on {}: readers wait too; for milliseconds, once the transactions that use it have ended"


class TriggerKind(StrEnum):
    outbox = "outbox"
    audit_columns = "audit_columns"


_NO_LOCK = (psycopg2.errors.LockNotAvailable, psycopg2.errors.QueryCanceled, psycopg2.errors.DeadlockDetected)
# Updates beside those of a table without triggers, on two cores and a local disk: medians of ten rounds.
_COSTS = {TriggerKind.outbox: (1.2, 3.0), TriggerKind.audit_columns: (1.0, 1.4)}


@dataclass(frozen=True)
class TriggerStep:
    """``statements`` are one transaction. ``undo`` is what takes it back."""

    what: str
    statements: tuple[sql.Composable, ...]
    lock: str
    undo: tuple[sql.Composable, ...] = ()


@dataclass(frozen=True)
class Done:
    step: TriggerStep
    attempts: int
    seconds: float  # that the longest attempt took, with its wait for the lock: nobody waited longer for us


@dataclass(frozen=True)
class _InstalledTriggers:
    """What of ours is there already."""

    outbox_name: str  # and its function's
    audit_name: str  # of the function of audit columns
    schema: bool
    schema_is_ours: bool
    others: int  # tables and functions of other tables in the schema
    outbox: tuple[str, ...] | None  # its key columns
    functions: dict[str, tuple[str, bool]]  # name -> body, and whether it pins more settings than search_path
    triggers: dict[str, tuple[str, ...]]  # on the table itself, with their arguments
    watches: dict[str, str]  # triggers of the outbox itself, with their pg_trigger.tgenabled
    role: str
    stranger: str  # another role that owns the schema or the outbox, and is no superuser
    granted: bool  # the role that reads may use the outbox, and was not given more than it needs


def plan(
    connection: Connection, table: SourceTable, made: TriggerKind, *, reader: str, key: Sequence[str] | None = None
) -> list[TriggerStep]:
    """What is still missing; ``reader`` is the role that syncs (empty: this one), ``key`` another merge key than the
    primary key. Raises ConfigError where it cannot be made."""
    there = _look(connection, table, reader)
    if there.stranger:
        raise ConfigError(
            f"schema {SCHEMA}, or the outbox in it, belongs to {there.stranger}, who could make the trigger do anything"
            f" as {there.role}",
            where=table.qualified_name,
            hint="AURORA_OWNER_DSN can name its login; or drop the schema, if nobody knows it",
        )
    if made is TriggerKind.outbox:
        return list(_outbox(table, there, reader, tuple(key or key_of(table))))
    return list(_audit_columns(table, there))


def removal(connection: Connection, table: SourceTable) -> list[TriggerStep]:
    """What takes all of it away, of both kinds, and leaves the table as it was before."""
    there = _look(connection, table, reader="")
    relation = sql.Identifier(table.schema, table.name)
    steps: list[TriggerStep] = []
    on = table.qualified_name
    # In one transaction: the triggers alone know which columns are ours.
    gone = [sql.SQL("DROP TRIGGER {} ON {}").format(sql.Identifier(trigger), relation) for trigger in there.triggers]
    columns = [name for name in there.triggers.get(COLUMNS_TRIGGER, ()) if table.column(name)]
    gone += [sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(relation, sql.Identifier(column)) for column in columns]
    if gone:
        named = f", and what `apply` added: column {' and column '.join(columns)}" if columns else ""
        steps.append(TriggerStep(f"drop {', '.join(there.triggers)}{named}", tuple(gone), _ALL_WAIT.format(on)))
    rest: list[sql.Composable] = []
    if there.outbox:
        rest.append(sql.SQL("DROP TABLE {}").format(sql.Identifier(SCHEMA, there.outbox_name)))
    rest += [sql.SQL("DROP FUNCTION {}()").format(sql.Identifier(SCHEMA, name)) for name in there.functions]
    if there.schema_is_ours and not there.others:
        rest.append(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(SCHEMA)))
    if rest:
        steps.append(TriggerStep(f"drop what was made in schema {SCHEMA}", tuple(rest), _CATALOGUE_ONLY))
    return steps


def there(connection: Connection, table: SourceTable) -> list[TriggerKind]:
    """Which kinds of triggers it has of ours, complete or not."""
    found = _look(connection, table, reader="")
    outbox = {ROW_TRIGGER, TRUNCATE_TRIGGER} & set(found.triggers) or found.outbox
    return [
        *([TriggerKind.outbox] if outbox else []),
        *([TriggerKind.audit_columns] if COLUMNS_TRIGGER in found.triggers else []),
    ]


def unfilled(connection: Connection, table: SourceTable, made: TriggerKind) -> int:
    """About how many rows a backfill has to look at: 0 where there is none to do, or it was done (:func:`filled`)."""
    if made is TriggerKind.outbox:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(_FILLED, (table.oid, COLUMNS_TRIGGER, _FILLED_MARK))
        ((done,),) = cursor.fetchall()
    return 0 if done else max(table.row_estimate, 1)


def filled(table: SourceTable) -> TriggerStep:
    """Remember that the backfill went through."""
    note = sql.SQL("COMMENT ON TRIGGER {} ON {} IS {}").format(
        sql.Identifier(COLUMNS_TRIGGER), sql.Identifier(table.schema, table.name), sql.Literal(_FILLED_MARK)
    )
    lock = f"SHARE UPDATE EXCLUSIVE on {table.qualified_name}: nobody waits who reads or writes it"
    return TriggerStep("note that the backfill went through, as the trigger's comment", (note,), lock)


def in_use(connection: Connection, table: SourceTable) -> Iterator[str]:
    """The longest transactions that hold a lock on the table now, for a person: a step waits until they end."""
    with connection.cursor() as cursor:
        cursor.execute(_IN_USE, (table.oid,))
        for pid, user, application, mode, seconds in cursor.fetchall():
            who = f"{user or 'another role'} ({application})" if application else user or "another role"
            yield f"process {pid} of {who} holds {mode} in a transaction of {seconds:,.0f} s"


def apply(
    connection: Connection,
    steps: Sequence[TriggerStep],
    *,
    lock_timeout: str = "2s",
    attempts: int = 30,
    on_wait: Callable[[TriggerStep, int], object] = lambda *_: None,
) -> Iterator[Done]:
    """Run the steps one by one, each in a transaction that waits no longer than ``lock_timeout`` for a lock: behind it
    everybody else would wait as well. Then it stands back for twice as long and tries again.

    Safe to kill anywhere: what was done is not planned again. Raises SourceError, transient when the lock was never to
    be had.
    """
    for step in steps:
        longest = 0.0
        for attempt in range(1, attempts + 1):
            began = time.monotonic()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("BEGIN READ WRITE")
                    # Of a table with partitions there are many locks, for each of which lock_timeout begins anew.
                    for timeout in ("lock_timeout", "statement_timeout"):
                        cursor.execute("SELECT set_config(%s, %s, true)", (timeout, lock_timeout))
                    for statement in step.statements:
                        cursor.execute(statement)
                    cursor.execute("COMMIT")
                yield Done(step, attempt, max(longest, time.monotonic() - began))
                break
            except _NO_LOCK as error:
                with connection.cursor() as cursor:
                    cursor.execute("ROLLBACK")
                longest = max(longest, time.monotonic() - began)
                if attempt == attempts:
                    raise SourceError(
                        f"{step.what}: no lock in {attempts} attempts of {lock_timeout}",
                        hint="a transaction stays open on the table, or it has more partitions than are locked in that"
                        " time (--lock-timeout); what was done so far stays, run again",
                        kind=Kind.TRANSIENT,
                    ) from error
                on_wait(step, attempt)
                time.sleep(min(2 * (time.monotonic() - began), 10))
            except psycopg2.errors.InsufficientPrivilege as error:
                raise SourceError(
                    f"{step.what}: {' '.join(str(error).split())}",
                    hint="only the owner of a table may: AURORA_OWNER_DSN can name its login"
                    if "owner" in str(error)
                    else f"it takes CREATE on the database, or on schema {SCHEMA} with USAGE",
                    kind=Kind.REFUSED,
                ) from error


def warnings(connection: Connection, table: SourceTable, made: TriggerKind) -> list[str]:
    """What the application should know before."""
    with connection.cursor() as cursor:
        cursor.execute(
            _PUBLISHED_BY, {"outbox": made is TriggerKind.outbox, "schema": table.schema, "name": table.name}
        )
        publications = ", ".join(name for (name,) in cursor.fetchall())
    key = ", ".join(possible_key(table))
    one, many = _COSTS[made]
    dearer = (
        f"a write of one row took {one} times as long with them, a statement that writes 10,000 rows {many} times"
        " (benchmarks/triggers.py)"
    )
    if made is TriggerKind.outbox:
        found = [
            dearer,
            f"a column of the key ({key}) that is renamed or dropped makes every write of {table.qualified_name} fail:"
            " remove the triggers before, and apply them afterwards",
        ]
        if publications:
            found.append(
                f"{publications}, FOR ALL TABLES, publishes the outbox as well: a subscriber needs such a table"
            )
        return found
    found = [
        dearer,
        "COPY without a list of columns, and SELECT *, find the new columns at the end",
        "every row is written once more: as much WAL and dead space as the table has bytes, and a transaction under"
        " REPEATABLE READ or SERIALIZABLE that updates a row of a batch fails and must be tried again",
        "deletes leave no trace: give the table `reconcile:` in tables.yaml",
        f"{UPDATED} that is renamed or dropped makes every write of {table.qualified_name} fail: remove the triggers"
        " before",
    ]
    if table.column(UPDATED) and COLUMNS_TRIGGER not in {trigger.name for trigger in table.triggers}:
        found.append(f"{UPDATED} is there already: what is written to it stays when the triggers are removed")
    if others := [t.name for t in table.triggers if t.on_update and t.enabled and not t.name.startswith("zzz_aurora")]:
        found.append(f"the backfill fires triggers of the table: {', '.join(others)}")
    if publications:
        found.append(f"it is published by {publications}: a subscriber needs the new columns first")
    return found


def key_of(table: SourceTable) -> tuple[str, ...]:
    """The key that the outbox has. Raises ConfigError where there is none."""
    key = possible_key(table)
    problems = ambiguous(table, key)
    if not table.is_heap:
        problems = ["only a table has row triggers, and no partition of it may be foreign"]
    elif not key:
        problems = ["it has no primary key, and no unique index without NULLs, by which a row could be named"]
    if problems:
        raise ConfigError(
            problems,
            where=table.qualified_name,
            hint="`aurora-sync assess` names the strategies that it can have",
        )
    return key


def _outbox(table: SourceTable, there: _InstalledTriggers, reader: str, key: tuple[str, ...]) -> Iterator[TriggerStep]:
    name = there.outbox_name
    if there.outbox is not None and set(there.outbox) != set(key):
        raise ConfigError(
            f"its outbox is of the key ({', '.join(there.outbox)}), and the table's is ({', '.join(key)})",
            where=table.qualified_name,
            hint="`aurora-sync triggers remove`, then apply again",
        )
    outbox, schema = sql.Identifier(SCHEMA, name), sql.Identifier(SCHEMA)
    yield from _schema(there)
    if there.outbox is None:
        columns = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(column)) for column in key)
        ours = sql.SQL("{} xid8, {} pg_snapshot").format(sql.Identifier(XID), sql.Identifier(EMPTIED))
        # It is filled and emptied all the time: vacuum must come by the number of rows, not by their share.
        create = sql.SQL(
            "CREATE TABLE {} ({}, {}) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000)"
        ).format(outbox, columns, ours)
        first = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(outbox, sql.Identifier(EMPTIED), sql.Literal(NOTHING))
        # Where a publication is FOR ALL TABLES, nothing could be taken out without it.
        identity = sql.SQL("ALTER TABLE {} REPLICA IDENTITY FULL").format(outbox)
        undo = (sql.SQL("DROP TABLE {}").format(outbox),)
        yield TriggerStep(f"create the outbox, table {SCHEMA}.{name}", (create, identity, first), _CATALOGUE_ONLY, undo)
    function = sql.SQL("{}()").format(outbox)
    body = _outbox_body(name, key)
    pinned = needs_settings(table.columns, key)
    if there.functions.get(name) not in ((body, pinned), (body, True)):
        settings = [
            sql.SQL("SET {} TO {}").format(sql.Identifier(setting), sql.Literal(to))
            for setting, to in (TEXT_SETTINGS if pinned else {}).items()
        ]
        create = sql.SQL(
            "CREATE OR REPLACE FUNCTION {} RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
            " SET search_path = pg_catalog, pg_temp {} AS {}"
        ).format(function, sql.SQL(" ").join(settings), sql.Literal(body))
        undo = (sql.SQL("DROP FUNCTION {}").format(function),)
        # Left to PUBLIC, who cannot name it without USAGE of the schema: whoever attaches a partition must be allowed.
        yield TriggerStep(f"create the trigger function {SCHEMA}.{name}", (create,), _CATALOGUE_ONLY, undo)
    if [there.watches.get(trigger) for trigger in WATCHES] != ["A", "A"]:
        yield _watch(outbox, function, there)
    if reader not in ("", there.role) and not there.granted:
        role = sql.Identifier(reader)
        # Not the keys: who reads the outbox could make the sync read and delete other rows than were written.
        grants = (
            sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, role),
            sql.SQL("REVOKE ALL ON {} FROM {}").format(outbox, role),
            sql.SQL("GRANT SELECT, DELETE, INSERT ({0}), UPDATE ({0}) ON {1} TO {2}").format(
                sql.Identifier(EMPTIED), outbox, role
            ),
        )
        revoke = (sql.SQL("REVOKE ALL ON {} FROM {}").format(outbox, role),)
        yield TriggerStep(f"let role {reader} read and empty it", grants, _CATALOGUE_ONLY, revoke)
    found = table.outbox
    if not (found and found.complete and ROW_TRIGGER in there.triggers and TRUNCATE_TRIGGER in there.triggers):
        events = {ROW_TRIGGER: "INSERT OR UPDATE OR DELETE", TRUNCATE_TRIGGER: "TRUNCATE"}
        each = {ROW_TRIGGER: "ROW", TRUNCATE_TRIGGER: "STATEMENT"}
        relation = sql.Identifier(table.schema, table.name)
        made: list[sql.Composable] = []
        undo_triggers: list[sql.Composable] = []
        for trigger in events:
            identifier = sql.Identifier(trigger)
            drop = sql.SQL("DROP TRIGGER {} ON {}").format(identifier, relation)
            made += [drop] if trigger in there.triggers else []
            made.append(
                sql.SQL("CREATE TRIGGER {} AFTER {} ON {} FOR EACH {} EXECUTE FUNCTION {}").format(
                    identifier, sql.SQL(events[trigger]), relation, sql.SQL(each[trigger]), function
                )
            )
            made.append(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(relation, identifier))
            undo_triggers.append(drop)
        lock = (_ALL_WAIT if ROW_TRIGGER in there.triggers else _WRITERS_WAIT).format(table.qualified_name)
        yield TriggerStep("create the triggers, for replicated writes as well", tuple(made), lock, tuple(undo_triggers))


def _watch(outbox: sql.Identifier, function: sql.Composable, there: _InstalledTriggers) -> TriggerStep:
    """A trigger with a transition table is of one event."""
    create, undo = [], []
    for trigger, event in WATCHES.items():
        names = {"trigger": sql.Identifier(trigger), "outbox": outbox, "function": function}
        if trigger not in there.watches:
            text = (
                "CREATE TRIGGER {trigger} AFTER {event} ON {outbox} REFERENCING OLD TABLE AS gone"
                " FOR EACH STATEMENT EXECUTE FUNCTION {function}"
            )
            create.append(sql.SQL(text).format(event=sql.SQL(event), **names))
            undo.append(sql.SQL("DROP TRIGGER {trigger} ON {outbox}").format(**names))
        create.append(sql.SQL("ALTER TABLE {outbox} ENABLE ALWAYS TRIGGER {trigger}").format(**names))
    lock = _WRITERS_WAIT.format(f"{SCHEMA}.{there.outbox_name}")
    return TriggerStep("note what is taken out of the outbox by hand", tuple(create), lock, tuple(undo))


def _outbox_body(name: str, key: Sequence[str]) -> str:
    """The text of each value is that of its output function, as COPY prints it: concat() calls that, a cast may not.

    A session that fired it before a column of the key got another type has a plan for the type that is gone, and would
    fail until its end. No row is written where that is caught, so that it takes no subtransaction's id.

    Fired by the outbox itself, it lets go what the snapshot saw that the outbox remembers, and notes anything else.
    """

    def texts(row: str) -> str:
        return f"ARRAY[{', '.join(f'concat({row}.{_quoted(name)})' for name in key)}]"

    def written(which: str) -> str:
        return ", ".join(["pg_current_xact_id()", *(f"{which}[{place}]" for place in range(1, len(key) + 1))])

    anew, tag = f"SELECT {texts('($1)')}", "$key$"
    while tag in anew:
        tag = f"{tag[:-1]}_$"
    anew = f"{tag}{anew}{tag}"
    outbox_name = f"{_quoted(SCHEMA)}.{_quoted(name)}"
    columns = ", ".join(map(_quoted, [XID, *key]))
    into = f"INSERT INTO {outbox_name} ({columns})"
    memory = f"{_quoted(EMPTIED)} IS NOT NULL AND {_quoted(XID)} IS NULL"
    remembered = f"(SELECT {_quoted(EMPTIED)} FROM {outbox_name} WHERE {memory} LIMIT 1)"
    lost = f"{_quoted(EMPTIED)} IS NULL AND pg_visible_in_snapshot({_quoted(XID)}, {remembered}) IS NOT TRUE"
    tampered = (
        f"INSERT INTO {outbox_name} ({_quoted(XID)}, {_quoted(EMPTIED)}) VALUES (pg_current_xact_id(), '{TAMPERED}')"
    )
    return f"""
DECLARE
    old_key text[] COLLATE "C";
    new_key text[] COLLATE "C";
BEGIN
    IF TG_LEVEL = 'STATEMENT' THEN
        IF TG_OP = 'TRUNCATE' THEN
            INSERT INTO {outbox_name} ({_quoted(XID)}) VALUES (pg_current_xact_id());
        ELSIF EXISTS (SELECT FROM gone WHERE TG_OP = 'UPDATE' AND NOT ({memory}) OR {lost}) THEN
            {tampered};
        END IF;
        RETURN NULL;
    END IF;
    BEGIN
        IF TG_OP <> 'INSERT' THEN old_key := {texts("OLD")}; END IF;
        IF TG_OP <> 'DELETE' THEN new_key := {texts("NEW")}; END IF;
    EXCEPTION WHEN datatype_mismatch THEN
        IF TG_OP <> 'INSERT' THEN EXECUTE {anew} INTO old_key USING OLD; END IF;
        IF TG_OP <> 'DELETE' THEN EXECUTE {anew} INTO new_key USING NEW; END IF;
    END;
    IF old_key IS NOT NULL THEN
        {into} VALUES ({written("old_key")});
    END IF;
    IF new_key IS NOT NULL AND old_key IS DISTINCT FROM new_key THEN
        {into} VALUES ({written("new_key")});
    END IF;
    RETURN NULL;
END
"""


def _audit_columns(table: SourceTable, there: _InstalledTriggers) -> Iterator[TriggerStep]:
    if table.kind not in "rp" or table.inherits:
        why = (
            "its children by INHERITS would have none of its triggers"
            if table.inherits
            else "no table: no row triggers"
        )
        raise ConfigError(why, where=table.qualified_name)
    name, relation = there.audit_name, sql.Identifier(table.schema, table.name)
    mine = there.triggers.get(COLUMNS_TRIGGER)
    updated, created = table.column(UPDATED), table.column(CREATED)
    if updated and (updated.base_type != "timestamptz" or updated.generated):
        generated = ", generated by an expression" if updated.generated else ""
        raise ConfigError(
            f"it has a column {UPDATED} of type {updated.type_name}{generated}, which the time of a change does not fit"
            " into",
            where=table.qualified_name,
            hint="use --kind outbox, which leaves the table as it is",
        )
    added = mine if mine is not None else tuple(n for n, c in ((UPDATED, updated), (CREATED, created)) if c is None)
    yield from _schema(there)
    function = sql.SQL("{}()").format(sql.Identifier(SCHEMA, name))
    body = _AUDIT_BODY
    if there.functions.get(name, ("", False))[0] != body:
        create = sql.SQL("CREATE OR REPLACE FUNCTION {} RETURNS trigger LANGUAGE plpgsql AS {}")
        undo = (sql.SQL("DROP FUNCTION {}").format(function),)
        what = f"create the trigger function {SCHEMA}.{name}"
        yield TriggerStep(what, (create.format(function, sql.Literal(body)),), _CATALOGUE_ONLY, undo)
    if mine is not None:
        return
    made: list[sql.Composable] = []
    undo_all: list[sql.Composable] = []
    for column in added:
        identifier = sql.Identifier(column)
        made.append(sql.SQL("ALTER TABLE {} ADD COLUMN {} timestamptz").format(relation, identifier))
        undo_all.append(sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(relation, identifier))
    if CREATED in added:  # afterwards: rows that are there were not created now
        clock = sql.SQL("ALTER TABLE {} ALTER COLUMN {} SET DEFAULT pg_catalog.clock_timestamp()")
        made.append(clock.format(relation, sql.Identifier(CREATED)))
    trigger = sql.Identifier(COLUMNS_TRIGGER)
    # Its arguments are the columns that go with it.
    arguments = sql.SQL(", ").join(map(sql.Literal, added))
    made.append(
        sql.SQL("CREATE TRIGGER {} BEFORE INSERT OR UPDATE ON {} FOR EACH ROW EXECUTE FUNCTION {}({})").format(
            trigger, relation, sql.Identifier(SCHEMA, name), arguments
        )
    )
    made.append(sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER {}").format(relation, trigger))
    undo_all.insert(0, sql.SQL("DROP TRIGGER {} ON {}").format(trigger, relation))
    named = f"add {' and '.join(added)}, and the trigger that sets them" if added else "create the trigger"
    yield TriggerStep(named, tuple(made), _ALL_WAIT.format(table.qualified_name), tuple(undo_all))


# An INSERT that brings an old time of its own would never be exported: the clock decides. Nothing else may stand here:
# what the clock fence rests on is that this is all that the trigger does (strategies/clock.py).
_AUDIT_BODY = f"""
BEGIN
    NEW.{UPDATED} := pg_catalog.clock_timestamp();
    RETURN NEW;
END
"""


def _schema(there: _InstalledTriggers) -> Iterator[TriggerStep]:
    if not there.schema:
        schema = sql.Identifier(SCHEMA)
        create = sql.SQL("CREATE SCHEMA {}").format(schema)
        mark = sql.SQL("COMMENT ON SCHEMA {} IS {}").format(schema, sql.Literal(_MARK))
        drop = (sql.SQL("DROP SCHEMA {}").format(schema),)
        yield TriggerStep(f"create schema {SCHEMA}", (create, mark), _CATALOGUE_ONLY, drop)


def _look(connection: Connection, table: SourceTable, reader: str) -> _InstalledTriggers:
    with connection.cursor() as cursor:
        cursor.execute(_TRIGGERS_OF, (table.oid, SCHEMA))
        found = {name: (function, arguments) for name, function, arguments in cursor.fetchall()}
        cursor.execute(_FUNCTIONS_OF_OTHERS, (SCHEMA, table.oid))
        taken = {name for (name,) in cursor.fetchall()}

        def chosen(trigger: str, schema: str) -> str:
            """That of the trigger; it has kept the name that a table had before, which another may have now."""
            if trigger in found:
                return str(found[trigger][0])
            name = name_of(schema, table.name)
            return name if name not in taken else name_of(schema, f"{table.name}.{table.oid}")

        outbox, audit = chosen(ROW_TRIGGER, table.schema), chosen(COLUMNS_TRIGGER, f"columns of {table.schema}")
        names = [outbox, audit]
        cursor.execute(
            _THERE,
            {"schema": SCHEMA, "outbox": outbox, "names": names, "ours": [XID, EMPTIED]}
            | {"mark": _MARK, "reader": reader},
        )
        ((exists, ours, others, key, role, stranger, granted),) = cursor.fetchall()
        cursor.execute(_WATCHES, (SCHEMA, outbox, list(WATCHES)))
        watches = dict(cursor.fetchall())
        cursor.execute(_FUNCTIONS, (SCHEMA, names))
        functions = {name: (body, pinned) for name, body, pinned in cursor.fetchall()}
    triggers = {name: tuple(a for a in arguments.split("\\000") if a) for name, (_, arguments) in found.items()}
    outbox_key = key and tuple(key)
    return _InstalledTriggers(
        outbox, audit, exists, ours, others, outbox_key, functions, triggers, watches, role, stranger, granted
    )


_THERE = """
SELECT n.oid IS NOT NULL, coalesce(obj_description(n.oid, 'pg_namespace') = %(mark)s, false),
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

_WATCHES = """
SELECT g.tgname, g.tgenabled::text
  FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND g.tgname = ANY(%s)
"""

_FUNCTIONS = """
SELECT p.proname, p.prosrc, coalesce(cardinality(p.proconfig) > 1, false)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = %s AND p.proname = ANY(%s)
"""

_TRIGGERS_OF = """
SELECT g.tgname, p.proname, encode(g.tgargs, 'escape') FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
  JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE g.tgrelid = %s AND n.nspname = %s ORDER BY g.tgname
"""

# The triggers of an outbox itself are those of the table that it belongs to.
_FUNCTIONS_OF_OTHERS = """
SELECT p.proname FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE n.nspname = %s AND g.tgrelid <> %s AND g.tgparentid = 0
   AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = g.tgrelid AND c.relnamespace = n.oid)
"""


_FILLED_MARK = "aurora-sync: every row has its updated_at"
_FILLED = """
SELECT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = %s AND tgname = %s AND obj_description(oid, 'pg_trigger') = %s)
"""

# Tables that are yet to be made are in those FOR ALL TABLES.
_PUBLISHED_BY = """
SELECT p.pubname FROM pg_publication p
 WHERE CASE WHEN %(outbox)s THEN p.puballtables
            ELSE EXISTS (SELECT FROM pg_publication_tables t
                          WHERE (t.pubname, t.schemaname, t.tablename) = (p.pubname, %(schema)s, %(name)s)) END
 ORDER BY 1
"""

_IN_USE = """
WITH RECURSIVE tree(oid) AS (
    SELECT %s::oid UNION SELECT i.inhrelid FROM tree t JOIN pg_inherits i ON i.inhparent = t.oid
)
SELECT l.pid, a.usename, a.application_name, string_agg(DISTINCT l.mode, ', '),
       coalesce(extract(epoch FROM clock_timestamp() - min(a.xact_start)), 0)::float
  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.granted AND l.relation IN (SELECT oid FROM tree)
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid <> pg_backend_pid()
 GROUP BY l.pid, a.usename, a.application_name ORDER BY 5 DESC LIMIT 3
"""


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
