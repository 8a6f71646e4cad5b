"""Reads the messages of PostgreSQL's ``pgoutput`` plugin, protocol version 1. It sends whole transactions, in the order
of their commits.

Source: PostgreSQL's documentation, "Logical Replication Message Formats". The values of a row are the text that the
server's output functions print under the session's settings.

======= =============== ==========================================================================
B       Begin           start of a transaction
C       Commit          end of the transaction; a two-phase transaction is sent at COMMIT PREPARED
R       Relation        the columns of a table; sent before its first change, and after they were altered
I U D   row changes     see :func:`row`
T       Truncate        of one or several tables
Y O M   Type, Origin,   ignored: types are identified by their oid, and a change counts whatever its origin
        Message
======= =============== ==========================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import wraps
from struct import Struct
from typing import NamedTuple, TypeVar

from aurora_sync.errors import DefectError
from aurora_sync.source.decoding import shown

T = TypeVar("T")


class Unchanged(Enum):
    """Stands for a value that is stored out of line (TOAST) and did not change in an UPDATE: it is not sent."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED = Unchanged.UNCHANGED
Value = bytes | None | Unchanged
Values = tuple[Value, ...]

BEGIN, COMMIT, RELATION, INSERT, UPDATE, DELETE, TRUNCATE = b"BCRIUDT"
IGNORED = frozenset(b"YOM")
NEW, OLD, KEY = b"NOK"
_TEXT, _NULL, _UNCHANGED = b"tnu"

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_BEGIN = Struct("!cQqI")
_COMMIT = Struct("!cBQQq")
_ATTRIBUTE = Struct("!Ii")
_TRUNCATE = Struct("!cIB")
_COUNT = Struct("!H")
_SIZE = Struct("!xI")
_UNREADABLE = (struct.error, IndexError, ValueError)


class Begin(NamedTuple):
    commit_lsn: int  # start of the transaction's commit record
    microseconds: int  # time of the commit, since 2000-01-01 UTC
    xid: int  # 32 bits

    @property
    def committed_at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.microseconds)


class Commit(NamedTuple):
    commit_lsn: int
    end_lsn: int  # end of the commit record


@dataclass(frozen=True)
class Attribute:
    name: str
    type_oid: int
    typmod: int
    in_identity: bool


@dataclass(frozen=True)
class Relation:
    oid: int
    identity: str  # pg_class.relreplident: d default, n nothing, f full, i index
    attributes: tuple[Attribute, ...]


def _checked(read: Callable[[bytes], T]) -> Callable[[bytes], T]:
    @wraps(read)
    def reading(data: bytes) -> T:
        try:
            return read(data)
        except _UNREADABLE as error:
            raise _defect(data, error) from error

    return reading


def _defect(data: bytes, error: Exception) -> DefectError:
    """Build the error for a message that is cut short, or that has binary values, which we did not request."""
    return DefectError(f"a message of kind {chr(data[0])!r} and {len(data)} bytes cannot be read: {error}")


@_checked
def begin(data: bytes) -> Begin:
    _, lsn, microseconds, xid = _BEGIN.unpack(data)
    return Begin(lsn, microseconds, xid)


@_checked
def commit(data: bytes) -> Commit:
    _, _, commit_lsn, end_lsn, _ = _COMMIT.unpack(data)
    return Commit(commit_lsn, end_lsn)


@_checked
def relation(data: bytes) -> Relation:
    oid = int.from_bytes(data[1:5], "big")
    schema_ends = data.index(b"\0", 5)
    name_ends = data.index(b"\0", schema_ends + 1)
    identity = chr(data[name_ends + 1])
    at, attributes = name_ends + 4, []
    (count,) = _COUNT.unpack_from(data, name_ends + 2)
    for _ in range(count):
        ends = data.index(b"\0", at + 1)
        type_oid, typmod = _ATTRIBUTE.unpack_from(data, ends + 1)
        attributes.append(Attribute(shown(data[at + 1 : ends]), type_oid, typmod, bool(data[at] & 1)))
        at = ends + 1 + _ATTRIBUTE.size
    return Relation(oid, identity, tuple(attributes))


@_checked
def truncate(data: bytes) -> tuple[bytes, ...]:
    """Return the oids of the tables, each as its four bytes."""
    _, count, _ = _TRUNCATE.unpack_from(data)
    return struct.unpack("4s" * count, data[_TRUNCATE.size :])


def row(data: bytes, at: int) -> tuple[list[Value], int]:
    """Read the row that begins at offset ``at``; return its values, and the offset of its end. The first row of a
    message begins at offset 6. The letter at offset 5 is the kind of that row:

    ======= ===========================================================================
    NEW     the new row
    OLD     the complete old row (REPLICA IDENTITY FULL)
    KEY     the old row, with NULL outside of the replica identity. It precedes the new row of an UPDATE only if the key
            changed or is stored out of line
    ======= ===========================================================================
    """
    values: list[Value] = []
    append, size_at = values.append, _SIZE.unpack_from
    try:
        (count,) = _COUNT.unpack_from(data, at)
        at += 2
        for _ in range(count):
            kind = data[at]
            if kind == _TEXT:
                (size,) = size_at(data, at)
                begins = at + 5
                at = begins + size
                append(data[begins:at])
            elif kind == _NULL:
                at += 1
                append(None)
            elif kind == _UNCHANGED:
                at += 1
                append(UNCHANGED)
            else:
                raise ValueError(f"it has a value of kind {chr(kind)!r}")
        if at > len(data):
            raise ValueError("its last value is incomplete")
    except _UNREADABLE as error:  # not by _checked: another call per row would take a tenth of the time
        raise _defect(data, error) from error
    return values, at
