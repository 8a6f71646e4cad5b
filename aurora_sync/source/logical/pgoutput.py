"""The messages of PostgreSQL's ``pgoutput`` plugin, protocol version 1: whole transactions, in the order of their
commits.

Source: PostgreSQL's documentation, "Logical Replication Message Formats". The values of a row are the text that the
server's output functions print under the session's settings.

======= =============== ==========================================================================
B       Begin           one transaction follows
C       Commit          its end; two-phase transactions come here at COMMIT PREPARED
R       Relation        the columns of a table, before its first change and after each that alters them
I U D   row changes     see :func:`row`
T       Truncate        of one or several tables
Y O M   Type, Origin,   nothing that a row would need: types are known by their oid, and whatever changed
        Message         the table has changed it
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
    """Stands for a value that is stored out of line (TOAST), and that an UPDATE left as it was: it is not sent."""

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
    commit_lsn: int  # where the transaction's commit record starts
    microseconds: int  # since 2000-01-01 UTC, of the commit
    xid: int  # 32 bits

    @property
    def committed_at(self) -> datetime:
        return _EPOCH + timedelta(microseconds=self.microseconds)


class Commit(NamedTuple):
    commit_lsn: int
    end_lsn: int  # where the commit record ends


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
    """A message is cut short, or has values in binary, which nobody asked for."""
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
    """The oids of the tables, each as its four bytes."""
    _, count, _ = _TRUNCATE.unpack_from(data)
    return struct.unpack("4s" * count, data[_TRUNCATE.size :])


def row(data: bytes, at: int) -> tuple[list[Value], int]:
    """The values of a row, and where it ends. A message's first row begins at 6, behind the letter at 5:

    ======= ===========================================================================
    NEW     the row as it is now
    OLD     as it was, whole (REPLICA IDENTITY FULL)
    KEY     as it was, the columns of its identity; others are NULL. Before the new row of an update only if the key
            changed, or is stored out of line
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
            raise ValueError("its last value is cut short")
    except _UNREADABLE as error:  # not by _checked: one call more for each row would take a tenth of the time
        raise _defect(data, error) from error
    return values, at
