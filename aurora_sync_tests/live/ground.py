"""Where the cases of the live suite run, and how everything that they leave behind is removed."""

from __future__ import annotations

import dataclasses
import secrets
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import psycopg2
from psycopg2 import sql

from aurora_sync.config.tables import TableConfig
from aurora_sync.engine import sync
from aurora_sync.engine.places import Places
from aurora_sync.model.receipt import Receipt
from aurora_sync.warehouse.base import Row, Session, Trial, Warehouse
from aurora_sync.warehouse.ddl import TableName, target_name
from aurora_sync.warehouse.query_tag import NO_TAG, QueryTag


class Ground(Enum):
    """``FAKE`` is the real connector before a fakesnow server. ``SMALL`` is the small Snowflake of
    warehouse/snowflake_semantics.py, which has Snowflake's transactions."""

    SNOWFLAKE = "on Snowflake"
    FAKE = "on the fake"
    SMALL = "on the fake (small Snowflake)"


def tag(name: str, part: str) -> QueryTag:
    """Return the tag of the statements that the suite itself sends."""
    return QueryTag("live", f"{name} {part}")


class Recorded(Warehouse):
    """A warehouse that notes the statements of its sessions."""

    def __init__(self, warehouse: Warehouse, sent: list[str]) -> None:
        self.inner, self.sent = warehouse, sent
        self.kind, self.dialect, self.metered = warehouse.kind, warehouse.dialect, warehouse.metered

    @contextmanager
    def session(self, *, query_tag: QueryTag = NO_TAG) -> Iterator[Session]:
        with self.inner.session(query_tag=query_tag) as session:
            execute = session._execute  # type: ignore[attr-defined]

            def noting(statement: str, parameters: Sequence[Any]) -> Any:
                self.sent.append(statement)
                return execute(statement, parameters)

            session._execute = noting  # type: ignore[attr-defined]
            yield session

    def describe(self) -> str:
        return self.inner.describe()

    def problems(self, trial: Trial) -> list[str]:
        return self.inner.problems(trial)


@dataclass
class Live:
    """Source, stage and warehouse of the suite, with a schema of its own on either side. ``rows`` is the size of the
    large tables. ``reads_other_files`` says whether the warehouse copies the files of a DMS task."""

    ground: Ground
    places: Places
    session: Session
    source: Any  # a connection with autocommit, whose search_path is the schema
    name: str
    sent: list[str]  # statements that runs sent to the warehouse
    rows: int = 1_000_000
    _schemas: list[str] = field(default_factory=list)

    @property
    def on_snowflake(self) -> bool:
        return self.ground is Ground.SNOWFLAKE

    @property
    def schema(self) -> str:
        """The schema of the targets."""
        return self.name.upper()

    @property
    def plain(self) -> Places:
        """The places without the record of statements."""
        assert isinstance(self.places.warehouse, Recorded)
        return dataclasses.replace(self.places, warehouse=self.places.warehouse.inner)

    def config(self, table: str, watermark_type: str = "xmin", **keys: Any) -> TableConfig:
        named = {"schema": self.name, "table_name": table, "watermark_type": watermark_type}
        return TableConfig.model_validate({**named, **keys})

    def run(self, config: TableConfig, *changes: str, **options: Any) -> Receipt:
        """Change the source, each statement in its transaction, and sync. ``sent`` has the statements of the run."""
        for change in changes:
            self.at_source(change)
        self.sent.clear()
        return sync.run(config, self.places, **options)

    def at_source(self, statement: str) -> list[Row]:
        with self.source.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def query(self, statement: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run one statement in the warehouse, in the suite's own session."""
        return self.session.query(statement, parameters)

    def value(self, statement: str, parameters: Sequence[Any] = ()) -> Any:
        """Return the first value of the first row."""
        return self.query(statement, parameters)[0][0]

    def labelled(self, statement: str) -> list[dict[str, Any]]:
        """Return the rows of a SHOW or DESCRIBE as dictionaries."""
        found: list[dict[str, Any]] = self.session._labelled(statement)  # type: ignore[attr-defined]
        return found

    def table(self, name: str) -> TableName:
        return TableName(self.schema, name)

    def rows_of(self, config: TableConfig, columns: str) -> list[Row]:
        return sorted(self.query(f"SELECT {columns} FROM {target_name(config).sql}"), key=repr)

    def further_schema(self, suffix: str) -> str:
        """Return the name of a further schema of the warehouse, which is removed with the others if it exists."""
        name = f"{self.schema}_{suffix}"
        self._schemas.append(name)
        return name

    def make_schema(self, suffix: str, options: str = "") -> str:
        name = self.further_schema(suffix)
        self.query(f'CREATE SCHEMA "{name}"{options}')
        return name

    def clean(self) -> list[str]:
        """Remove everything on both sides and in the stage, and return what could not be removed."""
        left = []
        for schema in (self.schema, self.places.log_schema, *self._schemas):
            try:
                # The suite's own session may be broken.
                with self.plain.warehouse.session(query_tag=tag(self.name, "suite")) as session:
                    session.query(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')
            except Exception as error:  # noqa: BLE001 -- the rest is removed as well
                left.append(f"schema {schema} in Snowflake: {error}")
        try:
            self.at_source(f"DROP SCHEMA IF EXISTS {self.name} CASCADE")
        except psycopg2.Error as error:
            left.append(f"schema {self.name} at the source: {error}")
        store = self.places.stage.store
        try:
            store.delete(store.list(f"{store.prefix}{self.name}"))
        except Exception as error:  # noqa: BLE001 -- what is left is reported
            left.append(f"objects under {self.name} in the stage: {error}")
        return left


@contextmanager
def opened(ground: Ground, places: Places, *, rows: int) -> Iterator[Live]:
    """Make the suite's schemas on these places. Everything is removed at the end, also after a failure."""
    name = f"aurora_sync_live_{secrets.token_hex(4)}"
    sent: list[str] = []
    recorded = dataclasses.replace(places, warehouse=Recorded(places.warehouse, sent), log_schema=f"_{name}".upper())
    with ExitStack() as stack:
        connection = stack.enter_context(closing(psycopg2.connect(places.source.dsn)))
        connection.autocommit = True
        session = stack.enter_context(places.warehouse.session(query_tag=tag(name, "suite")))
        live = Live(ground, recorded, session, connection, name, sent, rows)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql.SQL("CREATE SCHEMA {0}; SET search_path TO {0}").format(sql.Identifier(name)))
            live.query(f'CREATE SCHEMA "{live.schema}"')
            yield live
        finally:
            if left := live.clean():
                print("could not be removed; remove it by hand:", *left, sep="\n  ", file=sys.stderr)
