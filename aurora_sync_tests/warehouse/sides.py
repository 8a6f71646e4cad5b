"""One table in PostgreSQL and in the warehouse, exported and applied as a run does it."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.config.tables import TableConfig
from aurora_sync.model.buckets import Buckets, Sums
from aurora_sync.model.manifest import Manifest, StagedFile
from aurora_sync.model.relation import SourceTable
from aurora_sync.source import catalogue, sums
from aurora_sync.source.connection import connect
from aurora_sync.source.copy_out import copy_out
from aurora_sync.warehouse import ddl
from aurora_sync.warehouse import sums as target_sums
from aurora_sync.warehouse.base import Session
from aurora_sync.warehouse.ddl import Layout
from aurora_sync_tests.warehouse.increments import Folder, apply

WHOLE = Buckets(1)


@dataclass
class Sides:
    """Table ``t`` of ``dsn``, with the merge key ``key``, and its target."""

    dsn: str
    session: Session
    folder: Folder
    key: tuple[str, ...] = ("id",)
    column_types: dict[str, Any] = dataclasses.field(default_factory=dict)
    options: dict[str, Any] = dataclasses.field(default_factory=dict)  # further keys of tables.yaml
    state: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def config(self) -> TableConfig:
        return TableConfig(table_name="t", watermark_type="xmin", column_types=self.column_types, **self.options)

    def execute(self, statement: str, parameters: Iterable[Any] = ()) -> None:
        with contextlib.closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statement, list(parameters) or None)

    @contextlib.contextmanager
    def source(self) -> Iterator[tuple[Connection, SourceTable]]:
        with connect(self.dsn) as connection:
            yield connection, catalogue.load(connection, [("public", "t")])["public.t"]

    def export(self, where: str | None = None) -> Manifest:
        text = io.BytesIO()
        with self.source() as (connection, table):
            condition = sql.SQL(where) if where else None
            columns = tuple(
                dataclasses.replace(column, policy=self.column_types.get(column.name, "exact"))
                for column in table.columns
            )
            rows = copy_out(connection, table, columns, condition, text)
        manifest = self.folder.increment(columns, [], key=self.key, table="public.t", **self.state)
        file = self.folder.put(f"{manifest.prefix}part-00000.csv.zst", text.getvalue())
        return dataclasses.replace(manifest, files=(StagedFile(file.name, rows, file.bytes),))

    def sync(self, where: str | None = None) -> None:
        manifest = self.export(where)
        applied = apply(self.session, self.config, manifest, self.folder)
        self.state = {"expected": applied.run_sequence, "expected_load_id": manifest.load_id}

    @contextlib.contextmanager
    def staged(self, where: str = "false") -> Iterator[Layout]:
        """Fill the staging table with the source rows that match ``where``; by default none."""
        manifest = self.export(where)
        existing = ddl.existing_columns(self.session, ddl.target_name(self.config))
        layout = ddl.layout(self.config, manifest, "_AURORA_SYNC", existing)
        self.session.query(ddl.create_staging(layout))
        self.session.load(layout.staging.sql, manifest, self.folder)
        yield layout
        self.session.query(ddl.drop_table(layout.staging))

    @contextlib.contextmanager
    def comparison(self, staged: str = "false") -> Iterator[Comparison]:
        """Yield a comparison of both sides, with the matching source rows in the staging table."""
        with self.staged(staged) as layout, self.source() as (connection, table):
            yield Comparison(self.session, layout, connection, table, self.key)

    def versions(self, width: int, among: Buckets = WHOLE, staged: str = "false") -> tuple[Sums, Sums]:
        with self.comparison(staged) as comparison:
            return comparison.versions(width, among)

    def equal(self) -> bool:
        """Return whether each row has the same version and content on both sides."""
        with self.comparison() as both:
            return all(ours == theirs for ours, theirs in (both.versions(1), both.contents(1)))

    def contents(self, width: int, among: Buckets = WHOLE) -> tuple[Sums, Sums]:
        with self.comparison() as comparison:
            return comparison.contents(width, among)


@dataclass
class Comparison:
    """Sums of the source and of the target."""

    session: Session
    layout: Layout
    connection: Connection
    table: SourceTable
    key: tuple[str, ...]

    def versions(self, width: int, among: Buckets = WHOLE) -> tuple[Sums, Sums]:
        """Return the version sums of the source, and those of the target after the staged rows are merged."""
        return (
            sums.version_sums(self.connection, self.table, self.key, among, width),
            target_sums.read(self.session, target_sums.version_sums(self.layout, among, width)),
        )

    def contents(self, width: int, among: Buckets = WHOLE) -> tuple[Sums, Sums]:
        contents = [
            sums.Content(source, target.rule.form)
            for source, target in zip(self.table.columns, self.layout.columns, strict=True)
            if target.rule.form
        ]
        return (
            sums.content_sums(self.connection, self.table, self.key, contents, among, width),
            target_sums.read(self.session, target_sums.content_sums(self.layout, among, width, merged=False)),
        )
