"""Changes that people make to a table besides writing rows. Each move has writes in between that a fence could miss.

A move is a generator; a run takes place where it yields. A refusal by the server ends the move (:class:`Refused`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg2

from aurora_sync.errors import WarehouseError
from aurora_sync.warehouse.duckdb import DuckDBWarehouse
from aurora_sync_tests.scenarios.catalogue_moves.place import LONG_AGO, Place, Refused

Move = Callable[[Place], Iterator[None]]

ANY: list[Move] = []
OF_PLAIN_TABLES: list[Move] = []
OF_PARTITIONS: list[Move] = []
OF_STREAMS: list[Move] = []
OF_CONNECTORS: list[Move] = []
OF_TARGETS: list[Move] = []
INNOCENT: list[Move] = []


def _to(moves: list[Move]) -> Callable[[Move], Move]:
    def add(move: Move) -> Move:
        moves.append(move)
        return move

    return add


# Any table


@_to(ANY)
def truncated(p: Place) -> Iterator[None]:
    p.sql(f"TRUNCATE t {p.dice.choice(['', 'RESTART IDENTITY'])}")
    p.write(3)
    yield from ()


@_to(ANY)
def truncated_and_retyped(p: Place) -> Iterator[None]:
    p.sql("TRUNCATE t")
    p.write(4)
    p.sql("ALTER TABLE t ALTER v TYPE text USING upper(v) || '!'")
    yield from ()


@_to(ANY)
def values_changed_by_alter(p: Place) -> Iterator[None]:
    """The type is the same before and after."""
    p.sql("ALTER TABLE t ALTER cents TYPE int USING (cents * 3 + 1)")
    yield from ()


@_to(ANY)
def texts_changed_by_alter(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t ALTER v TYPE text USING v || '?'")
    yield from ()


@_to(ANY)
def type_there_and_back(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t ALTER cents DROP DEFAULT, ALTER cents TYPE text USING cents::text || '0'")
    p.write(2)
    if p.dice.random() < 0.3:
        yield
    p.sql("ALTER TABLE t ALTER cents TYPE int USING left(cents, 6)::int", "ALTER TABLE t ALTER cents SET DEFAULT 0")


@_to(ANY)
def type_widened(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t ALTER cents TYPE bigint")
    yield
    p.sql("ALTER TABLE t ALTER cents TYPE int")


@_to(ANY)
def table_renamed_and_back(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t RENAME TO elsewhere")
    if not p.partitioned:
        p.write(3, "elsewhere")
    p.sql("ALTER TABLE elsewhere RENAME TO t")
    yield from ()


@_to(ANY)
def column_renamed_and_back(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t RENAME v TO w")
    p.write(2)
    if p.dice.random() < 0.5:
        yield
    p.write(1)
    p.sql("ALTER TABLE t RENAME w TO v")


@_to(ANY)
def column_dropped_and_added(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t DROP cents")
    p.write(2)
    if p.dice.random() < 0.5:
        yield
    p.sql("ALTER TABLE t ADD cents int NOT NULL DEFAULT 7")


@_to(ANY)
def column_added(p: Place) -> Iterator[None]:
    name, default = p.new_name("c"), p.dice.choice(["''", "'x'", "md5(random()::text)", "NULL"])
    p.sql(f"ALTER TABLE t ADD {name} text DEFAULT {default}")
    p.write(2)
    yield
    p.write(2)
    p.sql(f"ALTER TABLE t DROP {name}")


@_to(ANY)
def swapped_by_rename_and_back(p: Place) -> Iterator[None]:
    other, away = p.new_name("u"), p.new_name("old")
    p.make(other)
    p.write(5, other)
    p.sql(f"ALTER TABLE t RENAME TO {away}; ALTER TABLE {other} RENAME TO t")
    yield
    if not p.partitioned:
        p.write(3, away)
        if p.dice.random() < 0.5:
            yield
    p.sql(f"ALTER TABLE t RENAME TO {other}; ALTER TABLE {away} RENAME TO t")
    if p.slot:
        yield
        p.sql(f"ALTER PUBLICATION {p.slot} DROP TABLE {other}")


@_to(ANY)
def dropped_and_made_anew(p: Place) -> Iterator[None]:
    p.sql("DROP TABLE t")
    p.make()
    p.write(4)
    yield from ()


@_to(ANY)
def files_rewritten(p: Place) -> Iterator[None]:
    p.sql("VACUUM FULL t")
    p.write(1)
    with suppress(Refused):
        p.sql("CLUSTER t USING t_pkey")
    yield from ()


@_to(ANY)
def unlogged_for_a_while(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t SET UNLOGGED")
    p.write(4)
    p.sql("ALTER TABLE t SET LOGGED")
    yield from ()


@_to(ANY)
def unlogged_and_truncated(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t SET UNLOGGED")
    p.write(4)
    p.sql("ALTER TABLE t SET LOGGED", "TRUNCATE t")
    p.write(2)
    yield from ()


@_to(ANY)
def replica_identity_there_and_back(p: Place) -> Iterator[None]:
    p.sql(f"ALTER TABLE t REPLICA IDENTITY {p.dice.choice(['FULL', 'NOTHING'])}")
    with suppress(Refused):
        p.write(3)
    if p.dice.random() < 0.3:
        yield
    p.sql("ALTER TABLE t REPLICA IDENTITY DEFAULT")


@_to(ANY)
def key_there_and_back(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t DROP CONSTRAINT t_pkey")
    with suppress(Refused):
        p.write(3)
    p.sql("ALTER TABLE t ADD PRIMARY KEY (id, part)")
    yield from ()


@_to(ANY)
def triggers_off_for_a_while(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t DISABLE TRIGGER ALL")
    p.sql(p.insert(when=LONG_AGO), p.update(when=LONG_AGO), p.delete())
    p.sql("ALTER TABLE t ENABLE TRIGGER ALL")
    if p.dice.random() < 0.5:
        p.sql("ALTER TABLE t ENABLE ALWAYS TRIGGER touch")
    yield from ()


@_to(ANY)
def trigger_origin_for_a_while(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t ENABLE TRIGGER touch")
    yield
    p.sql(p.insert(when=LONG_AGO), p.update(when=LONG_AGO), settings="SET session_replication_role = replica")
    yield
    p.sql("ALTER TABLE t ENABLE ALWAYS TRIGGER touch")


@_to(ANY)
def function_lies_for_a_while(p: Place) -> Iterator[None]:
    body = "BEGIN NEW.updated_at := {}; RETURN NEW; END"
    for value in (f"'{LONG_AGO}'", "clock_timestamp()"):
        p.sql("CREATE OR REPLACE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ " + body.format(value) + " $$")
        if value.startswith("'"):
            p.write(4)
    yield from ()


@_to(ANY)
def replica_session(p: Place) -> Iterator[None]:
    p.sql(
        p.insert(when=LONG_AGO),
        p.update(when=LONG_AGO),
        p.delete(),
        settings="SET session_replication_role = replica",
    )
    yield from ()


@_to(ANY)
def identity_by_default_for_a_while(p: Place) -> Iterator[None]:
    p.sql("ALTER TABLE t ALTER id SET GENERATED BY DEFAULT")
    p.sql(p.insert(id_=p.low_id()), p.insert(id_=p.low_id()))
    p.sql("ALTER TABLE t ALTER id SET GENERATED ALWAYS")
    yield from ()


@_to(ANY)
def overriding(p: Place) -> Iterator[None]:
    p.sql(p.delete(), p.insert(id_=p.low_id()), p.insert(id_=p.low_id()))
    yield from ()


@_to(ANY)
def copied(p: Place) -> Iterator[None]:
    ((low,),) = p.sql(f"SELECT {p.low_id()}")
    part = p.leaf()[1] if p.partitioned else 0
    p.done.append(f"COPY t (id, part) FROM STDIN -- {low} {part}")
    try:
        with p.world.session() as connection, connection.cursor() as cursor:
            cursor.execute(f"COPY t (id, part) FROM PROGRAM 'echo {low} {part}' DELIMITER ' '")
            connection.commit()
    except psycopg2.Error as error:
        raise Refused from error
    yield from ()


@_to(ANY)
def sequence_set_back(p: Place) -> Iterator[None]:
    ((top,),) = p.sql("SELECT max(id) FROM t")
    if top is None:
        raise Refused
    p.sql("DELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY id DESC LIMIT 3)")
    if p.dice.random() < 0.5:
        yield
    p.sql(f"SELECT setval(pg_get_serial_sequence('t', 'id'), greatest(1, {top} - 3))")
    p.sql(*(p.insert() for _ in range(4)))


@_to(ANY)
def label_renamed(p: Place) -> Iterator[None]:
    new = p.new_name("label")
    ((old,),) = p.sql("SELECT enumlabel::text FROM pg_enum WHERE enumtypid = 'mood'::regtype ORDER BY random() LIMIT 1")
    p.sql(f"ALTER TYPE mood RENAME VALUE '{old}' TO '{new}'")
    yield
    if p.dice.random() < 0.5:
        p.sql(f"ALTER TYPE mood RENAME VALUE '{new}' TO '{old}'")


@_to(ANY)
def label_renamed_and_back(p: Place) -> Iterator[None]:
    ((old,),) = p.sql("SELECT enumlabel::text FROM pg_enum WHERE enumtypid = 'mood'::regtype ORDER BY 1 LIMIT 1")
    p.sql(f"ALTER TYPE mood RENAME VALUE '{old}' TO 'meanwhile'")
    p.write(3)
    p.sql(f"ALTER TYPE mood RENAME VALUE 'meanwhile' TO '{old}'")
    yield from ()


@_to(ANY)
def label_renamed_and_back_under_a_writer(p: Place) -> Iterator[None]:
    """A writer's transaction ends when the label has its old name again; a stream has the other name."""
    ((old,),) = p.sql("SELECT enumlabel::text FROM pg_enum WHERE enumtypid = 'mood'::regtype ORDER BY 1 LIMIT 1")
    p.sql(f"ALTER TYPE mood RENAME VALUE '{old}' TO 'meanwhile'")
    with p.open_transaction(p.update(times=3)) as writer:
        p.sql(f"ALTER TYPE mood RENAME VALUE 'meanwhile' TO '{old}'")
        yield
        writer.commit()


@_to(ANY)
def attribute_added_and_dropped(p: Place) -> Iterator[None]:
    p.sql("ALTER TYPE addr ADD ATTRIBUTE country text CASCADE")
    p.write(2)
    if p.dice.random() < 0.7:
        yield
    p.sql("ALTER TYPE addr DROP ATTRIBUTE country CASCADE")


@_to(ANY)
def attribute_replaced(p: Place) -> Iterator[None]:
    """The attribute gets the same name and type again, but its values in the rows are gone."""
    p.sql("ALTER TYPE addr DROP ATTRIBUTE city CASCADE", "ALTER TYPE addr ADD ATTRIBUTE city text CASCADE")
    yield from ()


# Tables that are not partitioned


@_to(OF_PLAIN_TABLES)
def inherited(p: Place) -> Iterator[None]:
    """The child's rows count as the table's, and no key covers them. They disappear when the child is dropped."""
    child = p.new_name("child")
    p.sql(f"CREATE TABLE {child} () INHERITS (t)")
    _write_alone(p, child, 0)
    if p.dice.random() < 0.5:
        yield
        _write_alone(p, child, 0)
    p.sql(f"DROP TABLE {child}")


@_to(OF_PLAIN_TABLES)
def child_let_go_and_taken_back(p: Place) -> Iterator[None]:
    child = p.new_name("child")
    p.sql(f"CREATE TABLE {child} (LIKE t INCLUDING ALL EXCLUDING IDENTITY)")
    _write_alone(p, child, 0)
    p.sql(f"ALTER TABLE {child} INHERIT t")
    if p.dice.random() < 0.7:
        yield
    p.sql(f"ALTER TABLE {child} NO INHERIT t")
    _write_alone(p, child, 0)
    if p.dice.random() < 0.5:
        yield
    p.sql(f"ALTER TABLE {child} INHERIT t")
    yield
    p.sql(f"ALTER TABLE {child} NO INHERIT t")


# Partitions


@_to(OF_PARTITIONS)
def detached_written_attached(p: Place) -> Iterator[None]:
    leaf, part = p.leaf()
    p.sql(f"ALTER TABLE t DETACH PARTITION {leaf}")
    _write_alone(p, leaf, part)
    if p.dice.random() < 0.4:
        yield
        _write_alone(p, leaf, part)
    p.sql(f"ALTER TABLE t ATTACH PARTITION {leaf} FOR VALUES IN ({part})")


@_to(OF_PARTITIONS)
def detached_concurrently(p: Place) -> Iterator[None]:
    """The detach waits for a reader, and a run takes place meanwhile."""
    leaf, part = p.leaf()
    detach = f"ALTER TABLE t DETACH PARTITION {leaf} CONCURRENTLY"
    with p.world.session() as reader, p.world.session() as other:
        if other.server_version < 140_000:
            raise Refused(detach)
        with reader.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM t")
        other.autocommit = True
        failed: list[psycopg2.Error] = []

        def run() -> None:
            try:
                with other.cursor() as cursor:
                    cursor.execute(detach)
            except psycopg2.Error as error:
                failed.append(error)

        p.done.append(f"{detach} -- while it is read")
        thread = threading.Thread(target=run)
        thread.start()
        try:
            pending = f"SELECT 1 FROM pg_inherits WHERE inhrelid = to_regclass('{leaf}') AND inhdetachpending"
            while thread.is_alive() and not p.world.execute(pending):
                thread.join(0.01)
            with suppress(Refused):
                _write_alone(p, leaf, part, identity=True)
            yield
        finally:
            reader.rollback()
            thread.join()
    if failed:
        raise Refused from failed[0]
    if p.dice.random() < 0.3:
        yield
    p.sql(f"ALTER TABLE t ATTACH PARTITION {leaf} FOR VALUES IN ({part})")


@_to(OF_PARTITIONS)
def leaf_truncated(p: Place) -> Iterator[None]:
    leaf, _ = p.leaf()
    p.sql(f"TRUNCATE {leaf}")
    p.write(1)
    yield from ()


@_to(OF_PARTITIONS)
def leaf_replaced(p: Place) -> Iterator[None]:
    leaf, part = p.leaf()
    other = p.new_name("q")
    p.sql(f"CREATE TABLE {other} (LIKE t INCLUDING ALL EXCLUDING IDENTITY)")
    _write_alone(p, other, part)
    p.sql(f"ALTER TABLE t DETACH PARTITION {leaf}")
    p.sql(f"ALTER TABLE t ATTACH PARTITION {other} FOR VALUES IN ({part})")
    if p.dice.random() < 0.5:
        yield
        _write_alone(p, leaf, part)
        p.sql(f"ALTER TABLE t DETACH PARTITION {other}")
        p.sql(f"ALTER TABLE t ATTACH PARTITION {leaf} FOR VALUES IN ({part})")


@_to(OF_PARTITIONS)
def leaf_dropped_and_made_anew(p: Place) -> Iterator[None]:
    leaf, part = p.leaf()
    p.sql(f"DROP TABLE {leaf}")
    p.sql(f"CREATE TABLE {leaf} PARTITION OF t FOR VALUES IN ({part})")
    p.write(2, part=part)
    yield from ()


def _write_alone(p: Place, table: str, part: int, *, identity: bool = False) -> None:
    """Write to a table that is not a partition at the moment. A detached partition has no identity and no trigger."""
    low = f"(SELECT coalesce(max(id), 0) + 1 FROM {table})"
    insert = p.insert(table, part=part, id_=low, when=LONG_AGO)
    p.sql(
        insert if identity else insert.replace("OVERRIDING SYSTEM VALUE", ""),
        p.update(table, part=part, when=LONG_AGO),
        p.delete(table, part=part),
    )


# Publications


@_to(OF_STREAMS)
def publication_of_inserts(p: Place) -> Iterator[None]:
    kinds = p.dice.choice(["insert", "insert, update", "delete", "insert, update, delete"])
    p.sql(f"ALTER PUBLICATION {p.slot} SET (publish = '{kinds}')")
    p.write(4)
    if "truncate" not in kinds and p.dice.random() < 0.3:
        p.sql("TRUNCATE t")
    p.sql(f"ALTER PUBLICATION {p.slot} SET (publish = 'insert, update, delete, truncate')")
    yield from ()


@_to(OF_STREAMS)
def publication_of_some_rows(p: Place) -> Iterator[None]:
    p.sql(f"ALTER PUBLICATION {p.slot} SET TABLE t WHERE (id % 2 = 0)")
    p.write(5)
    p.sql(f"ALTER PUBLICATION {p.slot} SET TABLE t")
    yield from ()


@_to(OF_STREAMS)
def publication_of_some_columns(p: Place) -> Iterator[None]:
    p.sql(f"ALTER PUBLICATION {p.slot} SET TABLE t (id, part, cents)")
    p.write(5)
    p.sql(f"ALTER PUBLICATION {p.slot} SET TABLE t")
    yield from ()


@_to(OF_STREAMS)
def publication_without_the_table(p: Place) -> Iterator[None]:
    p.sql(f"ALTER PUBLICATION {p.slot} DROP TABLE t")
    p.write(4)
    p.sql(f"ALTER PUBLICATION {p.slot} ADD TABLE t")
    yield from ()


@_to(OF_STREAMS)
def publication_made_anew(p: Place) -> Iterator[None]:
    p.sql(f"DROP PUBLICATION {p.slot}")
    p.write(3)
    p.sql(f"CREATE PUBLICATION {p.slot} FOR TABLE t WITH (publish_via_partition_root = true)")
    yield from ()


@_to(OF_STREAMS)
def publication_without_root(p: Place) -> Iterator[None]:
    p.sql(f"ALTER PUBLICATION {p.slot} SET (publish_via_partition_root = false)")
    p.write(3)
    p.sql(f"ALTER PUBLICATION {p.slot} SET (publish_via_partition_root = true)")
    yield from ()


# Debezium's connectors


@_to(OF_CONNECTORS)
def slot_lost(p: Place) -> Iterator[None]:
    """Only the run in between notices it: a slot that is dropped and recreated between two runs looks like the old one
    (docs/change-streams.md)."""
    assert p.connector
    p.sql(f"SELECT pg_drop_replication_slot('{p.slot}')")
    p.write(3)
    yield
    with suppress(Refused):
        p.write(3)
    p.connector.start_anew()
    with suppress(Refused):
        p.write(1)


# Edits of the target by hand. They do not include an UPDATE that leaves the added columns unchanged: no cheap check
# shows it (docs/strategies.md), and a reconcile does not find it either.


@_to(OF_TARGETS)
def target_rows_removed(p: Place) -> Iterator[None]:
    _by_hand(p, f'DELETE FROM {p.target} WHERE "ID" % 3 = {p.dice.randint(0, 2)}')
    yield from ()


@_to(OF_TARGETS)
def target_rows_doubled(p: Place) -> Iterator[None]:
    _by_hand(p, f'INSERT INTO {p.target} SELECT * FROM {p.target} WHERE "ID" % 3 = {p.dice.randint(0, 2)}')
    yield from ()


@_to(OF_TARGETS)
def target_set_back(p: Place) -> Iterator[None]:
    """Restore the target from a copy as of the previous run; the sync log continues."""
    kept = p.new_name("KEPT")
    _by_hand(p, f"CREATE TABLE {kept} AS SELECT * FROM {p.target}")
    p.write(3)
    yield
    _by_hand(p, f"CREATE OR REPLACE TABLE {p.target} AS SELECT * FROM {kept}")


@_to(OF_TARGETS)
def target_rows_set_back(p: Place) -> Iterator[None]:
    """Set back updated rows only, so that the number of rows stays."""
    kept = p.new_name("KEPT")
    _by_hand(p, f"CREATE TABLE {kept} AS SELECT * FROM {p.target}")
    p.sql(p.update(times=4))
    yield
    _by_hand(p, f"CREATE OR REPLACE TABLE {p.target} AS SELECT * FROM {kept}")


@_to(OF_TARGETS)
def target_column_dropped(p: Place) -> Iterator[None]:
    _by_hand(p, f'ALTER TABLE {p.target} DROP COLUMN "V"')
    p.write(1)
    yield from ()


@_to(OF_TARGETS)
def target_column_of_ours_dropped(p: Place) -> Iterator[None]:
    _by_hand(p, f'ALTER TABLE {p.target} DROP COLUMN "_SRC_XMIN"')
    yield from ()


@_to(OF_TARGETS)
def target_column_renamed(p: Place) -> Iterator[None]:
    _by_hand(p, f'ALTER TABLE {p.target} RENAME COLUMN "V" TO "{p.new_name("V_OLD")}"')
    p.write(1)
    yield from ()


@_to(OF_TARGETS)
def target_column_retyped(p: Place) -> Iterator[None]:
    """Refused when the column is already text: only values would change, which is an UPDATE that leaves the added
    columns unchanged."""
    if _target_type(p, "CENTS") == "VARCHAR":
        raise Refused
    _by_hand(p, f'ALTER TABLE {p.target} ALTER COLUMN "CENTS" TYPE VARCHAR USING left("CENTS"::VARCHAR, 1)')
    p.write(1)
    yield from ()


def _by_hand(p: Place, statement: str) -> None:
    p.done.append(f"-- in the warehouse: {statement}")
    with DuckDBWarehouse(p.world.warehouse_path).session() as session:
        try:
            session._run(statement, ())  # type: ignore[attr-defined]
        except WarehouseError as error:
            p.done.append(f"-- refused: {error.what}")
            raise Refused from error


def _target_type(p: Place, column: str) -> str:
    table = p.target.rpartition(".")[2].strip('"')
    found = p.world.query(
        "SELECT DATA_TYPE FROM INFORMATION_SCHEMA.COLUMNS WHERE TABLE_NAME = ? AND COLUMN_NAME = ?", (table, column)
    )
    if not found:
        raise Refused
    return str(found[0][0])


# Changes that cost nothing, or one scan at most


@_to(INNOCENT)
def analyzed(p: Place) -> Iterator[None]:
    p.sql("ANALYZE t", "COMMENT ON TABLE t IS 'a table'", "GRANT SELECT ON t TO PUBLIC")
    yield from ()


@_to(INNOCENT)
def index_made(p: Place) -> Iterator[None]:
    name = p.new_name("i")
    p.sql(f"CREATE INDEX {name} ON t (v)", "ALTER TABLE t ALTER v SET STATISTICS 50", f"DROP INDEX {name}")
    yield from ()
