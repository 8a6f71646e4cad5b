"""Exporters, which move the rows of a statement from the source to the stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from aurora_sync.errors import DefectError
from aurora_sync.model.export import Destination, Exported
from aurora_sync.model.relation import SourceTable
from aurora_sync.source.copy_out import Progress, copy_rows, reporting


class Exporter(ABC):
    """Writes the rows of a statement to files. An exporter has no state: one serves all tables."""

    @abstractmethod
    def export(
        self,
        connection: Connection,
        table: SourceTable,
        statement: sql.Composable,
        destination: Destination,
        progress: Callable[[Progress], None] | None = None,
    ) -> Exported:
        """Run the statement in the open transaction, and so in its snapshot, and write its rows as PostgreSQL's CSV to
        the destination. All rows are durable there when the caller has closed it; meanwhile the transaction is free
        for queries.

        Raises SourceError or StageError. Afterwards the transaction cannot be used any more, and the caller discards
        the destination. A killed process leaves files that no manifest names.
        """


class ClientCopy(Exporter):
    """Exports by ``COPY … TO STDOUT``: each row passes through this process."""

    def export(
        self,
        connection: Connection,
        table: SourceTable,
        statement: sql.Composable,
        destination: Destination,
        progress: Callable[[Progress], None] | None = None,
    ) -> Exported:
        if progress:
            destination.each_chunk = reporting(table.row_estimate, progress)
        rows = copy_rows(connection, table, statement, destination)
        written = destination.finish()
        if rows != written:
            raise DefectError(f"PostgreSQL sent {rows} rows, but {written} were written")
        return Exported(rows, destination.longest, bytes(destination.tail))
