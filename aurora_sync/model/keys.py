"""Which texts of a merge key are one key, where keys are compared as text: in net changes of streams and of files.

The key of a row may change its text and stay equal to what it was. The stream then names a former key, and whether
that is another row of the target is for the type of the warehouse to say.

======================================== ==============================================================================
type of the key                          texts that the warehouse holds equal
======================================== ==============================================================================
float4, float8 (FLOAT)                   ``0`` and ``-0``. NaN is equal to itself in every engine, and PostgreSQL has
                                         no 1e400. Under the policy ``text`` they are two keys, as in any VARCHAR
int2, int4, int8, oid, bool, bytea,      none: PostgreSQL prints each value in one way. numeric(p,s) has s digits
numeric(p,s), date, time, timestamp,     behind the point and no minus zero, and times are printed in UTC
timestamptz
numeric, citext, character(n), interval, none: VARCHAR compares bytes. PostgreSQL may hold two texts equal (1.0 and
collations that fold, all other types    1.00, 'a' and 'A'): an update from one to the other changes the key
jsonb, arrays                            none: their policy is ``text`` in a key (engine/preflight.py)
======================================== ==============================================================================
"""

from __future__ import annotations

from aurora_sync.model.column import Column

FLOATS = ("float4", "float8")
# SQL for one text of all that a FLOAT reads as zero, however the writer of the text spells it; any other stays.
ONE_ZERO = "CASE WHEN {0} LIKE '%0%' AND TRANSLATE({0}, '-+0.eE', '') = '' THEN '0' ELSE {0} END"


def has_two_zeros(column: Column) -> bool:
    """Whether ``0`` and ``-0`` are one key in this column, as ``key_text`` of warehouse/ddl.py says of its target."""
    return column.base_type in FLOATS and column.policy != "text"
