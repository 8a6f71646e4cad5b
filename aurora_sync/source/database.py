"""The source database: its tables, and reads of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg2

from aurora_sync.errors import SourceError
from aurora_sync.model.relation import SourceTable
from aurora_sync.source import catalogue, decoding, outbox, table_names
from aurora_sync.source.aurora_export import AuroraExport
from aurora_sync.source.connection import connect
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.dsn import database_name, describe
from aurora_sync.source.exporter import ClientCopy, Exporter
from aurora_sync.source.reading import Reading


def exporters(kms_key: str = "") -> dict[str, Exporter]:
    """Return the exporters by the value of ``export`` in tables.yaml."""
    return {"client": ClientCopy(), "aurora": AuroraExport(kms_key)}


@dataclass(frozen=True)
class Source:
    """A PostgreSQL database. Creating a Source does no I/O.

    ``dsn`` is a libpq string or URL, ``kafka`` has the brokers that the database's changes may be sent to,
    ``exporters`` move rows to the stage, by the value of ``export`` in tables.yaml, and ``longest_value`` is the most
    bytes of a value that the warehouse accepts (None: no limit).
    """

    dsn: str
    kafka: Kafka = field(default_factory=Kafka)
    exporters: Mapping[str, Exporter] = field(default_factory=lambda: exporters())
    longest_value: int | None = None

    def __repr__(self) -> str:
        return f"Source({self.describe()})"

    def describe(self) -> str:
        return describe(self.dsn)

    @property
    def database(self) -> str:
        return database_name(self.dsn)

    def existing(self) -> list[tuple[str, str]]:
        """List (schema, name) of every relation that can be synced."""
        with connect(self.dsn) as connection:
            return table_names.existing(connection)

    def catalogue(self, names: Iterable[tuple[str, str]]) -> dict[str, SourceTable]:
        """Load the tables among ``names`` that exist, by ``schema.name``, in a fixed number of queries."""
        with connect(self.dsn) as connection:
            return catalogue.load(connection, names)

    def acknowledge(self, table: SourceTable, snapshot: str) -> None:
        """Remove the keys that this snapshot saw from the table's outbox: the target has them. Raises SourceError."""
        if table.outbox and snapshot:
            with connect(self.dsn, application_name="aurora_sync outbox") as connection:
                outbox.acknowledge(connection, table.outbox, snapshot)

    @contextmanager
    def reading(self, schema: str, name: str, *, load_id: str = "", export: str = "client") -> Iterator[Reading]:
        """Open a connection to read one table, with the exporter ``export``. Raises SourceError if the table does not
        exist."""
        with connect(self.dsn, application_name=f"aurora_sync {load_id}".strip()) as connection:
            table = catalogue.load(connection, [(schema, name)]).get(f"{schema}.{name}")
            if table is None:
                raise SourceError(
                    "there is no such table, or this role has no USAGE privilege on its schema",
                    where=f"{schema}.{name}",
                    hint="check table_name and schema in tables.yaml; `aurora-sync check` lists similar names",
                )
            try:
                yield Reading(connection, table, self.kafka, self.exporters[export], self.longest_value)
            except (psycopg2.Error, SourceError) as error:
                if (refused := decoding.of_read(error)) is None:
                    raise
                with connect(self.dsn) as another:  # the read's own transaction is aborted
                    raise decoding.located(another, table, refused) from error
