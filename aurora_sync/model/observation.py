"""The source at the moment of a read: the snapshot, what was looked up beside it, and what the fence saw."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from aurora_sync.errors import DefectError
from aurora_sync.model.fences import ClockOffset, Fence
from aurora_sync.model.watermark import Canary, Snapshot, Token

F = TypeVar("F", bound=Fence)


@dataclass(frozen=True)
class Observation:
    """What every read knows of the source. Open transactions were looked up before the snapshot, the rest in it."""

    snapshot: Snapshot
    token: Token
    offset: ClockOffset  # of the source's clock, in the snapshot
    fence: Fence | None = None  # where the strategy asked for one
    prepared_transactions: int = 0  # of this database
    oldest_writer: datetime | None = None  # start of the oldest transaction that holds a transaction id
    oldest_writer_name: str = ""  # whose that is, for a person
    canaries: tuple[Canary, ...] = ()  # those of the stored watermark that are still there, as they are now

    def seen(self, kind: type[F]) -> F:
        """What the fence of this kind saw. Raises DefectError where the strategy did not ask for it."""
        if not isinstance(self.fence, kind):
            raise DefectError(f"{kind.__name__} was not looked at: Strategy.fence has to ask for it")
        return self.fence
