"""The table under attack: created again for each trial, and written to with whatever columns it has at the moment."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Connection

from aurora_sync_tests.scenarios.debezium.model import ModelConnector
from aurora_sync_tests.scenarios.world import World

PARTS = 3
# A move that would have to wait for a run's lock is given up.
LOCK_TIMEOUT = "300ms"
LONG_AGO = "2020-01-01"

_TYPES = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE addr AS (street text, city text);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
"""
_COLUMNS = """
CREATE TABLE {name} (
    id bigint GENERATED ALWAYS AS IDENTITY, part int NOT NULL, v text, cents int NOT NULL DEFAULT 0, m mood, a addr,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (id, part)) {partitions};
"""
_TRIGGER = """
CREATE TRIGGER touch BEFORE INSERT OR UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE {name} ENABLE ALWAYS TRIGGER touch;
"""

# The current columns, with expressions for values of each.
_NOW = """
SELECT a.attname, t.typname, t.typtype::text,
       ARRAY(SELECT enumlabel::text FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder),
       (SELECT count(*) FROM pg_attribute c WHERE c.attrelid = t.typrelid AND c.attnum > 0 AND NOT c.attisdropped)
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
   AND a.attname NOT IN ('id', 'part', 'updated_at')
 ORDER BY a.attnum
"""


class Refused(Exception):
    """The server refused a statement of a move. The move ends at that statement."""


@dataclass
class Place:
    """A table in a world. ``slot`` is the name of the publication of the table, if there is one."""

    world: World
    dice: random.Random
    partitioned: bool
    slot: str = ""
    connector: ModelConnector | None = None
    target: str = '"PUBLIC"."T"'
    names: int = 0
    values: int = 0
    done: list[str] = field(default_factory=list)  # the statements so far, for the report of a failure

    def make(self, name: str = "t") -> None:
        partitions = "PARTITION BY LIST (part)" if self.partitioned else ""
        self.sql(_COLUMNS.format(name=name, partitions=partitions))
        if self.partitioned:
            for part in range(PARTS):
                self.sql(f"CREATE TABLE {self.new_name(f'{name}_p')} PARTITION OF {name} FOR VALUES IN ({part})")
        self.sql(_TRIGGER.format(name=name))

    def begin(self) -> None:
        self.sql(_TYPES)
        self.make()
        self.sql(*(self.insert() for _ in range(20)))

    def new_name(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def sql(self, *statements: str, settings: str = "") -> list[tuple[Any, ...]]:
        """Run each statement in its own transaction. Raises Refused."""
        self.done += statements
        try:
            return self.world.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'; {settings}", *statements)
        except psycopg2.Error as error:
            self.done.append(f"-- refused: {str(error).splitlines()[0]}")
            raise Refused from error

    @contextmanager
    def open_transaction(self, statement: str) -> Iterator[Connection]:
        """Open a transaction that has run the statement. Raises Refused."""
        self.done.append(f"-- and does not commit yet: {statement}")
        with ExitStack() as end:
            try:
                connection = end.enter_context(
                    self.world.open_transaction(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'", statement)
                )
            except psycopg2.Error as error:
                self.done.append(f"-- refused: {str(error).splitlines()[0]}")
                raise Refused from error
            yield connection

    def leaves(self) -> list[tuple[str, int]]:
        """Return the partitions: their name and their value of ``part``."""
        found = self.world.execute(
            "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) FROM pg_inherits i JOIN pg_class c"
            " ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass('t') ORDER BY 1"
        )
        return [(name, int("".join(filter(str.isdigit, bound)))) for name, bound in found]

    def leaf(self) -> tuple[str, int]:
        found = self.leaves()
        if not found:
            raise Refused
        return self.dice.choice(found)

    def write(self, times: int, table: str = "t", *, part: int | None = None, settings: str = "") -> None:
        """Run random inserts, updates and deletes, each committed."""
        statements = [self._statement(table, part) for _ in range(times)]
        self.sql(*statements, settings=settings)

    def insert(self, table: str = "t", *, id_: str = "", part: int | None = None, when: str = "") -> str:
        """Return an INSERT. ``id_`` and ``when`` replace the values that the database would generate."""
        values = self._values(table)
        values["part"] = str(self._part(part))
        if id_:
            values["id"] = id_
        if when:
            values["updated_at"] = f"'{when}'"
        names = ", ".join(map(_quoted, values))
        overriding = "OVERRIDING SYSTEM VALUE" if id_ else ""
        return f"INSERT INTO {_quoted(table)} ({names}) {overriding} VALUES ({', '.join(values.values())})"

    def update(self, table: str = "t", *, part: int | None = None, when: str = "", times: int = 1) -> str:
        values = self._values(table)
        chosen = self.dice.sample(sorted(values), k=min(len(values), 2))
        if when:
            values["updated_at"], chosen = f"'{when}'", [*chosen, "updated_at"]
        assignments = ", ".join(f"{_quoted(name)} = {values[name]}" for name in chosen)
        return f"UPDATE {_quoted(table)} SET {assignments} WHERE {self._some(table, part, times)}"

    def delete(self, table: str = "t", *, part: int | None = None) -> str:
        return f"DELETE FROM {_quoted(table)} WHERE {self._some(table, part, 1)}"

    def low_id(self) -> str:
        """Return an unused id below those that the sequence will produce."""
        return (
            "(SELECT coalesce(min(n), 0) FROM generate_series(1, (SELECT coalesce(max(id), 1) FROM t)) n"
            " WHERE n NOT IN (SELECT id FROM t))"
        )

    def _statement(self, table: str, part: int | None) -> str:
        kind = self.dice.random()
        if kind < 0.45:
            return self.insert(table, part=part)
        return self.update(table, part=part) if kind < 0.8 else self.delete(table, part=part)

    def _part(self, part: int | None) -> int:
        if part is not None:
            return part
        known = [each for _, each in self.leaves()] if self.partitioned else list(range(PARTS))
        if not known:
            raise Refused
        return self.dice.choice(known)

    def _some(self, table: str, part: int | None, times: int) -> str:
        where = f"WHERE part = {part}" if part is not None else ""
        chosen = f"SELECT id FROM {_quoted(table)} {where} ORDER BY id * {self.dice.choice([7, 11, 13])} % 17, id"
        return f"id IN ({chosen} LIMIT {times})"

    def _values(self, table: str) -> dict[str, str]:
        """Return literals for the columns that writers may set."""
        try:
            columns = self._columns(table)
        except psycopg2.Error as error:
            raise Refused from error
        return {name: self._value(name, *rest) for name, *rest in columns}

    def _columns(self, table: str) -> list[Any]:
        with self.world.session() as connection, connection.cursor() as cursor:
            cursor.execute(_NOW, (_quoted(table),))
            return cursor.fetchall()

    def _value(self, name: str, type_: str, kind: str, labels: list[str], attributes: int) -> str:
        self.values += 1
        if kind == "e":
            text = self.dice.choice(labels)
        elif kind == "c":
            text = f"({','.join(f'x{self.values}_{n}' for n in range(attributes))})"
        elif name == "cents" or type_ in ("int4", "int8", "numeric"):
            text = str(self.values)
        else:
            text = f"v{self.values}"
        return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
