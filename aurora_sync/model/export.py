"""The interface between source and stage: the destination of an export, and its result."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aurora_sync.model.manifest import StagedFile


class Sink(Protocol):
    """A receiver of whole CSV rows, one at a time. An exception that it raises stops the export and reaches the
    caller."""

    @property
    def write(self) -> Callable[[bytes], object]: ...


class Destination(Sink, Protocol):
    """The attempt of the stage to which an exporter writes the rows of a statement.

    ``each_chunk`` is called after every megabyte or so, with the numbers of rows and bytes written until then.
    """

    each_chunk: Callable[[int, int], object]

    @property
    def uri(self) -> str:
        """Where the objects lie, ``s3://bucket/prefix/``, for an exporter that creates objects by itself. Objects that
        no manifest names are removed by `aurora-sync gc`."""

    def own_name(self, number: int) -> str:
        """Return the name of object ``number``, from 0, that the exporter creates by itself. The names differ from
        those of all other objects of the attempt, and none begins with another. ``_part2`` and so on may follow."""

    def stored(self, name: str) -> list[tuple[str, int]]:
        """List name and size of the objects of the attempt whose names begin with ``name``. Raises StageError."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete these objects of the attempt. Raises StageError."""

    def add(self, files: Sequence[StagedFile]) -> None:
        """Add objects that the exporter created by itself, and that are durable, to the files of the attempt."""

    def finish(self) -> int:
        """Accept no further rows, and return the number of rows written. They become durable in other threads; only
        the close of the attempt waits for that."""

    @property
    def longest(self) -> int:
        """An upper bound of the length of every row written, in bytes; valid after :meth:`finish`."""

    @property
    def tail(self) -> bytearray:
        """The last rows written, each of them whole; valid after :meth:`finish`."""


@dataclass(frozen=True)
class Exported:
    """The result of an export. The destination knows the files."""

    rows: int = 0  # as the server counts them
    longest: int = 0  # an upper bound of the length of a row, in bytes of CSV
    newest: bytes | None = b""  # the last rows, whole, as CSV; None: the exporter cannot return them
