"""How rows leave the source for the stage: what an exporter writes to, and what it says of the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aurora_sync.model.manifest import StagedFile


class Sink(Protocol):
    """Takes whole CSV rows, one at a time. What it raises stops the export and reaches the caller."""

    @property
    def write(self) -> Callable[[bytes], object]: ...


class Destination(Sink, Protocol):
    """Where an exporter leaves the rows of a statement: an attempt of the stage."""

    @property
    def files(self) -> tuple[StagedFile, ...]:
        """Of what was written, once it is closed."""

    @property
    def longest(self) -> int:
        """No row written is longer, in bytes."""

    @property
    def tail(self) -> bytearray:
        """The last rows written, whole, once it is closed."""

    def close(self) -> None:
        """All rows are durable when it returns."""


@dataclass(frozen=True)
class Exported:
    """What an exporter left in the stage. The objects are durable, and nobody reads them before a manifest names
    them."""

    rows: int = 0  # as the server counts them
    files: tuple[StagedFile, ...] = ()
    longest: int = 0  # no row is longer, in bytes of CSV
    newest: bytes | None = b""  # the last rows, whole, as CSV; None: the exporter cannot hand them over
