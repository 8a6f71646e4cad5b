"""The fences, one file each, and the reader for each kind of request."""

from __future__ import annotations

from typing import Any

from aurora_sync.model.fences import ClockRequest, FenceRequest, LockRequest, OutboxRequest, SlotRequest
from aurora_sync.model.relation import SourceTable
from aurora_sync.model.watermark import Token
from aurora_sync.source.debezium.kafka import Kafka
from aurora_sync.source.fences.base import FenceReader
from aurora_sync.source.fences.clock import ClockReader
from aurora_sync.source.fences.locks import LocksReader
from aurora_sync.source.fences.outbox import OutboxReader
from aurora_sync.source.fences.slot import SlotReader

_READERS: dict[type[FenceRequest], type[FenceReader[Any]]] = {
    ClockRequest: ClockReader,
    LockRequest: LocksReader,
    SlotRequest: SlotReader,
    OutboxRequest: OutboxReader,
}


def reader_for(request: FenceRequest, table: SourceTable, last: Token | None, kafka: Kafka) -> FenceReader[Any]:
    """Return the reader that answers the request, for one read of the table."""
    return _READERS[type(request)](request, table, last, kafka)
