"""How far a target is in a stream of changes: what all streams say of that, whatever a position is made of."""

from __future__ import annotations

from typing import Any, Protocol


class Position(Protocol):
    """The position in a slot, a topic or the files of a task."""

    @property
    def method(self) -> str:
        """How changes are found, in words."""

    @property
    def statement(self) -> str:
        """What the stream is asked for."""

    @property
    def bound(self) -> str:
        """Up to what the target is complete, where that is not the moment of the run; else empty."""

    @property
    def gap(self) -> str:
        """Why the stream was found not to have everything that comes after the position; empty where it has."""

    def to_value(self) -> dict[str, Any]:
        """The position as the ``value`` of a watermark."""
