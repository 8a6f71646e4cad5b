"""A fence: statements in a fixed order around the snapshot, which prove that nothing older can still appear."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Generic, TypeVar

from psycopg2.extensions import cursor as Cursor

from aurora_sync.errors import Kind, SourceError
from aurora_sync.model.fences import Fence, FenceRequest
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Token
from aurora_sync.source.debezium.kafka import Kafka

R = TypeVar("R", bound=FenceRequest)


@dataclass
class FenceReader(ABC, Generic[R]):
    """Answers one request for one read. Call :meth:`before`, then :meth:`inside`, each once. ``last`` is the token of
    the previous run."""

    request: R
    table: SourceTable
    last: Token | None
    kafka: Kafka

    @abstractmethod
    def before(self, cursor: Cursor) -> None:
        """Run statements before the snapshot exists, each in a transaction of its own."""

    @abstractmethod
    def inside(self, cursor: Cursor, token: Token) -> Fence:
        """Run statements in the snapshot, and return what both steps saw. ``token`` is that of the snapshot."""

    @property
    def former(self) -> dict[str, str]:
        """Other tables that had this table's name before, by oid (:class:`~aurora_sync.model.watermark.Token`)."""
        return {}


def altered_meanwhile(table: SourceTable) -> SourceError:
    return SourceError(
        "the definition of the table changed at the start of the read",
        where=table.qualified_name,
        hint="another session alters the table: run again when its ALTER, CREATE or DROP has ended",
        kind=Kind.TRANSIENT,
    )
