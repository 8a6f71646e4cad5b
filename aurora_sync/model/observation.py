"""The state of the source at the moment of a read: the snapshot, further facts, and the answer of the fence."""

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
    """The facts about the source that every read has. Open transactions were looked up before the snapshot, all other
    facts in it."""

    snapshot: Snapshot
    token: Token
    offset: ClockOffset  # of the source's clock, in the snapshot
    fence: Fence | None = None  # where the strategy asked for one
    prepared_transactions: int = 0  # of this database
    oldest_writer: datetime | None = None  # start of the oldest transaction that holds a transaction id
    oldest_writer_name: str = ""  # description of that transaction's owner, for a person
    canaries: tuple[Canary, ...] = ()  # canaries of the stored watermark that still exist, as they are now

    def seen(self, kind: type[F]) -> F:
        """Return the answer of the fence of this kind. Raises DefectError when the strategy did not request it."""
        if not isinstance(self.fence, kind):
            raise DefectError(f"{kind.__name__} was not observed: Strategy.fence must request it")
        return self.fence
