"""Keys that PostgreSQL considers equal but prints as two texts, and statements on their rows."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg2.errors
import pytest

from aurora_sync.source.connection import connect
from aurora_sync_tests.fixtures.server_build import need_extension
from aurora_sync_tests.scenarios.world import World


@dataclass(frozen=True)
class EqualKeys:
    """A type with equal keys: ``one`` and ``two`` are equal, ``other`` is not, each in SQL."""

    table: str
    type: str
    one: str
    two: str
    other: str

    def needs_server(self, world: World) -> None:
        """Skip the test if the server was built without the extension that has the type."""
        if self.type == "citext":
            need_extension(world.dsn, self.type)

    def create(self) -> list[str]:
        """Return statements that create three rows with a long value, which is stored out of line and not repeated by a
        stream."""
        long = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 200) g)"
        return [
            *(["CREATE EXTENSION citext"] if self.type == "citext" else []),
            f"CREATE TABLE {self.table} (id {self.type}, n int, v int, doc text, PRIMARY KEY (id, n))",
            f"ALTER TABLE {self.table} ALTER doc SET STORAGE EXTERNAL",
            f"INSERT INTO {self.table} SELECT id::{self.type}, n, 0, {long} || n"
            f" FROM (VALUES ({self.one}, 1), ({self.one}, 2), ({self.one}, 3), ({self.other}, 4)) r(id, n)",
        ]

    def assert_equal_in_postgresql(self, world: World) -> None:
        with pytest.raises(psycopg2.errors.UniqueViolation):
            world.execute(f"INSERT INTO {self.table} VALUES ({self.two}, 1, 0, '')")

    def changes(self) -> list[str]:
        """Return changes from one text to the other, back, and by way of another row."""
        t, two = self.table, f"{self.two}::{self.type}"
        return [
            f"UPDATE {t} SET id = {two} WHERE n = 1",
            f"UPDATE {t} SET id = {two} WHERE n = 2",
            f"UPDATE {t} SET v = 1 WHERE n = 2",
            f"UPDATE {t} SET id = {self.one}::{self.type} WHERE n = 2",
            f"DELETE FROM {t} WHERE n = 3",
            f"INSERT INTO {t} VALUES ({two}, 3, 2, 'short')",
            f"UPDATE {t} SET v = 3 WHERE n = 4",
        ]

    def more_changes(self) -> list[str]:
        """Return changes for a target that now holds the other text."""
        t, one = self.table, f"{self.one}::{self.type}"
        return [f"UPDATE {t} SET id = {one}, v = 4 WHERE n = 1", f"DELETE FROM {t} WHERE n = 3"]

    def assert_synced(self, world: World) -> None:
        """Assert that each row exists once, with the text of its key if the warehouse stores a text."""
        # connect() prints values as an export does
        with connect(world.dsn) as connection, connection.cursor() as cursor:
            cursor.execute(f"SELECT concat(id), n, v, md5(doc) FROM public.{self.table}")
            source = cursor.fetchall()
        target = world.query(f'SELECT "ID", "N", "V", MD5("DOC") FROM PUBLIC.{self.table.upper()}')
        source, target = (sorted((self._key(key), *row) for key, *row in rows) for rows in (source, target))
        assert source == target, self.table

    def _key(self, key: object) -> str:
        """Return the key to compare: for a float its value, since it has one zero."""
        return str(float(str(key)) + 0.0) if self.type.startswith("float") and "[" not in self.type else str(key)


FLOATS = (
    EqualKeys("doubles", "float8", "'0'", "'-0'", "'NaN'"),
    EqualKeys("singles", "float4", "'0'", "'-0'", "'NaN'"),
)
SCALES = EqualKeys("scales", "numeric", "'1.0'", "'1.00'", "'NaN'")
FIXED = EqualKeys("fixed", "numeric(10,2)", "'1.0'", "'1.00'", "'-1'")
FOLDED = EqualKeys("folded", "citext", "'a'", "'A'", "'b'")
TEXTS = (
    SCALES,
    FIXED,
    FOLDED,
    EqualKeys("padded", "bpchar", "'a'", "'a '", "'b'"),
    EqualKeys("spans", "interval", "'1 day'", "'24:00:00'", "'1 mon'"),
    EqualKeys("moments", "timestamptz", "'2020-01-01 00:00+00'", "'2020-01-01 01:00+01'", "'infinity'"),
    EqualKeys("documents", "jsonb", """'{"a": 1.0}'""", """'{"a": 1.00}'""", "'{}'"),
    EqualKeys("lists", "float8[]", "'{0}'", "'{-0}'", "'{NaN}'"),
)
