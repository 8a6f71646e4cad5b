"""The interface of a target's position in a stream of changes, for all kinds of streams."""

from __future__ import annotations

from typing import Any, Protocol


class Position(Protocol):
    """A position in a replication slot, in a topic, or in the files of a DMS task."""

    @property
    def method(self) -> str:
        """The method by which changes are found, in words."""

    @property
    def statement(self) -> str:
        """The request to the stream, for people and logs."""

    @property
    def bound(self) -> str:
        """The point up to which the target is complete, in words; empty when that is the moment of the run."""

    @property
    def gap(self) -> str:
        """The reason why the stream does not have all changes after the position; empty when it has."""

    def to_value(self) -> dict[str, Any]:
        """The position as the ``value`` of a watermark."""
