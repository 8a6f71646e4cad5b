"""The progress of a load in chunks, which the watermark holds while the load is not finished."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Chunk:
    """A chunk that was read. ``newest`` is the xmax of its snapshot, ``seconds`` the time that its export took.
    ``merges``: the keys of its rows may be in the target already, so the chunk is merged by key and not appended."""

    number: int
    newest: int
    seconds: float
    merges: bool
    adjusted: tuple[tuple[str, str, int], ...] = ()  # column, policy, number of values that the policy changed

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Chunk:
        return cls(**{**value, "adjusted": _adjusted(value["adjusted"])})


@dataclass(frozen=True)
class Load:
    """A load in chunks. Chunk ``n`` has the blocks from ``bounds[n]`` up to ``bounds[n + 1]`` of every leaf of the
    table; the last chunk has no end.

    ``replaces``: the target had rows of its own when the load began. ``merges`` and ``newest``: as in :class:`Chunk`,
    of all chunks. ``passes`` counts the reads of what was written while the chunks were loaded.
    """

    id: str  # load id of the run that began it
    first_run: int  # run sequence of that run
    began: str  # ISO 8601, clock of the source
    bounds: tuple[int, ...]
    done: tuple[tuple[int, int], ...] = ()  # ranges of chunks, both ends included
    replaces: bool = False
    merges: bool = False
    rows: int = 0
    inserted: int = 0
    updated: int = 0
    bytes: int = 0  # of the staged files
    seconds: float = 0.0  # sum of the times that the chunks took
    newest: int = 0
    passes: int = 0
    adjusted: tuple[tuple[str, str, int], ...] = ()  # column, policy, number of values that the policy changed

    @property
    def chunks(self) -> int:
        return len(self.bounds)

    @property
    def chunks_done(self) -> int:
        return sum(last - first + 1 for first, last in self.done)

    @property
    def left(self) -> list[int]:
        """The numbers of the chunks that are not loaded, in order."""
        return [number for number in range(self.chunks) if not self.has(number)]

    def has(self, number: int) -> bool:
        return any(first <= number <= last for first, last in self.done)

    def blocks(self, number: int) -> tuple[int, int | None]:
        """Return the first block of a chunk, and the block after its last; None for the chunk without an end."""
        following = self.bounds[number + 1] if number + 1 < self.chunks else None
        return self.bounds[number], following

    def after(self, chunk: Chunk, *, rows: int, size: int, inserted: int = 0, updated: int = 0) -> Load:
        """Return the progress after a chunk was loaded: its rows, the bytes of its files, and what it changed."""
        values = {(column, policy): count for column, policy, count in self.adjusted}
        for column, policy, count in chunk.adjusted:
            values[column, policy] = values.get((column, policy), 0) + count
        return dataclasses.replace(
            self,
            done=_with(self.done, chunk.number),
            rows=self.rows + rows,
            inserted=self.inserted + inserted,
            updated=self.updated + updated,
            bytes=self.bytes + size,
            seconds=self.seconds + chunk.seconds,
            newest=max(self.newest, chunk.newest),
            merges=self.merges or chunk.merges,
            adjusted=tuple((*column, count) for column, count in values.items()),
        )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Load:
        return cls(
            **{
                **value,
                "bounds": tuple(value["bounds"]),
                "done": tuple((first, last) for first, last in value["done"]),
                "adjusted": _adjusted(value["adjusted"]),
            }
        )


def _adjusted(value: Iterable[Any]) -> tuple[tuple[str, str, int], ...]:
    return tuple((column, policy, count) for column, policy, count in value)


def _with(done: tuple[tuple[int, int], ...], number: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges with one more number.

    >>> _with(((0, 1), (4, 4)), 2), _with(((0, 1), (3, 4)), 2)
    (((0, 2), (4, 4)), ((0, 4),))
    """
    found: list[tuple[int, int]] = []
    for first, last in sorted((*done, (number, number))):
        if found and first <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(last, found[-1][1])
        else:
            found.append((first, last))
    return tuple(found)
