"""Builders of pgoutput messages, from PostgreSQL's documentation, "Logical Replication Message Formats"."""

from __future__ import annotations

from collections.abc import Sequence
from struct import pack

from aurora_sync.source.logical.pgoutput import UNCHANGED, Value

OID = 16_400
INT, TEXT, BIGINT = 23, 25, 20  # oids of types


def begin(commit_lsn: int = 1000, microseconds: int = 0, xid: int = 7) -> bytes:
    return b"B" + pack("!QqI", commit_lsn, microseconds, xid)


def commit(commit_lsn: int = 1000, end_lsn: int = 1048, microseconds: int = 0) -> bytes:
    return b"C" + pack("!BQQq", 0, commit_lsn, end_lsn, microseconds)


def relation(*columns: tuple[str, int, int, bool], oid: int = OID, identity: str = "d") -> bytes:
    """Build a Relation message. A column is its name, type, modifier, and whether it is in the replica identity."""
    message = b"R" + pack("!I", oid) + b"public\0t\0" + identity.encode() + pack("!H", len(columns))
    for name, type_oid, typmod, in_identity in columns:
        message += pack("!B", in_identity) + name.encode() + b"\0" + pack("!Ii", type_oid, typmod)
    return message


def row(*values: Value) -> bytes:
    """Build the TupleData of a row."""
    return pack("!H", len(values)) + b"".join(map(_value, values))


def _value(value: Value) -> bytes:
    if value is UNCHANGED:
        return b"u"
    return b"t" + pack("!I", len(value)) + value if isinstance(value, bytes) else b"n"


def insert(*new: Value, oid: int = OID) -> bytes:
    return b"I" + pack("!I", oid) + b"N" + row(*new)


def update(*new: Value, key: Sequence[Value] = (), old: Sequence[Value] = (), oid: int = OID) -> bytes:
    before = b"K" + row(*key) if key else b"O" + row(*old) if old else b""
    return b"U" + pack("!I", oid) + before + b"N" + row(*new)


def delete(*, key: Sequence[Value] = (), old: Sequence[Value] = (), oid: int = OID) -> bytes:
    return b"D" + pack("!I", oid) + (b"K" + row(*key) if key else b"O" + row(*old))


def truncate(*oids: int, cascade: bool = False, restart_identity: bool = False) -> bytes:
    return b"T" + pack(f"!IB{len(oids)}I", len(oids), cascade | restart_identity << 1, *oids)


def type_(oid: int, name: str) -> bytes:
    return b"Y" + pack("!I", oid) + b"public\0" + name.encode() + b"\0"


def origin(name: str) -> bytes:
    return b"O" + pack("!Q", 900) + name.encode() + b"\0"


def logical_message(prefix: str, content: bytes, *, transactional: bool) -> bytes:
    return b"M" + pack("!BQ", transactional, 950) + prefix.encode() + b"\0" + pack("!I", len(content)) + content
