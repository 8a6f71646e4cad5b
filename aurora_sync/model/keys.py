"""Equality of merge keys where keys are compared as text: in the net changes of streams and of files.

An update may change the text of a key while both texts are equal to PostgreSQL. The stream then reports a former key.
The type of the key column in the warehouse decides whether the former key is another row of the target.

======================================== ==============================================================================
type of the key                          texts that are equal in the warehouse
======================================== ==============================================================================
float4, float8 (FLOAT)                   ``0`` and ``-0``. NaN is equal to itself in every engine, and PostgreSQL has
                                         no 1e400. Under the policy ``text`` they are two keys, as in any VARCHAR
int2, int4, int8, oid, bool, bytea,      none: PostgreSQL prints each value in one way. numeric(p,s) has s digits
numeric(p,s), date, time, timestamp,     after the point and no minus zero, and times are printed in UTC
timestamptz
numeric, citext, character(n), interval, none: VARCHAR compares bytes. To PostgreSQL two texts may be equal (1.0 and
case-insensitive collations, other types 1.00, 'a' and 'A'): an update from one to the other changes the key
jsonb, arrays                            none: their policy is ``text`` in a key (engine/preflight.py)
======================================== ==============================================================================
"""

from __future__ import annotations

from aurora_sync.model.column import Column

FLOATS = ("float4", "float8")
# SQL that maps every spelling of zero that a FLOAT accepts to '0', and keeps every other text.
ONE_ZERO = "CASE WHEN {0} LIKE '%0%' AND TRANSLATE({0}, '-+0.eE', '') = '' THEN '0' ELSE {0} END"


def has_two_zeros(column: Column) -> bool:
    """Return whether ``0`` and ``-0`` are one key in this column; ``key_text`` of warehouse/ddl.py agrees with it."""
    return column.base_type in FLOATS and column.policy != "text"
