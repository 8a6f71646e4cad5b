"""What the statements about one table use in a warehouse."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """The sums over the statements about one table. ``table`` is empty for the statements about no single table."""

    table: str
    statements: int  # also those that need no virtual warehouse
    credits: float | None  # None: the account's history has no credits of these statements, or not yet
    seconds: float  # of execution
    bytes_scanned: int
    bytes_written: int
    partitions_scanned: int
    partitions_total: int  # of the tables that the statements read


@dataclass(frozen=True)
class LoadStatements:
    """The statements of a first load, as the least and the most that a table has."""

    copies: int  # COPY statements, which are among the others
    statements: tuple[int, int]
    on_warehouse: tuple[int, int]  # those that need a virtual warehouse
